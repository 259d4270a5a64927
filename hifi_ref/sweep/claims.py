"""What Hyper-Quantization's README says of its schemes, judged on the weights of a sweep, each in a sentence.

The loss is `original`, its own as it is meant. A claim is about some configurations; where one of them was not
measured, nothing is said.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hifi_ref.sweep.configurations import Configuration
from hifi_ref.sweep.hyper import BITS, SIZES

LEGACY = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
# What "about two per cent more bits" may be at most.
SLIGHTLY = 1.025
# Losses that differ less count as equal.
EQUAL = 0.999


class Verdict(NamedTuple):
    """``claim``: in our words; ``holds``: whether it does on these weights, None where that was not measured."""

    claim: str
    holds: bool | None
    sentence: str


class Measurements(NamedTuple):
    """Configurations by name, and their losses as the original means them."""

    configurations: Mapping[str, Configuration]
    losses: Mapping[str, float]

    def ratio(self, a: str, b: str) -> float:
        """The loss of a by that of b."""
        return self.losses[a] / self.losses[b]


def verdicts(measurements: Measurements) -> list[Verdict]:
    """On each claim."""
    claims: dict[str, Callable[[Measurements], tuple[bool, str]]] = {
        "fp8 scales with half the block lose up to 25% less than fp16 scales": _half_blocks,
        "Q4_0 loses nearly 10% less with blocks of 16 and fp8 scales": _q4_0,
        "super-blocks of 8 x 8 with fp8 lose 20% less than 16 x 16 with fp16, for 2% more bits": _super_blocks,
        "some configurations lose less than the legacy formats at their bits": _beat(LEGACY),
        "K-quants are crucial for comparing": _beaten(K_QUANTS),
    }
    found = []
    for claim, judge in claims.items():
        try:
            found.append(Verdict(claim, *judge(measurements)))
        except (KeyError, ValueError):
            found.append(Verdict(claim, None, "not judged: the sweep left out what the claim is about"))
    return found


def _percent(ratio: float) -> str:
    return f"{abs(1 - ratio):.1%} {'less' if ratio < 1 else 'more'}"


def _half_blocks(m: Measurements) -> tuple[bool, str]:
    kinds = [(f"{bits}{kind}", size) for bits in BITS for kind in "sa" for size in SIZES[1:]]
    ratios = {
        f"{codes}/{size}": m.ratio(f"hyper {codes}/{size // 2} fp8", f"hyper {codes}/{size} fp16")
        for codes, size in kinds
    }
    best = min(ratios, key=lambda name: ratios[name])
    better = sum(ratio < 1 for ratio in ratios.values())
    sentence = (
        f"at its best, {best}, half the block with fp8 loses {_percent(ratios[best])}; {better} of {len(ratios)} kinds"
        f" of blocks gain, and the median loses {_percent(statistics.median(ratios.values()))}"
    )
    return ratios[best] <= 0.76, sentence


def _q4_0(m: Measurements) -> tuple[bool, str]:
    ratio = m.ratio("hyper 4s/16 fp8", "hyper 4s/32 fp16")
    return ratio <= 0.91, f"4s/16 fp8 loses {_percent(ratio)} than 4s/32 fp16, which is Q4_0, at the same 4.5 bits"


def _super_blocks(m: Measurements) -> tuple[bool, str]:
    found = []
    for codes in (f"{bits}{kind}" for bits in BITS for kind in "sa"):
        for outer in (f"{bits}{kind}" for bits in BITS for kind in "sa"):
            small, large = f"hyper {codes}/8 {outer}/8 fp8", f"hyper {codes}/16 {outer}/16 fp16"
            bits = m.configurations[small].bits / m.configurations[large].bits
            found.append((m.ratio(small, large), bits, f"{codes} {outer}"))
    slight = min((each for each in found if each[1] <= SLIGHTLY), default=None)
    least = min(found)
    if slight is None:
        fewest = min(bits for _, bits, _ in found)
        return (
            False,
            f"none needs less than {fewest - 1:.1%} more bits; the best, {least[2]}, loses {_percent(least[0])}",
        )
    sentence = (
        f"the best of those with up to {SLIGHTLY - 1:.1%} more bits, {slight[2]}, loses {_percent(slight[0])} for"
        f" {slight[1] - 1:.1%} more bits; the best of all, {least[2]}, {_percent(least[0])} for {least[1] - 1:.1%}"
    )
    return slight[0] <= 0.81, sentence


def _rivals(m: Measurements, names: tuple[str, ...]) -> dict[str, tuple[float, str]]:
    """For each format the loss, by the format's own, and the name of the best configuration with no more bits."""
    hyper = [name for name in m.losses if name.startswith("hyper ")]
    found = {}
    for name in names:
        able = [h for h in hyper if m.configurations[h].bits <= m.configurations[name].bits]
        best = min(able, key=lambda h: m.losses[h])
        found[name] = m.ratio(best, name), best.removeprefix("hyper ")
    return found


def _listed(rivals: Mapping[str, tuple[float, str]]) -> str:
    return "; ".join(f"{name}: {best} loses {_percent(ratio)}" for name, (ratio, best) in rivals.items())


def _beat(names: tuple[str, ...]) -> Callable[[Measurements], tuple[bool, str]]:
    def judge(m: Measurements) -> tuple[bool, str]:
        rivals = _rivals(m, names)
        return any(ratio < EQUAL for ratio, _ in rivals.values()), _listed(rivals)

    return judge


def _beaten(names: tuple[str, ...]) -> Callable[[Measurements], tuple[bool, str]]:
    def judge(m: Measurements) -> tuple[bool, str]:
        rivals = _rivals(m, names)
        return any(ratio > 1 / EQUAL for ratio, _ in rivals.values()), _listed(rivals)

    return judge
