"""All splits of sorted weights in three, eight second places at a time, from a table of what each place contributes.

To the sums of a build that fuses a place contributes running sums alone: what is made of them is the definition's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, mul, pair, unpair, wall
from hifi_ref.formats.search.split_search import DOWN, UP, Places, lowest_score, sums_of_halves, sums_of_whole

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

    from hifi_ref.exact import Array

# Splits are numbered: first place, second place, shifts
_PLACES = 64
# So many second places are tried at a time
_STRIDE = 8


def best_places(x: Float32[Array, "n subs"], w: Float32[Array, "n subs"], halves: bool) -> Places:
    """formats.search.split_search.best_places."""
    with exact.unwatched():
        places, may_underflow = _best_places(x, w, halves)
    exact.mark(may_underflow)
    return places


def _best_places(x, w, halves):
    n, subs = x.shape
    rank = _ranks(x)

    # RUNNING SUMS, of a half each where halves differ
    halved = [slice(0, n // 2), slice(n // 2, n)] if halves else [slice(0, n)]
    sums = []
    for part in halved:
        own_w, own_x = _in_order(rank, w, x, part)
        sums.append([_running_sums(a) for a in (mul(own_w, own_x, "running w x"), own_w)])
    if exact.fusing_now() is not None:
        table, score = _plain_table(sums), _plain_score(sums, sums_of_halves if halves else sums_of_whole)
    else:
        table, score = (_halves_table(sums), _score_halves) if halves else (_whole_table(*sums[0]), _score_whole)
    kinds = 4 if halves else 2

    # ALL SPLITS
    starts = np.array([(i, j) for i in range(n + 1) for j in range(i, n + 1, _STRIDE)], np.int32)
    firsts, seconds = jnp.asarray(starts[:, 0]), jnp.asarray(starts[:, 1])
    faint = _faint_gain(sums)

    def attempt(k, best):
        best_score, best_number = unpair(best)
        i, j = firsts[k], seconds[k]
        at_first = table[i]
        for more in range(_STRIDE):
            number = (i * _PLACES + j + more) * kinds
            for kind, (qx, q2) in enumerate(score(at_first, table[j + more])):
                gain, bar = exact.score(qx, qx), exact.score(best_score, q2)
                better = (q2 > 0) & (gain > bar)
                new_score = exact.score(div(qx, jnp.where(better, q2, np.float32(1))), qx)
                best_score = jnp.where(better, new_score, best_score)
                # NaN from here on: no score is above it
                best_score = jnp.where((gain < faint) & (qx != 0), np.float32(np.nan), best_score)
                best_number = jnp.where(better, f32(number + kind), best_number)
        return pair(best_score, best_number)

    lowest, none = (jnp.full(subs, v, np.float32) for v in (lowest_score(), -1))
    best_score, number = unpair(wall(fold(len(starts), attempt, pair(lowest, none))))
    found = number >= 0
    number = jnp.maximum(exact.i32(number), 0)
    kind, places = number % kinds, number // kinds
    first, second = places // _PLACES, places % _PLACES

    # SCALE of the best
    at_first, at_second = (jnp.take_along_axis(table, at[None, None], axis=0)[0] for at in (first, second))
    qx, q2 = jnp.zeros(subs, np.float32), jnp.ones(subs, np.float32)
    for this, (this_qx, this_q2) in enumerate(score(at_first, at_second)):
        qx, q2 = jnp.where(kind == this, this_qx, qx), jnp.where(kind == this, this_q2, q2)
    scale = div(*wall(qx, jnp.where(found, q2, np.float32(1))))
    digits = exact.i32(rank >= first) + exact.i32(rank >= second)
    # Where all scores are 0 it depends on what is flushed whether the first one is above the lowest
    doubtful = ~(best_score > 0) if exact.is_unguarded() else best_score != best_score
    return Places(digits, kind, scale, found), doubtful | _may_underflow(x, w)


# SORTING


def _ranks(x: Float32[Array, "n subs"]) -> Int32[Array, "n subs"]:
    """The place of each weight in ascending order; equal ones keep their order."""
    here = jnp.arange(x.shape[0], dtype=np.int32)[:, None]

    def count(i, rank):
        return rank + ((x[i] < x) | ((x[i] == x) & (i < here)))

    return wall(fold(x.shape[0], count, jnp.zeros(x.shape, np.int32), unroll=8))


def _in_order(
    rank: Int32[Array, "n subs"], a: Float32[Array, "n subs"], b: Float32[Array, "n subs"], part: slice
) -> tuple[Float32[Array, "n subs"], Float32[Array, "n subs"]]:
    """Both by rank, with 0 where an element is not in that part of the sub-block."""
    places = jnp.arange(rank.shape[0], dtype=np.int32)[:, None]
    zeros = jnp.zeros(a.shape, np.float32)

    def put(i, state):
        at_a, at_b = unpair(state)
        mine = rank[part.start + i] == places
        return pair(jnp.where(mine, a[part.start + i], at_a), jnp.where(mine, b[part.start + i], at_b))

    return unpair(wall(fold(part.stop - part.start, put, pair(zeros, zeros), unroll=4)))


def _running_sums(a: Float32[Array, "n subs"]) -> Float32[Array, "n+1 subs"]:

    def add(i, state):
        sums, total = state
        total = total + a[i]
        return exact.with_row(sums, i + 1, total), total

    zeros = jnp.zeros((a.shape[0] + 1, *a.shape[1:]), np.float32)
    return fold(a.shape[0], add, (zeros, zeros[0]))[0]


# SCORES: for a split at i and j, sum w x q and sum w q^2 for each kind of shifts. A table holds what a place takes to
# them as the first or as the second place, [places, facts, subs]. Behind the last place sum w q^2 is NaN: no split.


def _tabled(
    facts: list[Float32[Array, "splits subs"]], second_q2: tuple[int, ...]
) -> Float32[Array, "places facts subs"]:
    behind = [
        jnp.full((_STRIDE, fact.shape[1]), np.float32(np.nan if k in second_q2 else 0), np.float32)
        for k, fact in enumerate(facts)
    ]
    return wall(jnp.stack([jnp.concatenate([*both]) for both in zip(facts, behind, strict=True)], axis=1))


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
                jnp.broadcast_to(mul(sx[-1], steps[2]), sx.shape),
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


def _plain_table(sums):
    return _tabled([fact for half in sums for fact in half], tuple(range(1, 2 * len(sums), 2)))


def _plain_score(sums, sums_of_split):
    """``sums_of_split`` of a line for the first place and one for the second."""

    def score(i, j):
        sx, sw = ([(i[2 * h + k], j[2 * h + k], half[k][-1]) for h, half in enumerate(sums)] for k in range(2))
        return sums_of_split(sx, sw)

    return score


# UNDERFLOW: watching every product of every split would double the work


def _faint_gain(sums):
    """Gains, squares of sum w x q, that are not zero must be at least this for a search that nothing underflows in.

    All sums w q^2 lie between W / 64 and 5/4 W, W being the sum of all w >= 0, but for rounding. Then with gains of at
    least 2^-115 max(1, W) every score, every product of a score and a sum, and every scale is at least 2^-122.
    """
    total = sum(sw[-1] for _, sw in sums)
    return np.float32(2.0**-115) * jnp.maximum(total, np.float32(1))


def _may_underflow(x: Float32[Array, "n subs"], w: Float32[Array, "n subs"]) -> Bool[Array, "subs"]:
    """Where a product other than those of scores may be below 2^-126.

    With every nonzero abs(x) at least 2^ex and w at least 2^ew, running sums and their differences are multiples of
    2^(ew + ex - 23) and 2^(ew - 23); times steps, which are multiples of an eighth, once or twice, and added, they stay
    multiples of 2^(ew + ex - 26) and 2^(ew - 29).
    """
    ex, ew = (exact.exponent(_least_magnitude(a)) for a in (x, w))
    tame = (jnp.max(jnp.abs(x), axis=0) < np.float32(2.0**40)) & (jnp.min(w, axis=0) >= 0)
    return (ew + ex < -100) | (ew < -97) | ~tame


def _least_magnitude(x: Float32[Array, "n subs"]) -> Float32[Array, "subs"]:
    """The smallest nonzero abs(x); infinity where all are zero."""
    # Zero is above all others
    rank = jnp.min((exact.bits(x) & np.uint32(0x7FFFFFFF)) - np.uint32(1), axis=0)
    return exact.from_bits(jnp.minimum(rank, np.uint32(0x7F7FFFFF)) + np.uint32(1))
