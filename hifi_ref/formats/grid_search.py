"""The search for scales and grid rows that the codebook formats share; scale_search is its counterpart for equal steps.

A group of 8 or 4 magnitudes is first rounded to a **point**: a digit a magnitude, of 2 bits (steps 1, 3, 5) or 3 bits
(1, 3 to 15), packed into one integer. Few points are rows of the grid. For every other point a list holds the rows near
it: all at the smallest distance, then all at the next, as many different distances as the format asks for, each in grid
order. Of the list the row with the least weighted squared error is taken, the first of equals. Where all errors are
infinite or no numbers, the release stops the process; defined here as the first.

Elements of a sub-block lie on the leading axis, sub-blocks on the last; groups split the leading axis.

Source: iq2xs_init_impl, iq3xs_init_impl, iq2_find_best_neighbour, iq3_find_best_neighbour and the quantize_row_iq*_impl
(ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, is_faint, mul, nearest_int
from hifi_ref.formats import codebooks, scale_search

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32, Int32, UInt8, UInt16


# NEIGHBOURS


class Book(NamedTuple):
    """The lists of a grid, by point; a point of the grid has a list with itself alone."""

    width: int  # digits a point
    bits: int  # bits a digit
    top: int  # largest digit
    start: Int32[np.ndarray, "points"]
    count: Int32[np.ndarray, "points"]
    rows: UInt16[np.ndarray, "entries"]  # the lists, one after the other, as points
    distance: UInt8[np.ndarray, "entries"]  # of the row from the point, in steps, squared
    index: UInt16[np.ndarray, "points"]  # the row number of a point of the grid

    def digits(self, points: Int32[Array, "*n"]) -> list[Int32[Array, "*n"]]:
        return [points >> (self.bits * i) & (2**self.bits - 1) for i in range(self.width)]


@functools.cache
def book(name: str, distances: int) -> Book:
    """The lists of all rows within the first so many different distances of each point."""
    grid = codebooks.grid(name)
    width = grid.shape[1]
    values, digits = np.unique(grid, return_inverse=True)
    digits = digits.reshape(grid.shape).astype(np.float32)
    bits = 2 if len(values) == 3 else 3
    powers = 1 << bits * np.arange(width)

    # DISTANCES of all points to all rows: |p|^2 + |g|^2 - 2 p g, small integers
    points = np.indices((len(values),) * width).reshape(width, -1).T.astype(np.float32)
    distance = (points**2).sum(axis=1)[:, None] + (digits**2).sum(axis=1) - 2 * (points @ digits.T)
    farthest = distance.min(axis=1)
    for _ in range(distances - 1):
        farthest = np.where(distance > farthest[:, None], distance, np.inf).min(axis=1)
    farthest = np.where(distance.min(axis=1) == 0, 0, farthest)

    # LISTS, by distance, then by row
    of_point, of_row = np.nonzero(distance <= farthest[:, None])
    order = np.lexsort((of_row, distance[of_point, of_row], of_point))
    packed = (points.astype(np.int64) @ powers).astype(np.int32)
    row_points = (digits.astype(np.int64) @ powers).astype(np.int32)
    size = packed.max() + 1
    count, start, index = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.uint16)
    counts = np.bincount(of_point, minlength=len(points))
    count[packed], start[packed] = counts, np.cumsum(counts) - counts
    index[row_points] = np.arange(len(grid))
    rows, near = row_points[of_row[order]].astype(np.uint16), distance[of_point, of_row][order].astype(np.uint8)
    return Book(width, bits, len(values) - 1, start, count, rows, near, index)


class Target(NamedTuple):
    """What the rows are to come near: x[i] ~ scale * (slope * digit i + offset), squared errors counting w[i]."""

    x: list[Float32[Array, "*n"]]
    w: list[Float32[Array, "*n"]]
    scale: Float32[Array, "*n"]
    slope: int
    offset: Float32[Array, "*n"] | np.float32

    def error(self, i: int, digit: Int32[Array, "*n"] | int) -> Float32[Array, "*n"]:
        step = np.float32(self.slope) * (np.float32(digit) if isinstance(digit, int) else f32(digit)) + self.offset
        diff = mul(self.scale, step) - self.x[i]
        return mul(self.w[i] * diff, diff)


def nearest_row(book: Book, points: Int32[Array, "*n"], target: Target) -> Int32[Array, "*n"]:
    """The row of each point's list with the least sum of errors, added first digit to last; as a point."""
    if exact.is_jax(points):
        return _nearest_row_jax(book, points, target)
    flat = points.reshape(-1)
    n = len(flat)
    count = book.count[flat]
    first = np.cumsum(count) - count
    # All pairs of a point and an entry of its list, side by side
    lane = np.repeat(np.arange(n), count)
    entry = np.arange(len(lane)) + np.repeat(book.start[flat] - first, count)
    total = np.float32(0)
    for i, digit in enumerate(book.digits(book.rows[entry].astype(np.int32))):
        errors = np.stack([target.error(i, v).reshape(-1) for v in range(book.top + 1)])
        total = total + errors.reshape(-1)[digit * n + lane]
    least = np.fmin.reduceat(total, first)
    candidate = np.where(total == np.repeat(least, count), entry, len(book.rows))
    winner = np.minimum.reduceat(candidate, first)
    winner = np.where(least < np.finfo(np.float32).max, winner, book.start[flat])
    return book.rows[winner].astype(np.int32).reshape(points.shape)


