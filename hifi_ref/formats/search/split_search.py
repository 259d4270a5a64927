"""The search of IQ1_S and IQ1_M: sorted weights split in three at the two best places.

With only three steps, -1, 0 and 1, each shifted by an eighth, the best steps for a given scale are a split of the
weights in ascending order: the lowest take the first step, the next the second, the others the third. All splits are
tried, with both shifts; sums over any of the three parts are differences of running sums. A split that scores as high
as an earlier one does not replace it. A negative scale is turned, and steps and shifts with it. Equal weights keep
their order, as a stable sort leaves them.

Then every 8 codes move to the nearest row of the grid, errors weighted by w, and the scale is fitted to the rows.

Source: quantize_row_iq1_s_impl, quantize_row_iq1_m_impl, iq1_find_best_neighbour2 (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, is_faint, mul, pair, running_sums, unpair, wall
from hifi_ref.formats.search import grid_lists, grid_search
from hifi_ref.formats.search.nearest_row import Target, nearest_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32, Int32


UP = np.array([-0.875, 0.125, 1.125], np.float32)  # the steps with the shift up
DOWN = np.array([-1.125, -0.125, 0.875], np.float32)


class Split(NamedTuple):
    """For each sub-block: the scale, the rows of its groups, whether a group's shift is down, what found no split."""

    scale: Float32[Array, "subs"]
    index: Int32[Array, "groups subs"]
    down: Bool[Array, "groups subs"]
    nothing: Bool[Array, "subs"]
    clear: Bool[Array, "subs"]


# Splits are numbered: first place, second place, shifts
_PLACES = 64
# So many second places are tried at a time
_STRIDE = 8
# The JAX lane looks at so many rows of a list for all groups alike
_FEW = 16
# and at so many super-blocks at a time
PIECE = 128


