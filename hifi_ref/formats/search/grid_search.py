"""The search for scales and grid rows that the codebook formats share; scale_search is its counterpart for equal steps.

Elements of a sub-block lie on the leading axis, sub-blocks on the last; groups of 8 or 4 elements, which share a row of
the grid, split the leading axis. grid_lists tells which rows a group may take, nearest_row which of them it takes.

Source: the quantize_row_iq2_*_impl and quantize_row_iq3_*_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, is_faint, mul, nearest_int, pair, running_sums, unpair, wall
from hifi_ref.formats.search import grid_lists, row_importance
from hifi_ref.formats.search.nearest_row import Target, nearest_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32, Int32, UInt8


# FIT


class Search(NamedTuple):
    """How a format searches: its grid, how many different distances its lists hold, and the trials of a scale.

    ``again`` says which groups get new rows at last: "all", "strays" (those whose point was not on the grid when their
    trial won), or "all if strays", where a group that no trial won counts as a stray. The JAX lane takes ``piece``
    super-blocks at a time, and looks at ``few`` rows of a list, a multiple of 8, for all groups alike.
    """

    grid: str
    distances: int
    trials: Float32[np.ndarray, "trials"]
    again: str
    few: int
    piece: int

    @property
    def book(self) -> grid_lists.Book:
        return grid_lists.book(self.grid, self.distances)


class GridFit(NamedTuple):
    """A scale for each sub-block, the rows of its groups as points, and where underflow is excluded."""

    scale: Float32[Array, "subs"]
    points: Int32[Array, "groups subs"]
    clear: Bool[Array, "subs"]


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

    Clear: see _is_clear.
    """
    lib = exact.library(x)
    n, subs = x.shape
    book = search.book
    shelf = grid_lists.shelf(search.grid, search.distances, search.few)
    groups = n // book.width

    target = Target(by_digit(x, book.width), by_digit(exact.sqrt(w), book.width), 2, np.float32(1))
    wx = wall(mul(w, x))

    def rows_for(scales, inverses):
        by_lane = wall(*(lib.tile(a, (1, groups)) for a in (scales, inverses)))

        def digits(k):
            return [*_digits(mul(target.x, by_lane[1][k]), book.top)]

        rows, points = nearest_rows(book, shelf, target, by_lane[0], digits)
        shape = (len(scales), groups, subs)
        return rows.reshape(shape), points.reshape(shape)

    def sums(rows):
        """sum w x q and sum w q^2 for each trial: [trials, groups, subs] -> twice [trials, subs]"""

        def terms(i):
            group, digit = i // book.width, i % book.width
            q = f32(rows[:, group] >> (book.bits * digit) & (2**book.bits - 1)) * np.float32(2) + np.float32(1)
            return mul(wx[i], q), mul(mul(w[i], q), q)

        return running_sums(n, terms)

    # TRIALS
    steps = lib.asarray(search.trials)
    # One at a time: where many quotients share a divisor, XLA multiplies by its reciprocal
    inverses = fold(
        len(steps),
        lambda k, inverses: exact.with_row(inverses, k, div(steps[k], peak)),
        lib.zeros((len(steps), subs), np.float32),
    )
    rows, points = wall(*rows_for(wall(div(np.float32(1), inverses)), inverses))
    qx, q2 = wall(*sums(rows))

    def attempt(k, state):
        (scale, best), won = unpair(state[0]), state[1]
        gain, bar = mul(qx[k], qx[k]), mul(best, q2[k])
        better = (q2[k] > 0) & (gain > bar)
        new_scale = div(qx[k], lib.where(better, q2[k], np.float32(1)))
        new_best = mul(new_scale, qx[k])
        lost = (is_faint(gain) & (qx[k] != 0)) | (is_faint(bar) & (best != 0) & (q2[k] != 0))
        lost = lost | (better & (is_faint(new_scale) | is_faint(new_best)))
        new = pair(lib.where(better, new_scale, scale), exact.poison(lib.where(better, new_best, best), lost))
        return new, lib.where(better, k, won)

    none = lib.full(subs, -1, np.int32)
    found, won = fold(len(search.trials), attempt, (pair(start, lib.zeros(subs, np.float32)), none))
    scale, best = unpair(found)
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
    new_rows, _ = rows_for(scale[None], inverse[None])
    rows = wall(lib.where(renew, new_rows[0], won_rows))
    qx, q2 = (a[0] for a in sums(rows[None]))
    renewed = some & (q2 > 0)
    new_scale = lib.where(renewed, div(qx, lib.where(renewed, q2, np.float32(1))), scale)
    lost = (best != best) | (renewed & is_faint(new_scale) & (qx != 0))
    largest = lib.max(abs(x), axis=0)
    tame = (largest * inverses[-1] < _LARGEST_SHARE) & (~some | (largest * inverse < _LARGEST_SHARE))
    return GridFit(new_scale, rows, ~lost & tame & _is_clear(x, w, scale, peak, search.trials))


def by_digit(a: Float32[Array, "n subs"], width: int) -> Float32[Array, "width lanes"]:
    """Groups side by side: first elements of all groups of all sub-blocks, then second ones."""
    grouped = a.reshape(-1, width, a.shape[1])
    return wall(exact.library(a).moveaxis(grouped, 1, 0).reshape(width, -1))


# nearest_int is right for up to 2^22 steps
_LARGEST_SHARE = np.float32(2.0**20)


