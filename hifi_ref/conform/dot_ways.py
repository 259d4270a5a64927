"""Ways in which the kernel of a dot product goes wrong: each says what it adds to the right result, place by place.

Of each family all members are made: sums carried on at every level, kept in few bits at every level, activations from
every other place. dot_kernel.py asks which gives all answers, in all positions of a block or in a set of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.conform.dot_numbers import Numbers
from hifi_ref.conform.dot_shares import of_mins
from hifi_ref.conform.dot_sums import carried_on, kept_narrow, of_others
from hifi_ref.conform.dot_way import Way, sizes, spread, sums_of
from hifi_ref.conform.places import places
from hifi_ref.known_bugs.derived.orders import orders


def ways(k: Numbers, partner: int) -> Iterator[Way]:
    """Those of a format with numbers like these, in the order in which they are tried."""
    yield from _counted(k)
    yield from _other_blocks(k, partner)
    yield from _other_places(k)
    yield from _values(k)
    yield from carried_on(k)
    yield from of_others(k)
    yield from of_mins(k)
    yield from kept_narrow(k)


# WHAT COUNTS OTHERWISE


def _shares(k: Numbers) -> np.ndarray:
    """[rows, blocks, positions]: what each position adds, its part of the min included."""
    share = k.share()
    per = k.codes.shape[-1] // share.shape[-1]
    return k.factors * k.products + np.repeat(share / per, per, axis=-1)


def _counted(k: Numbers) -> Iterator[Way]:
    yield Way("constant factor", "", _shares, "an answer")
    if k.mins is not None:
        yield Way("constant factor", "", lambda k: k.share(), "the share of the mins, each times a sum of activations")
        yield Way("constant factor", "", lambda k: k.factors * k.products, "the share of the codes")
    choices: tuple[tuple[str, Callable[[np.ndarray, int], np.ndarray]], ...] = (
        ("the last block of a row", lambda b, n: b == n - 1),
        ("the first block of a row", lambda b, n: b == 0),
        ("all blocks of a row but the last", lambda b, n: b < n - 1),
        ("all blocks of a row but the first", lambda b, n: b > 0),
        ("each second block of a row", lambda b, n: b % 2 == 1),
        ("the first of each two blocks of a row", lambda b, n: b % 2 == 0),
        ("the second half of the blocks of a row", lambda b, n: b >= n // 2),
    )
    for what, of in choices:
        for times, says in ((0, "Leaves out"), (2, "Adds twice")):
            yield Way("block", f"{says} {what}", functools.partial(_blocks, of=of, times=times))


def _blocks(k: Numbers, of: Callable[[np.ndarray, int], np.ndarray], times: int) -> np.ndarray:
    n = len(k.q)
    return (times - 1) * _shares(k) * of(np.arange(n), n)[:, None]


# ACTIVATIONS FROM ELSEWHERE


def _other_places(k: Numbers) -> Iterator[Way]:
    size, _ = sizes(k)
    several = (k.da != k.da[:, :1]).any() or size != k.da.shape[1] and size in (64, 128)
    for says, taken in places(size).items():
        yield Way("order of activations", says, functools.partial(_taken, at=taken), taken=taken)
        if several:
            yield Way(
                "order of activations", f"{says}, each with its scale", functools.partial(_taken, at=taken, scale=True),
                taken=taken,
            )  # fmt: skip


def _taken(k: Numbers, at: np.ndarray, scale: bool = False) -> np.ndarray:
    if not scale:
        return k.factors * k.codes * (k.q[:, at] - k.q)
    da = spread(k.da, len(at))
    weights = k.codes * spread(k.scales, len(at)) * k.d[..., None]
    return weights * ((k.q * da)[:, at] - k.q * da)


def _other_blocks(k: Numbers, partner: int) -> Iterator[Way]:
    """partner: the positions of a block of activations."""
    each = k.codes.shape[-1] // partner
    for says, of in block_maps(each).items():
        for what in ("codes", "scale", "codes and scale"):
            yield Way(
                "stride", f"Takes the {what} of activations {says}",
                functools.partial(_of_blocks, of=of, what=what, partner=partner),
            )  # fmt: skip
    others: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
        ("of the first block for all", lambda b: b * 0),
        ("of the block before", lambda b: b - 1),
        ("of the next block", lambda b: b + 1),
        ("of the first of two blocks for both", lambda b: b & ~1),
    )
    for says, of in others:
        yield Way("stride", f"Takes the scale of the weights {says}", functools.partial(_scale_of_block, of=of))


def block_maps(each: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Says -> block of activations -> that which is taken for it; beyond the row it is not known."""
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "from the row's first block for all": lambda j: j * 0,
        "from the block before": lambda j: j - 1,
        "from the next block": lambda j: j + 1,
        "from the other of each two blocks": lambda j: j ^ 1,
        "from the first of each two blocks": lambda j: j & ~1,
        "from the second of each two blocks": lambda j: j | 1,
        "with half the number of the block": lambda j: j // 2,
        "with twice the number of the block": lambda j: 2 * j,
    }
    if each == 1:
        return found
    found |= {
        f"from the first of each {each} blocks for all {each}": lambda j: j // each * each,
        f"from the last of each {each} blocks for all {each}": lambda j: j // each * each + each - 1,
        f"from the row's first {each} blocks for all": lambda j: j % each,
        f"from last to first in each {each} blocks": lambda j: j // each * each + each - 1 - j % each,
        "from the block with the number of the weights' block": lambda j: j // each,
    }
    for step in range(1, 2 * each + 1):
        if step != each:
            says = f"from blocks that are passed {step} a block of weights, not {each}"
            found[says] = functools.partial(_passed, each=each, step=step, twice=1)
            if each == 4:
                found[f"{says}, two of them twice"] = functools.partial(_passed, each=each, step=step, twice=2)
    return found


