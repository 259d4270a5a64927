"""The choice of one candidate of each group with the least error that is not too large: the multiple-choice knapsack.

    minimise  sum of errors[g][choice[g]]    where  sum of sizes[g][choice[g]] <= budget

A price p for a byte bounds the minimum from below: whatever is chosen has an error of at least

    bound(p) = sum over groups of the least (error + p * size)  -  p * budget                       (Lagrange)

The best price is found on the convex hulls of the groups. What a candidate costs beyond the least of its group at that
price cannot be more than what is left between the bound and a choice that is known; the others are left out. Over those
that remain all choices are followed, group after group, of which each is kept that no other beats in size and error.
That is exact. Where more choices than STATES would be followed, the costliest are dropped: then the bound still holds.

Reference: Kellerer, Pferschy, Pisinger, Knapsack Problems (2004), chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

# Choices that are followed at once.
STATES = 1 << 16
# Sums of rounded errors may differ by so much of themselves.
ROUNDING = 1e-12


class Optimum(NamedTuple):
    """``choice``: the number of the chosen candidate in each group. ``bound``: no choice that fits has less error than
    this. ``is_least``: no choice that fits has less error than this one, to rounding."""

    choice: list[int]
    size: int
    error: float
    bound: float
    is_least: bool


class Hulls(NamedTuple):
    """The best price of a byte, what each candidate costs at it beyond the least of its group, and the bound."""

    price: float
    costs: list[Float64[np.ndarray, "candidates"]]
    bound: float


def least_error(
    sizes: Sequence[Int64[np.ndarray, "candidates"]], errors: Sequence[Float64[np.ndarray, "candidates"]], budget: int
) -> Optimum | None:
    """The choice with the least error, of equals the smallest that is found; None where none fits.

    Args:
        sizes: of each group's candidates, bytes.
        errors: of the same, not negative, finite.
        budget: bytes that all chosen together may have.
    """
    if sum(int(own.min()) for own in sizes) > budget:
        return None
    greedy, hulls = _greedy(sizes, errors, budget)
    best, exact = greedy, False
    while not exact:
        found, exact = _followed(sizes, errors, budget, hulls, _error(errors, best) - hulls.bound)
        if found is None or _error(errors, found) >= _error(errors, best):
            break
        best = found
    size, error = sum(int(own[c]) for own, c in zip(sizes, best, strict=True)), _error(errors, best)
    return Optimum(best, size, error, min(hulls.bound, error), exact)


def _error(errors: Sequence[np.ndarray], choice: Sequence[int]) -> float:
    return float(sum(own[c] for own, c in zip(errors, choice, strict=True)))


def _greedy(sizes: Sequence[np.ndarray], errors: Sequence[np.ndarray], budget: int) -> tuple[list[int], Hulls]:
    """A choice made by stepping up where a byte gains most, and the price at which the bytes end."""
    choice = [int(np.lexsort((e, s))[0]) for s, e in zip(sizes, errors, strict=True)]
    left = budget - sum(int(own[c]) for own, c in zip(sizes, choice, strict=True))
    steps = []
    for group, (s, e) in enumerate(zip(sizes, errors, strict=True)):
        steps += [(-gain, group, to) for gain, to in _hull(s, e, choice[group])]
    price, full = 0.0, set[int]()
    for gain, group, to in sorted(steps):
        more = int(sizes[group][to] - sizes[group][choice[group]])
        if group in full or more > left:
            price = price or -gain
            full.add(group)
            continue
        choice[group], left = to, left - more
    totals = [e + price * s for s, e in zip(sizes, errors, strict=True)]
    least = [float(total.min()) for total in totals]
    bound = sum(least) - price * budget
    return choice, Hulls(price, [total - low for total, low in zip(totals, least, strict=True)], bound)


def _hull(sizes: np.ndarray, errors: np.ndarray, at: int) -> list[tuple[float, int]]:
    """Steps along the lower convex hull, from the smallest candidate: what a byte gains, and the candidate gone to."""
    steps = []
    while (larger := np.flatnonzero((sizes > sizes[at]) & (errors < errors[at]))).size:
        gains = (errors[at] - errors[larger]) / (sizes[larger] - sizes[at])
        # Of equal gains the farthest, so that gains fall from step to step.
        best = larger[np.lexsort((-sizes[larger], -gains))[0]]
        steps.append((float((errors[at] - errors[best]) / (sizes[best] - sizes[at])), int(best)))
        at = int(best)
    return steps


def _followed(
    sizes: Sequence[np.ndarray], errors: Sequence[np.ndarray], budget: int, hulls: Hulls, gap: float
) -> tuple[list[int] | None, bool]:
    """The best choice whose costs are within the gap, None where none is; and whether none was dropped."""
    room = gap + ROUNDING * (abs(hulls.bound) + hulls.price * budget)
    kept = [np.flatnonzero(costs <= room) for costs in hulls.costs]
    order = sorted(range(len(sizes)), key=lambda group: -int(sizes[group].max()))
    least = np.cumsum([0] + [int(sizes[g][kept[g]].min()) for g in reversed(order)])[::-1]
    most = np.cumsum([0] + [int(sizes[g][kept[g]].max()) for g in reversed(order)])[::-1]
    size, error, cost = np.zeros(1, np.int64), np.zeros(1), np.zeros(1)
    trail: list[tuple[np.ndarray, np.ndarray]] = []
    exact = True
    for number, group in enumerate(order, 1):
        own = kept[group]
        grown = [(total[:, None] + values[group][own]).ravel() for total, values in
                 ((size, sizes), (error, errors), (cost, hulls.costs))]  # fmt: skip
        size, error, cost = grown
        # The bytes that stay unused cost their price.
        unused = np.maximum(budget - size - most[number], 0)
        fits = np.flatnonzero((size + least[number] <= budget) & (cost + hulls.price * unused <= room))
        fits = fits[_unbeaten(size[fits], error[fits])]
        if len(fits) > STATES:
            exact = False
            fits = np.sort(fits[np.argsort(cost[fits], kind="stable")[:STATES]])
        size, error, cost = size[fits], error[fits], cost[fits]
        trail.append((fits // len(own), own[fits % len(own)]))
    if not size.size:
        return None, exact
    at, choice = int(np.lexsort((size, error))[0]), [0] * len(sizes)
    for group, (before, chosen) in zip(reversed(order), reversed(trail), strict=True):
        choice[group], at = int(chosen[at]), int(before[at])
    return choice, exact


def _unbeaten(size: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Those of which no other has both no more bytes and no more error, by size; of equals the first."""
    order = np.lexsort((error, size))
    least = np.minimum.accumulate(error[order])
    first = np.ones(len(order), bool)
    first[1:] = least[1:] < least[:-1]
    return order[first]