def best_split(x: Float32[Array, "n subs"], w: Float32[Array, "n subs"], below: float, halves: bool) -> Split:
    """The best split of each sub-block; ``halves``: each half of it has its own shift, else all groups share one.

    Sub-blocks whose largest magnitude is under ``below`` are skipped.
    """
    lib = exact.library(x)
    n, subs = x.shape
    rank = _ranks(x)
    wx = wall(mul(w, x))

    # RUNNING SUMS, of a half each where halves differ
    halved = [slice(0, n // 2), slice(n // 2, n)] if halves else [slice(0, n)]
    sums = [[_running_sums(a) for a in _in_order(rank, wx, w, part)] for part in halved]
    table, score = (_halves_table(sums), _score_halves) if halves else (_whole_table(*sums[0]), _score_whole)
    kinds = 4 if halves else 2

    # ALL SPLITS
    starts = np.array([(i, j) for i in range(n + 1) for j in range(i, n + 1, _STRIDE)], np.int32)
    firsts, seconds = lib.asarray(starts[:, 0]), lib.asarray(starts[:, 1])
    faint = _faint_gain(sums)

    def attempt(k, best):
        best_score, best_number = unpair(best)
        i, j = firsts[k], seconds[k]
        at_first = table[i]
        for more in range(_STRIDE):
            number = (i * _PLACES + j + more) * kinds
            for kind, (qx, q2) in enumerate(score(at_first, table[j + more])):
                gain, bar = mul(qx, qx), mul(best_score, q2)
                better = (q2 > 0) & (gain > bar)
                new_score = mul(div(qx, lib.where(better, q2, np.float32(1))), qx)
                best_score = lib.where(better, new_score, best_score)
                best_score = exact.poison(best_score, (gain < faint) & (qx != 0))
                best_number = lib.where(better, f32(number + kind), best_number)
        return pair(best_score, best_number)

    lowest, none = (lib.full(subs, v, np.float32) for v in (np.finfo(np.float32).min, -1))
    best_score, number = unpair(wall(fold(len(starts), attempt, pair(lowest, none))))
    none_found = number < 0
    number = lib.maximum(exact.i32(number), 0)
    kind, places = number % kinds, number // kinds
    first, second = places // _PLACES, places % _PLACES

    # SCALE of the best, and its codes, turned where the scale is negative
    at_first, at_second = (
        lib.take_along_axis(table, at[None, None], axis=0)[0] for at in (first, second)
    )  # fmt: skip
    qx, q2 = lib.zeros(subs, np.float32), lib.ones(subs, np.float32)
    for this, (this_qx, this_q2) in enumerate(score(at_first, at_second)):
        qx, q2 = lib.where(kind == this, this_qx, qx), lib.where(kind == this, this_q2, q2)
    largest = lib.max(abs(x), axis=0)
    scale = lib.where(none_found, largest, div(*wall(qx, lib.where(none_found, np.float32(1), q2))))
    nothing = (largest < np.float32(below)) | none_found
    digits = exact.i32(rank >= first) + exact.i32(rank >= second)
    turned = scale < 0
    digits = wall(lib.where(turned, 2 - digits, digits))
    kind = lib.where(turned, kinds - 1 - kind, kind)
    if halves:
        down = lib.stack([kind >= 2, kind % 2 == 1])
    else:
        down = lib.broadcast_to(kind == 1, (n // 8, subs))
    scale = wall(abs(scale))

    # ROWS
    book, shelf = grid_lists.book("IQ1_S", 3), grid_lists.shelf("IQ1_S", 3, _FEW)
    offset = lib.where(down, DOWN[0], UP[0]).reshape(-1)
    target = Target(grid_search.by_digit(x, 8), grid_search.by_digit(w, 8), 1, offset)
    own = grid_search.by_digit(digits, 8)
    rows, points = nearest_rows(book, shelf, target, lib.tile(scale, n // 8)[None], lambda k: [*own])

    # SCALE anew where a group was not on the grid
    q = wall(f32(lib.stack(book.digits(rows[0]))) + offset)
    q = lib.moveaxis(q.reshape(8, n // 8, subs), 0, 1).reshape(n, subs)
    qx, q2 = sums_of(x, w, q)
    renewed = (rows != points).reshape(-1, subs).any(axis=0) & (qx > 0) & (q2 > 0)
    new_scale = lib.where(renewed, div(qx, lib.where(renewed, q2, np.float32(1))), scale)
    clear = (best_score == best_score) & ~(renewed & is_faint(new_scale)) & _is_clear(x, w, scale)
    index = lib.take(lib.asarray(book.index), rows[0], mode="clip").astype(np.int32).reshape(-1, subs)
    return Split(
        lib.where(nothing, np.float32(0), new_scale),
        lib.where(nothing, 0, index),
        down & ~nothing,
        nothing,
        # IQ1_M fits a last scale to all weights, those of skipped sub-blocks included
        clear if halves else clear | (largest < np.float32(below)),
    )


def sums_of(
    x: Float32[Array, "n *subs"], w: Float32[Array, "n *subs"], q: Float32[Array, "n *subs"]
) -> tuple[Float32[Array, "*subs"], Float32[Array, "*subs"]]:
    """sum w q x and sum w q^2, first to last."""

    def terms(i):
        weighted = mul(w[i], q[i])
        return mul(weighted, x[i]), mul(weighted, q[i])

    return running_sums(x.shape[0], terms)


# SORTING


def _ranks(x: Float32[Array, "n subs"]) -> Int32[Array, "n subs"]:
    """The place of each weight in ascending order; equal ones keep their order."""
    lib = exact.library(x)
    here = lib.arange(x.shape[0], dtype=np.int32)[:, None]

    def count(i, rank):
        return rank + ((x[i] < x) | ((x[i] == x) & (i < here)))

    return wall(fold(x.shape[0], count, lib.zeros(x.shape, np.int32), unroll=8))


def _in_order(
    rank: Int32[Array, "n subs"], a: Float32[Array, "n subs"], b: Float32[Array, "n subs"], part: slice
) -> tuple[Float32[Array, "n subs"], Float32[Array, "n subs"]]:
    """Both by rank, with 0 where an element is not in that part of the sub-block."""
    lib = exact.library(a)
    places = lib.arange(rank.shape[0], dtype=np.int32)[:, None]
    zeros = lib.zeros(a.shape, np.float32)

    def put(i, state):
        at_a, at_b = unpair(state)
        mine = rank[part.start + i] == places
        return pair(lib.where(mine, a[part.start + i], at_a), lib.where(mine, b[part.start + i], at_b))

    return unpair(wall(fold(part.stop - part.start, put, pair(zeros, zeros), unroll=4)))


def _running_sums(a: Float32[Array, "n subs"]) -> Float32[Array, "n+1 subs"]:
    lib = exact.library(a)

    def add(i, state):
        sums, total = state
        total = total + a[i]
        return exact.with_row(sums, i + 1, total), total

    zeros = lib.zeros((a.shape[0] + 1, *a.shape[1:]), np.float32)
    return fold(a.shape[0], add, (zeros, zeros[0]))[0]


# SCORES: for a split at i and j, sum w x q and sum w q^2 for each kind of shifts. A table holds what a place takes to
# them as the first or as the second place, [places, facts, subs]. Behind the last place sum w q^2 is below 0: no split.


def _tabled(facts: list[Float32[Array, "n+1 subs"]], second_q2: tuple[int, ...]) -> Float32[Array, "places facts subs"]:
    lib = exact.library(facts[0])
    behind = [
        lib.full((_STRIDE, fact.shape[1]), np.float32(-np.inf if k in second_q2 else 0), np.float32)
        for k, fact in enumerate(facts)
    ]
    return wall(lib.stack([lib.concatenate([*both]) for both in zip(facts, behind, strict=True)], axis=1))


def _whole_table(sx, sw):
    facts = [sx, sw]
    for steps in (UP, DOWN):
        facts += [
            mul(sx, steps[0]), mul(sx[-1] - sx, steps[2]),
            mul(mul(sw, steps[0]), steps[0]), mul(mul(sw[-1] - sw, steps[2]), steps[2]),
        ]  # fmt: skip
    return _tabled(facts, (5, 9))


def _score_whole(i, j):
    """For the shift up and the shift down; the part between is multiplied by a power of two, so exactly."""
    qx, q2 = (j[0] - i[0]) * np.float32(0.125), (j[1] - i[1]) * np.float32(0.125**2)
    yield i[2] + qx + j[3], i[4] + q2 + j[5]
    yield i[6] - qx + j[7], i[8] + q2 + j[9]


def _halves_table(sums):
    facts = []
    for sx, sw in sums:
        facts.append(sx)
        for steps in (UP, DOWN):
            squares = steps * steps
            facts += [
                exact.library(sx).broadcast_to(mul(sx[-1], steps[2]), sx.shape),
                mul(mul(sw[-1], steps[2]), steps[2]) + mul(sw, squares[0] - squares[1]),
                mul(sw, squares[1] - squares[2]),
            ]
    return _tabled(facts, (3, 6, 10, 13))


def _score_halves(i, j):
    """For the shifts up-up, up-down, down-up, down-down of two halves.

    Neighbouring steps are 1 apart, so a half's sum of w x q is its whole sum times the last step less two running sums.
    """
    below = [i[0] + j[0], i[7] + j[7]]
    qx = [[i[7 * half + 3 * way + 1] - below[half] for way in range(2)] for half in range(2)]
    q2 = [[i[7 * half + 3 * way + 2] + j[7 * half + 3 * way + 3] for way in range(2)] for half in range(2)]
    for a in range(2):
        for b in range(2):
            yield qx[0][a] + qx[1][b], q2[0][a] + q2[1][b]


# CLEAR


def _faint_gain(sums):
    """Gains, squares of sum w x q, that are not zero must be at least this for a search that nothing underflows in.

    All sums w q^2 lie between W / 64 and 5/4 W, W being the sum of all w >= 0, but for rounding. Then with gains of at
    least 2^-115 max(1, W) every score, every product of a score and a sum, and every scale is at least 2^-122.
    """
    total = sum(sw[-1] for _, sw in sums)
    return np.float32(2.0**-115) * exact.library(total).maximum(total, np.float32(1))


def _is_clear(x, w, scale):
    """Where nothing underflows, but for the products that the search watches.

    With every nonzero abs(x) at least 2^ex and w at least 2^ew, running sums and their differences are multiples of
    2^(ew + ex - 23) and 2^(ew - 23); times steps, which are multiples of an eighth, once or twice, and added, they stay
    multiples of 2^(ew + ex - 26) and 2^(ew - 29). An error scale*step - x that is not zero is at least 2^-28 times the
    scale, as steps are at least an eighth.
    """
    ex, ew = (exact.exponent(exact.least_magnitude(a, axis=0)) for a in (x, w))
    es = exact.exponent(scale)
    large = exact.library(x).max(abs(x), axis=0) < np.float32(2.0**40)
    large = large & (exact.library(x).min(w, axis=0) >= 0)
    return (ew + ex >= -100) & (ew >= -97) & (ew + 2 * es >= -68) & (es >= -60) & large
