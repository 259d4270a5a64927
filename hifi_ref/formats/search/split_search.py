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

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, mul, running_sums, score, wall
from hifi_ref.formats.search import grid_lists, grid_search
from hifi_ref.formats.search.nearest_row import Target, nearest_rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

    from hifi_ref.exact import Array


UP = np.array([-0.875, 0.125, 1.125], np.float32)  # the steps with the shift up
DOWN = np.array([-1.125, -0.125, 0.875], np.float32)
PARTS = ("lowest", "middle", "highest")
LISTS = grid_lists.Lists("IQ1_S", 3)


class Split(NamedTuple):
    """For each sub-block: the scale, the rows of its groups, whether a group's shift is down, what found no split."""

    scale: Float32[Array, "subs"]
    row_numbers: Int32[Array, "groups subs"]
    down: Bool[Array, "groups subs"]
    nothing: Bool[Array, "subs"]


def best_split(x: Float32[Array, "n subs"], w: Float32[Array, "n subs"], below: float, halves: bool) -> Split:
    """The best split of each sub-block; ``halves``: each half of it has its own shift, else all groups share one.

    Sub-blocks whose largest magnitude is under ``below`` are skipped.
    """
    lib = exact.library(x)
    n, subs = x.shape
    digits, kind, scale, found = best_places(x, w, halves)
    largest = lib.max(abs(x), axis=0)
    small = largest < np.float32(below)
    grid_search.known_codes(small | found, "the build ends where no split helps, as with importance 0")
    nothing = small | ~found
    scale = lib.where(found, scale, largest)

    # TURNED where the scale is negative
    kinds = 4 if halves else 2
    turned = scale < 0
    digits = wall(lib.where(turned, 2 - digits, digits))
    kind = lib.where(turned, kinds - 1 - kind, kind)
    if halves:
        down = lib.stack([kind >= 2, kind % 2 == 1])
    else:
        down = lib.broadcast_to(kind == 1, (n // 8, subs))
    scale = wall(abs(scale))

    # ROWS
    offset = lib.where(down, DOWN[0], UP[0])
    target = Target(grid_search.by_digit(x, 8), grid_search.by_digit(w, 8), 1, offset)
    own = grid_search.by_digit(digits, 8)
    rows, points = nearest_rows(LISTS, target, scale[None], scale[None], lambda x, inverse: own)

    # SCALE anew where a group was not on the grid
    q = wall(f32(lib.stack(LISTS.book.digits(rows[0]))) + offset)
    qx, q2 = sums_of(x, w, lib.moveaxis(q, 0, 1).reshape(n, subs))
    renewed = (rows != points)[0].any(axis=0) & (qx > 0) & (q2 > 0)
    new_scale = lib.where(renewed, div(qx, lib.where(renewed, q2, np.float32(1))), scale)
    index = lib.take(lib.asarray(LISTS.book.row_number), rows[0], mode="clip").astype(np.int32)
    return Split(lib.where(nothing, np.float32(0), new_scale), lib.where(nothing, 0, index), down & ~nothing, nothing)


def sums_of(
    x: Float32[Array, "n *subs"], w: Float32[Array, "n *subs"], q: Float32[Array, "n *subs"]
) -> tuple[Float32[Array, "*subs"], Float32[Array, "*subs"]]:
    """sum w q x and sum w q^2, first to last."""

    def terms(i: Any) -> tuple[Array, Array]:
        weighted = mul(w[i], q[i])
        return mul(weighted, x[i], "sum of w q x"), mul(weighted, q[i], "sum of w q q")

    qx, q2 = running_sums(x.shape[0], terms, at_once=True)
    return qx, q2


class Places(NamedTuple):
    """For each weight its step, 0 to 2; for each sub-block the shifts, the scale, and whether there is a split at all.

    Shifts are numbered: up, down; or those of two halves: up up, up down, down up, down down.
    """

    digits: Int32[Array, "n subs"]
    kind: Int32[Array, "subs"]
    scale: Float32[Array, "subs"]
    found: Bool[Array, "subs"]


@exact.has_faster_text
def best_places(x: Float32[Array, "n subs"], w: Float32[Array, "n subs"], halves: bool) -> Places:
    """The split with the largest (sum w x q)^2 / (sum w q^2), of equals the first."""
    n, subs = x.shape
    order = np.argsort(x, axis=0, kind="stable")
    ordered_w, ordered_x = (np.take_along_axis(a, order, axis=0) for a in (w, x))
    in_half = [order < n // 2, order >= n // 2] if halves else [order >= 0]
    sx, sw = ([_running(a, part) for part in in_half] for a in (mul(ordered_w, ordered_x, "running w x"), ordered_w))
    sums = sums_of_halves if halves else sums_of_whole

    best, scale = np.full(subs, lowest_score(), np.float32), np.zeros(subs, np.float32)
    first, second, kind = np.zeros((3, subs), np.int32)
    found = np.zeros(subs, bool)
    for i in range(n + 1):
        for j in range(i, n + 1):
            for k, (qx, q2) in enumerate(sums(*([(s[i], s[j], s[-1]) for s in both] for both in (sx, sw)))):
                better = (q2 > 0) & (score(qx, qx) > score(best, q2))
                scale = np.where(better, div(qx, np.where(better, q2, np.float32(1))), scale)
                best = np.where(better, score(scale, qx), best)
                first, second, kind = (np.where(better, new, old) for new, old in ((i, first), (j, second), (k, kind)))
                found |= better

    rank = np.argsort(order, axis=0)
    return Places((rank >= first).astype(np.int32) + (rank >= second), kind, scale, found)


def lowest_score() -> np.float32:
    """What the first split must be above; the older sources begin just below 0, which faint scores can miss."""
    return np.float32(-exact.SMALLEST_NORMAL) if exact.is_unguarded() else np.finfo(np.float32).min


def _running(a: Float32[Array, "n subs"], part: Bool[np.ndarray, "n subs"]) -> Float32[np.ndarray, "n+1 subs"]:
    """0, a[0], a[0] + a[1], ..., over the elements of a part."""
    totals = np.zeros((len(a) + 1, a.shape[1]), np.float32)
    for i in range(len(a)):
        totals[i + 1] = np.where(part[i], totals[i] + a[i], totals[i])
    return totals


# Of a sub-block or a half of it the running sum at the first place of a split, at the second, and of all
Running: TypeAlias = "tuple[Array, Array, Array]"


def sums_of_whole(sx: Sequence[Running], sw: Sequence[Running]) -> Iterator[tuple[Array, Array]]:
    """For the shift up and the shift down: sum w x q and sum w q^2 of the split."""
    parts_x, parts_w = ((first, second - first, last - second) for first, second, last in (sx[0], sw[0]))
    for steps in (UP, DOWN):
        qx = [mul(part, step, f"{at} part") for part, step, at in zip(parts_x, steps, PARTS, strict=True)]
        q2 = [mul(mul(part, step), step, f"{at} part") for part, step, at in zip(parts_w, steps, PARTS, strict=True)]
        yield qx[0] + qx[1] + qx[2], q2[0] + q2[1] + q2[2]


def sums_of_halves(sx: Sequence[Running], sw: Sequence[Running]) -> Iterator[tuple[Array, Array]]:
    """For the four shifts of two halves.

    Neighbouring steps are 1 apart, so a half's sum of w x q is its whole sum times the last step less two running sums.
    """
    qx, q2 = [], []
    for x, w in zip(sx, sw, strict=True):
        for steps in (UP, DOWN):
            squares = steps * steps
            qx.append(mul(x[2], steps[2]) - (x[0] + x[1]))
            whole = mul(mul(w[2], steps[2]), steps[2])
            q2.append(whole + mul(w[0], squares[0] - squares[1]) + mul(w[1], squares[1] - squares[2]))
    for a in (0, 1):
        for b in (2, 3):
            yield qx[a] + qx[b], q2[a] + q2[b]