def _digits(shares: Float32[Array, "*n"], top: int) -> Int32[Array, "*n"]:
    """The digit whose step, 2 digit + 1, is nearest to a share; halves to the even digit."""
    if exact.is_jax(shares):
        lib = exact.library(shares)
        if top == 2:
            # Next to 2 and 4 subtracting 1 is exact, and 2 and 4 themselves are the halves
            return exact.i32(shares > 2) + exact.i32(shares >= 4)
        whole = lib.round(np.float32(0.5) * (shares - np.float32(1)))
        whole = lib.where(whole > 0, whole, np.float32(0))
        return exact.i32(lib.where(whole < top, whole, np.float32(top)))
    return np.clip(nearest_int(np.float32(0.5) * (shares - np.float32(1))), 0, top)


def _is_clear(x, w, scale, peak, trials):
    """Where neither sums nor errors underflow.

    With every nonzero abs(x) at least 2^ex and w at least 2^ew, products w*x*x are at least 2^(ew + 2 ex), and a sum of
    products w*x*q that is not zero at least 2^(ew + ex - 23). An error scale*q - x that is not zero is at least half
    the scale where x is below that, else a multiple of 2^-25 times the scale; so with scales of 2^es its weighted
    square is at least 2^(ew/2 - 1 + 2 (es - 25)).
    """
    lib = exact.library(x)
    ex, ew = (exact.exponent(exact.least_magnitude(a, axis=0)) for a in (x, w))
    steps = np.float32(1 / trials.max())
    es = exact.exponent(lib.minimum(mul(abs(peak), steps), abs(scale)))
    return (ew + 2 * ex >= -126) & (ew + ex >= -103) & (ew + 4 * es >= -148) & (es >= -60) & (abs(peak) < 2.0**40)


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
        cost = mul(mul(w, x), x).reshape(size.shape)
        # Huge weights make costs of NaN: no cost is below the first if that is one, and none of NaN is below another.
        least = lib.argmin(lib.where(cost == cost, cost, np.float32(np.inf)), axis=1)
        least = lib.where(cost[:, 0] == cost[:, 0], least, 0)
        cheapest = least[:, None] == lib.arange(8)[:, None]
        wrong = cheapest & (flags.sum(axis=1) % 2 == 1)[:, None]
        size, flags = lib.where(wrong, -size, size), flags ^ wrong
    signs = sum(flags[:, i].astype(np.uint8) << np.uint8(i) for i in range(8))
    return size.reshape(x.shape), signs


# SUPER-BLOCKS


def sub_columns(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None, sub: int, doubled: bool = True
) -> tuple[Float32[Array, "sub subs"], Float32[Array, "sub subs"] | None, Float32[Array, "subs"], Bool[Array, "subs"]]:
    """Sub-blocks as columns, the importance of their weights, their super-block's mean square, and what is clear of it.

    Importance is weight * sqrt(mean square + x^2), the mean square ``doubled`` or not.
    """
    lib = exact.library(x)
    whole = exact.columns(x, 256)
    total = exact.sum_in_order(mul(whole, whole)) * np.float32(2 if doubled else 1)
    mean_square = lib.repeat(div(total, np.float32(256)), 256 // sub)
    columns = exact.columns(x, sub)
    if weights is None:
        least = exact.exponent(exact.least_magnitude(columns, axis=0))
        return columns, None, mean_square, least >= -60
    qw = exact.columns(lib.broadcast_to(weights, x.shape), sub)
    w, clear = row_importance.importance(columns, qw, mean_square)
    return columns, w, mean_square, clear


def trial_steps(count: int, step: float, top: int) -> Float32[np.ndarray, "trials"]:
    """2 top + 1, the step of the largest digit, and as many trials around it on each side."""
    return np.float32(2 * top + 1) + np.float32(step) * np.arange(-count, count + 1, dtype=np.float32)


def fit_from_peak(
    search: Search,
    x: Float32[Array, "n subs"],
    w: Float32[Array, "n subs"],
    nothing: Bool[Array, "subs"],
) -> GridFit:
    """fit around the scale that puts the largest magnitude on the largest step; ``nothing`` marks those to skip."""
    lib = exact.library(x)
    peak = lib.where(nothing, np.float32(1), lib.max(x, axis=0))
    return fit(search, x, w, div(peak, np.float32(2 * search.book.top + 1)), peak)


class Choice(NamedTuple):
    """What a fit found, in block order; sub-blocks with nothing in them have scale, row numbers and signs 0."""

    scale: Float32[Array, "rows blocks subs"]
    index: Int32[Array, "rows blocks groups"]
    signs: Int32[Array, "rows blocks 32"]
    clear: Bool[Array, "rows blocks"]


def choose(
    search: Search,
    fit: GridFit,
    signs: UInt8[Array, "bytes subs"],
    nothing: Bool[Array, "subs"],
    clear: Bool[Array, "subs"],
    shape: tuple[int, int],
) -> Choice:
    """The fit of all sub-blocks by super-block. A scale below 0 turns all signs; 7-bit codes keep the lower ones."""
    lib = exact.library(fit.scale)
    index = lib.take(lib.asarray(search.book.index), fit.points, mode="clip").astype(np.int32)
    signs = lib.where(fit.scale < 0, ~signs, signs).astype(np.int32)
    scale = lib.where(nothing, np.float32(0), abs(fit.scale)).reshape(*shape, -1)
    index = lib.where(nothing, 0, index).T.reshape(*shape, -1)
    signs = lib.where(nothing, 0, signs).T.reshape(*shape, 32)
    return Choice(scale, index, signs, ((fit.clear | nothing) & clear).reshape(*shape, -1).all(axis=-1))


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
    scales = nearest_int(np.float32(0.5) * (mul(scale, inverse) - np.float32(1)))
    return StoredScales(d, lib.where(empty[..., None], 0, lib.clip(scales, 0, top)), empty)