def _passed(j: np.ndarray, each: int, step: int, twice: int) -> np.ndarray:
    return j // each * step + j % each // twice


def _of_blocks(k: Numbers, of: Callable[[np.ndarray], np.ndarray], what: str, partner: int) -> np.ndarray | None:
    size = k.codes.shape[-1]
    q = k.q.reshape(-1, partner)
    da = spread(k.da, size).reshape(-1, partner)
    source = of(np.arange(len(q)))
    if source.min() < 0 or source.max() >= len(q):
        return None
    other_q = (q[source] if "codes" in what else q).reshape(k.q.shape)
    other_da = (da[source] if "scale" in what else da).reshape(k.q.shape)
    weights = k.codes * spread(k.scales, size) * k.d[..., None]
    return weights * (other_q * other_da - k.q * da.reshape(k.q.shape))


def _scale_of_block(k: Numbers, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    source = of(np.arange(len(k.q)))
    if source.min() < 0 or source.max() >= len(k.q):
        return None
    more = (k.d[:, source] - k.d)[..., None] * spread(k.da * k.scales, k.codes.shape[-1])
    return more * k.products


# OTHER VALUES


def _values(k: Numbers) -> Iterator[Way]:
    changes: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
        ("Takes the activations' codes for unsigned ones", lambda q: q % 256),
        ("Takes activations without their signs", abs),
        ("Adds 128 to the activations", lambda q: q + 128),
        ("Loses the lowest bit of the activations", lambda q: q // 2 * 2),
        ("Keeps the low nibble of the activations", lambda q: q % 16),
        ("Halves the activations, rounded down", lambda q: q // 2),
        ("Squares the activations", lambda q: q * q),
        ("Takes the activations' codes for 1", lambda q: q * 0 + 1),
    )
    for says, of in changes:
        yield Way("offset of codes", says, functools.partial(_other_q, of=of))
    yield Way("offset of codes", "Takes the weights' codes for unsigned bytes", _unsigned_codes)
    if k.scales.shape[-1] > 1 and (k.scales != 1).any():
        subs: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
            ("Leaves out the scale of the sub-block", lambda s: s * 0 + 1),
            ("Multiplies twice by the scale of the sub-block", lambda s: s * s),
            ("Takes the scales of sub-blocks for unsigned bytes", lambda s: s % 256),
            ("Takes the scales of sub-blocks without their signs", abs),
        )
        for says, of in subs:
            yield Way("factor", says, functools.partial(_other_scales, of=of))
        for order in orders(k.scales.shape[-1]).values():
            says = f"Multiplies by the scales of sub-blocks {order.says}"
            yield Way("order of scales", says, functools.partial(_scales_taken, at=order.taken))
    for what in ("weights", "activations"):
        for says, power in (("Multiplies twice by", 1), ("Leaves out", -1)):
            added = functools.partial(_scaled_again, what=what, power=power)
            yield Way("factor", f"{says} the scale of the {what}", added)


def _other_q(k: Numbers, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return k.factors * k.codes * (of(k.q) - k.q)


def _unsigned_codes(k: Numbers) -> np.ndarray:
    return k.factors * (k.codes % 256 - k.codes) * k.q


def _other_scales(k: Numbers, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return _with_scales(k, of(k.scales))


def _scales_taken(k: Numbers, at: np.ndarray) -> np.ndarray:
    return _with_scales(k, k.scales[..., at])


def _scaled_again(k: Numbers, what: str, power: int) -> np.ndarray:
    scale = k.d[..., None] if what == "weights" else k.da
    return _with_scales(k, k.scales * np.where(scale == 0, 1, scale) ** power)


def _with_scales(k: Numbers, scales: np.ndarray) -> np.ndarray:
    return k.outer * (scales - k.scales) * sums_of(k.products, sizes(k)[1])
