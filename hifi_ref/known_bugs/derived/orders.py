"""Orders in which a run of numbers may be read wrongly: for each number the index of the one that is taken for it."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np


class Order(NamedTuple):
    says: str  # to be followed by nothing: "with neighbours swapped"
    taken: np.ndarray  # index of what is taken; beyond the run it is what lies behind it


@functools.cache
def orders(n: int, beyond: bool = False) -> dict[str, Order]:
    """Those of a run of n, each another. beyond: also such as run on behind its end."""
    at = np.arange(n)
    found = {
        "reversed": Order("from last to first", at[::-1]),
        "pairs": Order("with neighbours swapped", at ^ 1),
        "halves": Order("with its halves swapped", np.roll(at, n // 2)),
        "first half": Order("with its first half for both halves", at % (n // 2)),
        "first": Order("with the first number for all", at * 0),
        "next": Order("with the next number for each", np.roll(at, -1)),
        "before": Order("with the number before for each", np.roll(at, 1)),
        "seconds": Order("with the second of each two for both", at | 1),
    }
    for r in _runs(n):
        found[f"firsts of {r}"] = Order(f"with the first of each {r} for all {r}", at - at % r)
        found[f"halved in {r}"] = Order(f"with half the index in each {r}", at - at % r + at % r // 2)
        found[f"reversed in {r}"] = Order(f"from last to first in each {r}", at ^ (r - 1))
        found[f"short {r}"] = Order(f"going on by {r // 2} instead of {r}", at // r * (r // 2) + at % r)
        found[f"staying {r}"] = Order(f"with the first {r} again and again", at % r)
        found[f"apart {n // r}"] = Order(f"with neighbours {n // r} apart", at % r * (n // r) + at // r)
        if beyond:
            found[f"long {r}"] = Order(f"going on by {2 * r} instead of {r}", at // r * 2 * r + at % r)
    different, known = {}, {at.tobytes()}
    for name, order in found.items():
        if order.taken.tobytes() not in known and (beyond or order.taken.max() < n):
            different[name] = order
            known.add(order.taken.tobytes())
    return different


def _runs(n: int) -> list[int]:
    """Lengths of runs: powers of two that divide n, of which there are at most sixteen."""
    return [r for r in (2, 4, 8, 16, 32, 64, 128) if r <= n and n % r == 0 and n // r <= 16]