# How the JAX lane goes through the lists, by digits a point: from which entry on, in batches of how many lanes, how
# many entries at a time. The first stage takes all lanes at once, the others those that are still open.
_STAGES = {8: ((0, 0, 1), (12, 4096, 1), (32, 2048, 2), (96, 512, 8)), 4: ((0, 0, 1), (6, 8192, 1), (12, 2048, 2))}


def _nearest_row_jax(book, points, target):
    """nearest_row by entries, all lanes side by side; a lane is closed once no entry to come can have a lesser sum."""
    jax = sys.modules["jax"]
    jnp, lax = jax.numpy, jax.lax
    n = points.size
    offset = jnp.broadcast_to(target.offset, points.shape)
    carried = [a.reshape(-1) for a in (points, target.scale + 0 * target.x[0], offset, *target.x, *target.w)]
    # A loop that never turns, for the compiler cannot know it: what it carries is computed once, not at every use
    never = (carried[0][0] < 0).astype(np.int32)
    flat, *carried = lax.fori_loop(0, never, lambda i, arrays: [a + 1 for a in arrays], carried)
    rows, distance = jnp.asarray(book.rows), jnp.asarray(book.distance)

    def aim(arrays):
        scale, offset, *pairs = arrays
        return Target(pairs[: book.width], pairs[book.width :], scale, target.slope, offset)

    def look(table, at):
        return table.at[at].get(mode="promise_in_bounds")

    def search(target, start, count, first, last, stride, state):
        def entries(k):
            j = first + stride * k
            return [look(rows, jnp.minimum(start + j + i, len(book.rows) - 1)) for i in range(stride)]

        def judge(codes, totals, best, least):
            for code, total in zip(codes, totals, strict=True):
                best, least = jnp.where(total < least, code, best), jnp.where(total < least, total, least)
            return best, least

        def step(k, state):
            # Sums are judged, and entries fetched, a turn apart from the arithmetic, so that each is done only once
            codes, judged_codes, judged, best, least = state
            totals = []
            for j, code in enumerate(codes):
                total = jnp.float32(0)
                for i, digit in enumerate(book.digits(code.astype(np.int32))):
                    total = total + target.error(i, digit)
                totals.append(jnp.where(first + stride * k + j < count, total, np.inf))
            return entries(k + 1), codes, totals, *judge(judged_codes, judged, best, least)

        codes = entries(0)
        none = [jnp.full(codes[0].shape, np.inf, np.float32)] * stride
        state = lax.fori_loop(0, -(-(last - first) // stride), step, (codes, codes, none, *state))
        return judge(*state[1:])

    start, count = look(jnp.asarray(book.start), flat), look(jnp.asarray(book.count), flat)
    longest = int(book.count.max())
    state = look(rows, start), jnp.full(n, np.finfo(np.float32).max, np.float32)
    floor = _least_possible(book, flat, aim(carried))
    stages = _STAGES[book.width]
    ends = [min(first, longest) for first, _, _ in stages[1:]] + [longest]
    for (first, batch, stride), last in zip(stages, ends, strict=True):
        if first == 0:
            state = search(aim(carried), start, count, first, last, stride, state)
        elif first < longest:
            batch = min(batch, n)
            to_come = look(distance, jnp.minimum(start + first, len(book.rows) - 1))
            # NaN leaves a lane open
            is_open = (count > first) & ~(floor(to_come) * np.float32(1 - 2.0**-16) > state[1])
            # The open lanes, side by side, then n as a lane that is none
            ranks = lax.associative_scan(jnp.add, is_open.astype(np.int32))
            places = jnp.where(is_open, ranks - 1, n + batch)
            lanes = jnp.full(n + batch, n, np.int32).at[places].set(jnp.arange(n, dtype=np.int32), mode="drop")

            def go_on(b, state, lanes=lanes, first=first, last=last, batch=batch, stride=stride):
                mine = lax.dynamic_slice(lanes, (b * batch,), (batch,))
                at = jnp.minimum(mine, n - 1)
                few = aim([look(a, at) for a in carried])
                part = tuple(look(s, at) for s in state)
                part = search(few, look(start, at), look(count, at), first, last, stride, part)
                return tuple(s.at[mine].set(p, mode="drop") for s, p in zip(state, part, strict=True))

            state = lax.fori_loop(0, (ranks[-1] + batch - 1) // batch, go_on, state)
    return state[0].astype(np.int32).reshape(points.shape)


def _least_possible(book, points, target):
    """A function of D: what the sum of errors must at least be for a row at distance D or more from the point.

    Distance is the sum of squared differences of digits. If each digit of the point has its least error, or that is
    taken for it, and a digit that differs by k adds at least k^2 c[i], then a distance of 1, 2 or 3 needs as many
    digits that differ, and any other distance D adds at least D times the smallest c. Only digits 0, 1, 2 are worth
    the arithmetic; for others nothing is promised. Rounding of the sums is far below the 2^-16 that the caller allows
    for.
    """
    lib = exact.library(points)
    if book.top != 2:
        return lambda distance: np.float32(-np.inf)
    steps, least, quarter = [], [], np.float32(0.25)
    for i, digit in enumerate(book.digits(points)):
        e0, e1, e2 = (target.error(i, v) for v in range(3))
        step = lib.where(
            digit == 0, lib.minimum(e1 - e0, (e2 - e0) * quarter),
            lib.where(digit == 1, lib.minimum(e0, e2) - e1, lib.minimum(e1 - e2, (e0 - e2) * quarter)),
        )  # fmt: skip
        steps.append(lib.maximum(step, np.float32(0)))
        least.append(lib.minimum(lib.minimum(e0, e1), e2))
    steps, least = lib.stack(steps), lib.stack(least)

    def insert(i, state):
        base, first, second, third = state
        step = steps[i]
        return (
            base + least[i],
            lib.minimum(first, step),
            lib.minimum(second, lib.maximum(first, step)),
            lib.minimum(third, lib.maximum(second, step)),
        )

    none = lib.full(points.shape, np.inf, np.float32)
    base, first, second, third = fold(book.width, insert, (lib.zeros(points.shape, np.float32), none, none, none))

    def floor(distance):
        two = first + second
        few = lib.where(distance == 2, two, two + third)
        several = first * f32(lib.maximum(distance, np.uint8(4)))
        return base + lib.where(distance == 1, first, lib.where(distance < 4, lib.minimum(few, several), several))

    return floor


# FIT


class GridFit(NamedTuple):
    """A scale for each sub-block, the rows of its groups as points, and where underflow is excluded."""

    scale: Float32[Array, "subs"]
    points: Int32[Array, "groups subs"]
    clear: Bool[Array, "subs"]


def fit(
    book: Book,
    x: Float32[Array, "n subs"],
    w: Float32[Array, "n subs"],
    start: Float32[Array, "subs"],
    peak: Float32[Array, "subs"],
    trials: Float32[np.ndarray, "trials"],
    again: str,
) -> GridFit:
    """x ~ scale * q with q on the grid: the best of trial scales peak / trial, and then the rows again for that scale.

    A trial rounds x to points, takes the nearest rows, errors weighted by sqrt(w), and from these rows the scale that
    minimises sum w (x - scale q)^2; the best has the largest (sum w x q)^2 / (sum w q^2). ``again`` says which groups
    get new rows at last: "all", "strays" (those whose point was not on the grid when their trial won), or "all if
    strays", where a group that no trial won counts as a stray.

    Clear: see _is_clear.
    """
    lib = exact.library(x)
    n, subs = x.shape
    grouped = x.reshape(-1, book.width, subs)
    root = exact.sqrt(w).reshape(grouped.shape)
    wx = mul(w, x)
    zero = lib.zeros(subs, np.float32)

    def rows_for(scale, inverse):
        rounded = nearest_int(np.float32(0.5) * (mul(grouped, inverse) - np.float32(1)))
        digits = lib.clip(rounded, 0, book.top)
        points = sum(digits[:, i] << (book.bits * i) for i in range(book.width))
        parts, roots = ([a[:, i] for i in range(book.width)] for a in (grouped, root))
        target = Target(parts, roots, scale, 2, np.float32(1))
        rows = nearest_row(book, points, target)
        return rows, rows == points

    def sums(points):
        q = f32(2 * lib.stack(book.digits(points), axis=1).reshape(n, subs) + 1)

        def add(i, total):
            return total[0] + mul(wx[i], q[i]), total[1] + mul(mul(w[i], q[i]), q[i])

        return fold(n, add, (zero, zero), unroll=8)

    def attempt(k, state):
        scale, best, points, on_grid, lost = state
        inverse = div(trial_steps[k], peak)
        new_points, new_on_grid = rows_for(div(np.float32(1), inverse), inverse)
        qx, q2 = sums(new_points)
        gain, bar = mul(qx, qx), mul(best, q2)
        better = (q2 > 0) & (gain > bar)
        new_scale = div(qx, lib.where(better, q2, np.float32(1)))
        new_best = mul(new_scale, qx)
        lost = lost | (is_faint(gain) & (qx != 0)) | (is_faint(bar) & (best != 0) & (q2 != 0))
        lost = lost | (better & (is_faint(new_scale) | is_faint(new_best)))
        return (
            lib.where(better, new_scale, scale),
            lib.where(better, new_best, best),
            lib.where(better, new_points, points),
            lib.where(better, new_on_grid, on_grid),
            lost,
        )

    trial_steps = lib.asarray(trials)
    points = lib.zeros((n // book.width, subs), np.int32)
    state = (start, zero, points, (points == 0) & (again == "strays"), zero != 0)
    scale, _, points, on_grid, lost = fold(len(trials), attempt, state)

    # AGAIN
    renew = ~on_grid
    if again == "all":
        renew = renew | True
    elif again == "all if strays":
        renew = renew.any(axis=0) | (renew & False)
    renew = renew & (scale > 0)
    inverse = div(np.float32(1), lib.where(scale > 0, scale, np.float32(1)))
    points = lib.where(renew, rows_for(scale, inverse)[0], points)
    qx, q2 = sums(points)
    renewed = renew.any(axis=0) & (q2 > 0)
    new_scale = lib.where(renewed, div(qx, lib.where(renewed, q2, np.float32(1))), scale)
    lost = lost | (renewed & is_faint(new_scale) & (qx != 0))
    return GridFit(new_scale, points, ~lost & _is_clear(x, w, scale, peak, trials))


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
        cheapest = lib.argmin(cost, axis=1)[:, None] == lib.arange(8)[:, None]
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
    whole = x.reshape(-1, 256).T
    total = exact.sum_in_order(mul(whole, whole)) * np.float32(2 if doubled else 1)
    mean_square = lib.repeat(div(total, np.float32(256)), 256 // sub)
    columns = x.reshape(-1, sub).T
    if weights is None:
        least = exact.exponent(exact.least_magnitude(columns, axis=0))
        return columns, None, mean_square, least >= -60
    qw = lib.broadcast_to(weights, x.shape).reshape(-1, sub).T
    w, clear = scale_search.importance(columns, qw, mean_square)
    return columns, w, mean_square, clear


def trial_steps(count: int, step: float, top: int) -> Float32[np.ndarray, "trials"]:
    """2 top + 1, the step of the largest digit, and as many trials around it on each side."""
    return np.float32(2 * top + 1) + np.float32(step) * np.arange(-count, count + 1, dtype=np.float32)


def fit_from_peak(
    book: Book,
    x: Float32[Array, "n subs"],
    w: Float32[Array, "n subs"],
    nothing: Bool[Array, "subs"],
    trials: Float32[np.ndarray, "trials"],
    again: str,
) -> GridFit:
    """fit around the scale that puts the largest magnitude on the largest step; ``nothing`` marks those to skip."""
    lib = exact.library(x)
    peak = lib.where(nothing, np.float32(1), lib.max(x, axis=0))
    return fit(book, x, w, div(peak, np.float32(2 * book.top + 1)), peak, trials, again)


class Choice(NamedTuple):
    """What a fit found, in block order; sub-blocks with nothing in them have scale, row numbers and signs 0."""

    scale: Float32[Array, "rows blocks subs"]
    index: Int32[Array, "rows blocks groups"]
    signs: Int32[Array, "rows blocks 32"]
    clear: Bool[Array, "rows blocks"]


def choose(
    book: Book,
    fit: GridFit,
    signs: UInt8[Array, "bytes subs"],
    nothing: Bool[Array, "subs"],
    clear: Bool[Array, "subs"],
    shape: tuple[int, int],
) -> Choice:
    """The fit of all sub-blocks by super-block. A scale below 0 turns all signs; 7-bit codes keep the lower ones."""
    lib = exact.library(fit.scale)
    index = lib.take(lib.asarray(book.index), fit.points, mode="clip").astype(np.int32)
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
