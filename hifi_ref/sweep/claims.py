"""What Hyper-Quantization's README says of its schemes, judged on the weights of a sweep, each in a sentence.

The loss is `original_as_coded`, which its charts have, and which favours no block size. A claim is about some
configurations; where one of them was not measured, nothing is said.
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
    """Configurations by name, and their losses as the original computes them."""

    configurations: Mapping[str, Configuration]
    losses: Mapping[str, float]

    def ratio(self, a: str, b: str) -> float:
        """The loss of a by that of b."""
        return self.losses[a] / self.losses[b]


class Trade(NamedTuple):
    """One configuration in place of another: what it costs in bits, or the bits of both, and the ratio of losses."""

    name: str
    bits: float
    ratio: float


def half_blocks(m: Measurements) -> list[Trade]:
    """Half the block with fp8 scales against all of it with fp16: as many bits. Raises KeyError."""
    kinds = [(f"{bits}{kind}", size) for bits in BITS for kind in "sa" for size in SIZES[1:]]
    return [
        Trade(f"{codes}/{size}", m.configurations[whole].bits, m.ratio(f"hyper {codes}/{size // 2} fp8", whole))
        for codes, size in kinds
        for whole in [f"hyper {codes}/{size} fp16"]
    ]


def super_blocks(m: Measurements) -> list[Trade]:
    """8 x 8 with fp8 against 16 x 16 with fp16; bits as a ratio. Raises KeyError."""
    codes = [f"{bits}{kind}" for bits in BITS for kind in "sa"]
    pairs = [
        (f"{inner} {outer}", f"hyper {inner}/8 {outer}/8 fp8", f"hyper {inner}/16 {outer}/16 fp16")
        for inner in codes
        for outer in codes
    ]
    return [
        Trade(name, m.configurations[small].bits / m.configurations[large].bits, m.ratio(small, large))
        for name, small, large in pairs
    ]


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
    trades = half_blocks(m)
    best = min(trades, key=lambda trade: trade.ratio)
    better = sum(trade.ratio < 1 for trade in trades)
    median = statistics.median(trade.ratio for trade in trades)
    sentence = (
        f"at its best, {best.name}, half the block with fp8 loses {_percent(best.ratio)}; {better} of {len(trades)}"
        f" kinds of blocks gain, and the median loses {_percent(median)}"
    )
    return best.ratio <= 0.76, sentence


def _q4_0(m: Measurements) -> tuple[bool, str]:
    ratio = m.ratio("hyper 4s/16 fp8", "hyper 4s/32 fp16")
    return ratio <= 0.91, f"4s/16 fp8 loses {_percent(ratio)} than 4s/32 fp16, which is Q4_0, at the same 4.5 bits"


def _super_blocks(m: Measurements) -> tuple[bool, str]:
    trades = super_blocks(m)
    slight = min((t for t in trades if t.bits <= SLIGHTLY), key=lambda trade: trade.ratio, default=None)
    fifth = min((t for t in trades if t.ratio <= 0.81), key=lambda trade: trade.bits, default=None)
    found = []
    if slight is not None:
        found.append(
            f"the best of those with up to {SLIGHTLY - 1:.1%} more bits, {slight.name}, loses {_percent(slight.ratio)}"
            f" for {slight.bits - 1:.1%} more bits"
        )
    if fifth is not None:
        found.append(
            f"the first that loses {_percent(fifth.ratio)}, {fifth.name}, needs {fifth.bits - 1:.1%} more bits"
        )
    return slight is not None and slight.ratio <= 0.81, "; ".join(found) or "none has so few bits, or so little loss"


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
