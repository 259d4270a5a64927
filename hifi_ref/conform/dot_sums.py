"""Sums of a dot product that go wrong: not begun anew, of other sub-blocks, and in too few bits, at every level."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from hifi_ref.conform.dot_numbers import Numbers
from hifi_ref.conform.dot_way import Way, powers, sizes, spread, sums_of
from hifi_ref.known_bugs.derived.orders import orders

# What is added to the rows of a grid, and taken from them
SHIFT = 0.125


def _levels(k: Numbers, size: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Sums of runs of so many positions, as a kernel has them, and what they are multiplied by later: without scales,
    with those of sub-blocks, with all."""
    _, sub = sizes(k)
    count = k.codes.shape[-1] // size
    if size <= sub:
        yield "", sums_of(k.products, size), spread(k.outer * k.scales, count)
    if size >= sub and sub < k.codes.shape[-1]:
        sums = sums_of(k.scales * sums_of(k.products, sub), size // sub)
        if (k.outer == k.outer[..., :1]).all():
            yield " with their scales", sums, k.outer[..., :: size // sub]
        whole = sums_of(k.outer * k.scales * sums_of(k.products, sub), size // sub)
        yield " with all scales", whole, np.ones_like(whole)
    elif size == sub:
        whole = k.outer * sums_of(k.products, sub)
        yield " with all scales", whole, np.ones_like(whole)


def _level(k: Numbers, size: int, which: str) -> tuple[np.ndarray, np.ndarray] | None:
    return next(((sums, later) for name, sums, later in _levels(k, size) if name == which), None)


def carried_on(k: Numbers) -> Iterator[Way]:
    size, _ = sizes(k)
    shifted = k.mins is not None and (k.dmin == SHIFT * k.d).all()
    # Of two that say the same the longer run, with fewer accumulators
    for run in reversed(powers(2, size)):
        for which, *_ in _levels(k, run):
            for parent in [*powers(2 * run, size), 0]:
                within = f"within each {parent} weights" if parent else "through all blocks of a row"
                for turns in (1, 2, 4) if not parent or parent > 2 * run else (1,):
                    next_one = (
                        "the next" if turns == 1 else f"those {turns} further on, one of {turns} accumulators each"
                    )
                    sums = f"the sums of {run} products{which}"
                    for and_shifts in (False, True) if shifted else (False,):
                        says = (
                            f"{sums}{' and of the shifts' if and_shifts else ''} are carried on to {next_one}, {within}"
                        )
                        added = functools.partial(
                            _running, run=run, which=which, parent=parent, turns=turns, and_shifts=and_shifts
                        )
                        yield Way("carried over", f"Does not begin anew: {says}", added)


def _running(
    k: Numbers, run: int, which: str, parent: int, turns: int = 1, and_shifts: bool = False
) -> np.ndarray | None:
    if and_shifts:
        k = _with_shifts(k)
    found = _level(k, run, which)
    if found is None:
        return None
    sums, later = found
    count = (parent // run or sums.shape[1] * sums.shape[2]) // turns
    if not count or (sums.shape[1] * sums.shape[2]) % turns:
        return None
    rows = sums.reshape(len(sums), -1, count, turns)
    return later * (np.cumsum(rows, axis=2).reshape(sums.shape) - sums)


def _with_shifts(k: Numbers) -> Numbers:
    """The shift of each group added to the codes of its rows, of formats that have one."""
    assert k.mins is not None
    per = k.codes.shape[-1] // k.mins.shape[-1]
    scales = spread(k.scales, k.codes.shape[-1])
    return replace(k, codes=k.codes + SHIFT * np.repeat(k.mins, per, axis=-1) / scales, mins=None)


def carried(sums: np.ndarray, count: int) -> np.ndarray:
    """Running sums within each so many; 0: through all blocks."""
    rows, blocks, parts = sums.shape
    return np.cumsum(sums.reshape(rows, -1, count or blocks * parts), axis=-1).reshape(sums.shape)


def of_others(k: Numbers) -> Iterator[Way]:
    """Two accumulators of which one serves twice, and such."""
    size, _ = sizes(k)
    for run in powers(4, size // 2):
        for which, *_ in _levels(k, run):
            for name in ("pairs", "firsts of 2", "seconds", "first", "next", "before", "halves", "first half"):
                order = orders(size // run).get(name)
                if order is not None:
                    says = f"Takes the sums of {run} products{which} {order.says}"
                    yield Way(
                        "order of sums", says, functools.partial(_sums_taken, run=run, which=which, at=order.taken)
                    )


def _sums_taken(k: Numbers, run: int, which: str, at: np.ndarray) -> np.ndarray | None:
    found = _level(k, run, which)
    return None if found is None else found[1] * (found[0][..., at] - found[0])


# NUMBERS TOO NARROW

NARROW: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "8 bits": lambda x: (x + 128) % 256 - 128,
    "8 bits without a sign": lambda x: x % 256,
    "8 bits, saturated": lambda x: np.clip(x, -128, 127),
    "16 bits": lambda x: (x + 2**15) % 2**16 - 2**15,
    "16 bits without a sign": lambda x: x % 2**16,
    "16 bits, saturated": lambda x: np.clip(x, -(2**15), 2**15 - 1),
}


def kept_narrow(k: Numbers) -> Iterator[Way]:
    size, sub = sizes(k)
    whole = (k.scales == np.rint(k.scales)).all()
    scaled = whole and k.scales.shape[-1] > 1 and (k.scales != 1).any()
    for says, of in NARROW.items():
        for run in powers(1, size):
            what = f"sums of {run} products" if run > 1 else "products"
            if run <= sub:
                yield Way("integer overflow", f"Keeps {what} in {says}", functools.partial(_kept, run=run, of=of))
            if scaled:
                yield Way("integer overflow", f"Keeps {what} with their scales in {says}",
                          functools.partial(_kept, run=run, of=of, scaled=True))  # fmt: skip
        if scaled:
            yield Way(
                "integer overflow", f"Keeps codes with their scales in {says}", functools.partial(_kept_codes, of=of)
            )
        for lanes in (2, 4, 8, 16, 32):
            for span in powers(2 * lanes, size):
                what = f"each {lanes}{'nd' if lanes in (2, 32) else 'th'} product of {span}"
                if span <= sub:
                    yield Way("integer overflow", f"Keeps sums of {what} in {says}",
                              functools.partial(_kept, run=span, of=of, lanes=lanes))  # fmt: skip
                if scaled:
                    yield Way("integer overflow", f"Keeps sums of {what}, with their scales, in {says}",
                              functools.partial(_kept, run=span, of=of, lanes=lanes, scaled=True))  # fmt: skip
    for run in powers(4, size):
        yield Way("integer overflow", f"Adds {run} products in 16 bits that saturate at each addition",
                  functools.partial(_saturating, run=run))  # fmt: skip


def _kept(
    k: Numbers, run: int, of: Callable[[np.ndarray], np.ndarray], lanes: int = 1, scaled: bool = False
) -> np.ndarray | None:
    size, sub = sizes(k)
    values = k.products * spread(k.scales, size) if scaled else k.products
    if not scaled and run > sub:
        return None
    sums = values.reshape(*values.shape[:-1], size // run, run // lanes, lanes).sum(axis=-2, keepdims=True)
    more = np.broadcast_to((of(sums) - sums) / (run // lanes), (*sums.shape[:-2], run // lanes, lanes))
    return more.reshape(values.shape) * (spread(k.outer, size) if scaled else k.factors)


def _kept_codes(k: Numbers, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    codes = k.codes * spread(k.scales, k.codes.shape[-1])
    return (of(codes) - codes) * k.q * spread(k.outer, k.codes.shape[-1])


def _saturating(k: Numbers, run: int) -> np.ndarray | None:
    size, sub = sizes(k)
    if run > sub:
        return None
    parts = k.products.reshape(*k.products.shape[:-1], size // run, run)
    total = np.zeros(parts.shape[:-1])
    for i in range(run):
        total = np.clip(total + parts[..., i], -(2**15), 2**15 - 1)
    return (total - parts.sum(axis=-1)) * spread(k.outer * k.scales, size // run)
