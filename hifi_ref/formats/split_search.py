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
from hifi_ref.exact import div, f32, fold, is_faint, mul
from hifi_ref.formats import grid_search

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


class _Best(NamedTuple):
    """The best split so far: its scale and score, the two places, the kind of shifts (-1: none yet)."""

    scale: Float32[Array, "subs"]
    score: Float32[Array, "subs"]
    first: Int32[Array, "subs"]
    second: Int32[Array, "subs"]
    kind: Int32[Array, "subs"]
    lost: Bool[Array, "subs"]


def best_split(x: Float32[Array, "n subs"], w: Float32[Array, "n subs"], below: float, halves: bool) -> Split:
    """The best split of each sub-block; ``halves``: each half of it has its own shift, else all groups share one.

    Sub-blocks whose largest magnitude is under ``below`` are skipped.
    """
    lib = exact.library(x)
    n, subs = x.shape
    order = lib.argsort(x, axis=0, stable=True)
    rank = lib.argsort(order, axis=0)
    xs, ws = (lib.take_along_axis(a, order, axis=0) for a in (mul(w, x), w))

    # RUNNING SUMS, of a half each where halves differ
    if halves:
        parts = [order < n // 2, order >= n // 2]
        xs, ws = ([lib.where(part, a, np.float32(0)) for part in parts] for a in (xs, ws))
        score = _score_halves
    else:
        xs, ws = [xs], [ws]
        score = _score_whole
    sum_x, sum_w = ([_running_sums(a) for a in group] for group in (xs, ws))

    # ALL SPLITS
    pairs = np.array([(i, j) for i in range(n + 1) for j in range(i, n + 1)], np.int32)
    firsts, seconds = lib.asarray(pairs[:, 0]), lib.asarray(pairs[:, 1])

    def attempt(k, best):
        i, j = firsts[k], seconds[k]
        for kind, (qx, q2) in enumerate(score(sum_x, sum_w, i, j)):
            gain, bar = mul(qx, qx), mul(best.score, q2)
            better = (q2 > 0) & (gain > bar)
            scale = div(qx, lib.where(better, q2, np.float32(1)))
            new_score = mul(scale, qx)
            faint = (is_faint(gain) & (qx != 0)) | (is_faint(bar) & (best.score != 0) & (q2 != 0))
            faint = faint | (better & (is_faint(scale) | is_faint(new_score)) & (qx != 0))
            best = _Best(
                lib.where(better, scale, best.scale),
                lib.where(better, new_score, best.score),
                lib.where(better, i, best.first),
                lib.where(better, j, best.second),
                lib.where(better, np.int32(kind), best.kind),
                best.lost | faint,
            )
        return best

    largest = lib.max(abs(x), axis=0)
    none = lib.full(subs, -1, np.int32)
    lowest = lib.full(subs, np.finfo(np.float32).min, np.float32)
    best = fold(len(pairs), attempt, _Best(largest, lowest, none, none, none, none == 0))
    nothing = (largest < np.float32(below)) | (best.kind < 0)

    # CODES, turned where the scale is negative
    digits = (rank >= best.first).astype(np.int32) + (rank >= best.second)
    turned = best.scale < 0
    digits = lib.where(turned, 2 - digits, digits)
    kinds = 4 if halves else 2
    kind = lib.where(turned, kinds - 1 - best.kind, best.kind)
    if halves:
        down = lib.stack([kind >= 2, kind % 2 == 1])
    else:
        down = lib.broadcast_to(kind == 1, (n // 8, subs))

    # ROWS
    book = grid_search.book("IQ1_S", 3)
    scale = abs(best.scale)
    grouped, weights = x.reshape(-1, 8, subs), w.reshape(-1, 8, subs)
    grouped_digits = digits.reshape(grouped.shape)
    points = sum(grouped_digits[:, i] << (2 * i) for i in range(8))
    parts, part_weights = ([a[:, i] for i in range(8)] for a in (grouped, weights))
    target = grid_search.Target(parts, part_weights, scale, 1, lib.where(down, DOWN[0], UP[0]))
    rows = grid_search.nearest_row(book, points, target)

    # SCALE anew where a group was not on the grid
    q = lib.stack([f32(digit) + target.offset for digit in book.digits(rows)], axis=1)
    qx, q2 = sums(x, w, q.reshape(n, subs))
    renewed = (rows != points).any(axis=0) & (qx > 0) & (q2 > 0)
    new_scale = lib.where(renewed, div(qx, lib.where(renewed, q2, np.float32(1))), scale)
    clear = ~best.lost & ~(renewed & is_faint(new_scale)) & _is_clear(x, w, scale)
    return Split(
        lib.where(nothing, np.float32(0), new_scale),
        lib.where(nothing, 0, lib.take(lib.asarray(book.index), rows, mode="clip").astype(np.int32)),
        down & ~nothing,
        nothing,
        # IQ1_M fits a last scale to all weights, those of skipped sub-blocks included
        clear if halves else clear | (largest < np.float32(below)),
    )


def sums(
    x: Float32[Array, "n *subs"], w: Float32[Array, "n *subs"], q: Float32[Array, "n *subs"]
) -> tuple[Float32[Array, "*subs"], Float32[Array, "*subs"]]:
    """sum w q x and sum w q^2, first to last."""

    def add(i, total):
        weighted = mul(w[i], q[i])
        return total[0] + mul(weighted, x[i]), total[1] + mul(weighted, q[i])

    zero = exact.library(x).zeros(x.shape[1:], np.float32)
    return fold(x.shape[0], add, (zero, zero), unroll=8)


def _running_sums(a: Float32[Array, "n subs"]) -> Float32[Array, "n+1 subs"]:
    lib = exact.library(a)
    sums = [lib.zeros(a.shape[1:], np.float32)]
    for i in range(a.shape[0]):
        sums.append(sums[-1] + a[i])
    return lib.stack(sums)


def _score_whole(sum_x, sum_w, i, j):
    """(sum w x q, sum w q^2) of a split at i and j, for the shift up and the shift down."""
    (sx,), (sw,) = sum_x, sum_w
    parts_x, parts_w = ((s[i], s[j] - s[i], s[-1] - s[j]) for s in (sx, sw))
    for steps in (UP, DOWN):
        qx = [mul(part, step) for part, step in zip(parts_x, steps, strict=True)]
        q2 = [mul(mul(part, step), step) for part, step in zip(parts_w, steps, strict=True)]
        yield qx[0] + qx[1] + qx[2], q2[0] + q2[1] + q2[2]


def _score_halves(sum_x, sum_w, i, j):
    """The same for the shifts up-up, up-down, down-up, down-down of two halves.

    Neighbouring steps are 1 apart, so a half's sum of w x q is its whole sum times the last step less two running sums.
    """
    qx, q2 = [], []
    for sx, sw in zip(sum_x, sum_w, strict=True):
        below = sx[i] + sx[j]
        qx.append([mul(sx[-1], steps[2]) - below for steps in (UP, DOWN)])
        q2.append([
            mul(mul(sw[-1], steps[2]), steps[2])
            + mul(sw[i], steps[0] * steps[0] - steps[1] * steps[1])
            + mul(sw[j], steps[1] * steps[1] - steps[2] * steps[2])
            for steps in (UP, DOWN)
        ])  # fmt: skip
    for a in range(2):
        for b in range(2):
            yield qx[0][a] + qx[1][b], q2[0][a] + q2[1][b]


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
    return (ew + ex >= -100) & (ew >= -97) & (ew + 2 * es >= -68) & (es >= -60) & large
