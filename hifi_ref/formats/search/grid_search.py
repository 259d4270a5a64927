"""The search for scales and grid rows that the codebook formats share; scale_search is its counterpart for equal steps.

Elements of a sub-block lie on the leading axis, sub-blocks on the last; groups of 8 or 4 elements, which share a row of
the grid, split the leading axis. grid_lists tells which rows a group may take, nearest_row which of them it takes.

Source: the quantize_row_iq2_*_impl and quantize_row_iq3_*_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, mul, nearest_int, product, running_sums, score, wall
from hifi_ref.formats.search import grid_lists, row_importance
from hifi_ref.formats.search.nearest_row import Rows, Target, nearest_rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32, Num, UInt8

    from hifi_ref.exact import Array


# FIT


class Search(NamedTuple):
    """How a format searches: the lists of its grid, and so many trials of a scale on each side, a step apart.

    ``again`` says which groups get new rows at last: "all", "strays" (those whose point was not on the grid when their
    trial won), or "all if strays", where a group that no trial won counts as a stray.
    """

    lists: grid_lists.Lists
    around: int
    step: float
    again: str


class GridFit(NamedTuple):
    """A scale for each sub-block, the rows of its groups as points, and whether all trials failed."""

    scale: Float32[Array, "subs"]
    points: Int32[Array, "groups subs"]
    failed: Bool[Array, "subs"]


def fit(
    search: Search,
    x: Float32[Array, "n subs"],
    w: Float32[Array, "n subs"],
    start: Float32[Array, "subs"],
    peak: Float32[Array, "subs"],
) -> GridFit:
    """x ~ scale * q with q on the grid: the best of trial scales peak / trial, and then the rows again for that scale.

    A trial rounds x to points, takes the nearest rows, errors weighted by sqrt(w), and from these rows the scale that
    minimises sum w (x - scale q)^2; the best has the largest (sum w x q)^2 / (sum w q^2).
    """
    lib = exact.library(x)
    n, subs = x.shape
    book = search.lists.book
    target = Target(by_digit(x, book.width), by_digit(exact.sqrt(w), book.width), 2, np.float32(1))
    wx = exact.held(lambda: exact.rounded(mul(w, x)))
    largest = lib.max(abs(x), axis=0)

    def rows_for(scales: Float32[Array, "trials subs"], inverses: Float32[Array, "trials subs"]) -> Rows:
        # Shares beyond it only nearest_int rounds as C does
        exact.mark(product(largest, lib.max(inverses, axis=0)) >= np.float32(2.0**20))
        return nearest_rows(
            search.lists, target, scales, inverses, lambda x, inverse: _digits(product(x, inverse, "digits"), book.top)
        )

    def sums(rows: Int32[Array, "trials groups subs"], which: str) -> tuple[Array, ...]:
        """sum w x q and sum w q^2 for each trial: [trials, groups, subs] -> twice [trials, subs]"""

        def terms(i: Any) -> tuple[Array, Array]:
            group, digit = i // book.width, i % book.width
            q = f32(rows[:, group] >> (book.bits * digit) & (2**book.bits - 1)) * np.float32(2) + np.float32(1)
            return product(wx[i], q, f"{which} w x q"), product(product(w[i], q), q, f"{which} w q q")

        return running_sums(n, terms)

    # TRIALS
    steps = lib.asarray(trial_steps(search))
    # One at a time: where many quotients share a divisor, XLA multiplies by its reciprocal
    inverses = fold(
        len(steps),
        lambda k, inverses: exact.with_row(inverses, k, div(steps[k], peak)),
        lib.zeros((len(steps), subs), np.float32),
    )
    rows, points = wall(*rows_for(wall(div(np.float32(1), inverses)), inverses))
    qx, q2 = wall(*sums(rows, "trial"))

    def attempt(k: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        scale, best, won = state
        better = (q2[k] > 0) & (score(qx[k], qx[k]) > score(best, q2[k]))
        new_scale = div(qx[k], lib.where(better, q2[k], np.float32(1)))
        new_best = score(new_scale, qx[k])
        return lib.where(better, new_scale, scale), lib.where(better, new_best, best), lib.where(better, k, won)

    nothing_won = (start, lib.zeros(subs, np.float32), lib.full(subs, -1, np.int32))
    scale, _, won = fold(len(steps), attempt, nothing_won)
    won_rows, won_points = (lib.take_along_axis(a, lib.maximum(won, 0)[None, None], axis=0)[0] for a in (rows, points))
    none_won = (won < 0)[None]
    won_rows = lib.where(none_won, 0, won_rows)

    # AGAIN
    renew = (won_rows != won_points) & ~none_won
    if search.again == "all":
        renew = renew | True
    elif search.again == "all if strays":
        renew = (renew | none_won).any(axis=0) | (renew & False)
    renew = renew & (scale > 0)
    some = renew.any(axis=0)
    inverse = wall(div(np.float32(1), lib.where(some, scale, np.float32(1))))
    new_rows, _ = rows_for(lib.where(some, scale, np.float32(1))[None], inverse[None])
    rows = wall(lib.where(renew, new_rows[0], won_rows))
    qx, q2 = (a[0] for a in sums(rows[None], "again"))
    renewed = some & (q2 > 0)
    return GridFit(lib.where(renewed, div(qx, lib.where(renewed, q2, np.float32(1))), scale), rows, won < 0)


def trial_steps(search: Search) -> Float32[Array, "trials"]:
    """The step of the largest digit, and the trials around it, ascending."""
    k = np.arange(-search.around, search.around + 1, dtype=np.float32)
    return np.float32(2 * search.lists.book.top + 1) + product(np.float32(search.step), k, "trial steps")


def by_digit(a: Num[Array, "n subs"], width: int) -> Num[Array, "width groups subs"]:
    """First elements of all groups of all sub-blocks, then second ones."""
    return wall(exact.library(a).moveaxis(a.reshape(-1, width, a.shape[1]), 1, 0))


def _digits(shares: Float32[Array, "*n"], top: int) -> Int32[Array, "*n"]:
    """The digit whose step, 2 digit + 1, is nearest to a share; halves to the even digit."""
    double = shares - np.float32(1)
    if exact.is_jax(double):
        lib = exact.library(double)
        if top == 2:
            # 1 and 3 are the halves
            return exact.i32(double > 1) + exact.i32(double >= 3)
        whole = lib.round(np.float32(0.5) * double)
        whole = lib.where(whole > 0, whole, np.float32(0))
        return exact.i32(lib.where(whole < top, whole, np.float32(top)))
    return np.clip(nearest_int(np.float32(0.5) * double), 0, top)


# SIGNS


def split_signs(
    x: Float32[Array, "n subs"], w: Float32[Array, "n subs"], even: bool
) -> tuple[Float32[Array, "n subs"], UInt8[Array, "groups subs"]]:
    """Magnitudes, and a sign byte for each 8 of them.

    Where only an ``even`` number of minus signs can be stored, the weight that costs least, by w x^2, gives up its
    sign: its magnitude becomes negative.
    """
    lib = exact.library(x)
    negative = ~(x >= 0)
    size = lib.where(negative, -x, x).reshape(-1, 8, x.shape[1])
    flags = negative.reshape(size.shape)
    if even:
        cost = exact.rounded(mul(mul(w, x), x)).reshape(size.shape)
        # Huge weights make costs of NaN: no cost is below the first if that is one, and none of NaN is below another.
        least = lib.argmin(lib.where(cost == cost, cost, np.float32(np.inf)), axis=1)
        least = lib.where(cost[:, 0] == cost[:, 0], least, 0)
        cheapest = least[:, None] == lib.arange(8)[:, None]
        wrong = cheapest & (flags.sum(axis=1) % 2 == 1)[:, None]
        size, flags = lib.where(wrong, -size, size), flags ^ wrong
    signs = [flags[:, i].astype(np.uint8) << np.uint8(i) for i in range(8)]
    return size.reshape(x.shape), functools.reduce(operator.or_, signs)


# SUPER-BLOCKS


def sub_columns(
    x: Float32[Array, "rows blocks 256"], sub: int, doubled: bool = True
) -> tuple[Float32[Array, "sub subs"], Float32[Array, "subs"]]:
    """Sub-blocks as columns, and their super-block's mean square, ``doubled`` or not."""
    whole = exact.columns(x, 256)
    total = exact.sum_in_order(mul(whole, whole, "mean square")) * np.float32(2 if doubled else 1)
    mean_square = exact.library(x).repeat(div(total, np.float32(256)), 256 // sub)
    return exact.columns(x, sub), mean_square


def importance_columns(
    shape: tuple[int, ...],
    columns: Float32[Array, "sub subs"],
    weights: Float32[Array, "blocks 256"],
    mean_square: Float32[Array, "subs"],
) -> Float32[Array, "sub subs"]:
    """weight * sqrt(mean square + x^2) for the columns of x, which has that shape."""
    qw = exact.columns(exact.library(weights).broadcast_to(weights, shape), len(columns))
    return row_importance.importance(columns, qw, mean_square)


def fit_from_peak(
    search: Search,
    x: Float32[Array, "n subs"],
    w: Float32[Array, "n subs"],
    nothing: Bool[Array, "subs"],
) -> GridFit:
    """fit around the scale that puts the largest magnitude on the largest step; ``nothing`` marks those to skip."""
    lib = exact.library(x)
    peak = lib.where(nothing, np.float32(1), lib.max(x, axis=0))
    return fit(search, x, w, div(peak, np.float32(2 * search.lists.book.top + 1)), peak)


class Choice(NamedTuple):
    """What a fit found, in block order; sub-blocks with nothing in them have scale, row numbers and signs 0."""

    scale: Float32[Array, "rows blocks subs"]
    row_numbers: Int32[Array, "rows blocks groups"]
    signs: Int32[Array, "rows blocks 32"]


def choose(
    search: Search,
    fit: GridFit,
    signs: UInt8[Array, "bytes subs"],
    nothing: Bool[Array, "subs"],
    shape: tuple[int, ...],
) -> Choice:
    """The fit of all sub-blocks by super-block. A scale below 0 turns all signs; 7-bit codes keep the lower ones."""
    lib = exact.library(fit.scale)
    if search.again == "strays":
        known_codes(~fit.failed | nothing)
    index = lib.take(lib.asarray(search.lists.book.row_number), fit.points, mode="clip").astype(np.int32)
    signs = lib.where(fit.scale < 0, ~signs, signs).astype(np.int32)
    scale = lib.where(nothing, np.float32(0), abs(fit.scale)).reshape(*shape, -1)
    index = lib.where(nothing, 0, index).T.reshape(*shape, -1)
    signs = lib.where(nothing, 0, signs).T.reshape(*shape, 32)
    return Choice(scale, index, signs)


def known_codes(
    known: Bool[Array, "subs"], says: str = "the build keeps chance codes where no scale helps, as with importance 0"
) -> None:
    """Older sources keep what an earlier sub-block had where they find nothing, or end. Raises UnknownBlocks."""
    if not exact.is_unguarded():
        return
    if exact.is_jax(known):
        exact.mark(~known)
    elif not known.all():
        raise exact.UnknownBlocks(says, np.asarray(known))


class StoredScales(NamedTuple):
    d: Float32[Array, "rows blocks"]
    scales: Int32[Array, "rows blocks subs"]
    empty: Bool[Array, "rows blocks"]


def store_scales(scale: Float32[Array, "rows blocks subs"], top: int) -> StoredScales:
    """scale ~ d * (2 s + 1), s in 0..top: the largest becomes 2 top + 1. ``empty`` where all are 0."""
    lib = exact.library(scale)
    largest = lib.max(scale, axis=-1)
    empty = largest == 0
    d = div(largest, np.float32(2 * top + 1))
    inverse = exact.reciprocal_or_zero(d)[..., None]
    scales = nearest_int(np.float32(0.5) * (product(scale, inverse, "scales") - np.float32(1)))
    return StoredScales(d, lib.where(empty[..., None], 0, lib.clip(scales, 0, top)), empty)
