"""The searches for scales, each named for what it minimises, over many sub-blocks at once.

Elements lie on the leading axis, sub-blocks on all others: x[i] is weight i of every sub-block. Sums run over the
leading axis first to last, because float addition does not associate and the bits of the reference follow C's order.

Each search also returns ``clear``: true for sub-blocks whose every product and quotient is zero by its operands or at
least 2^-126 in size, so that arithmetic which flushes subnormals to zero gives the same bits. The argument is always
the same. A nonzero float v is a multiple of 2^(e(v)-23), hence so is any sum or difference in which it is the finest
operand; so a nonzero difference of values of at least 2^e is at least 2^(e-23). Where that bound is not enough, the
product itself is watched. A product below 2^-126 that only feeds nearest_int rounds to 0 either way and needs no proof.

Sources: make_qx_quants, make_q3_quants, make_qkx2_quants, make_qkx3_quants, make_qp_quants (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, is_faint, mul, nearest_int, pair, rounded_code, running_sums, unpair, wall

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32, Int32


# The weight of the squared error of element i of every sub-block: a function, because computing it anew from x can cost
# less than loading it.
Weight = Callable[[Any], "Float32[Array, 'subs']"]

# Below this largest magnitude a group counts as all zero.
NOTHING = np.float32(1e-15)


class Fit(NamedTuple):
    """A scale for each sub-block, the codes it gives, and where underflow is excluded."""

    scale: Float32[Array, "subs"]
    codes: Int32[Array, "n subs"]
    clear: Bool[Array, "subs"]


class FitWithMin(NamedTuple):
    """The same with a min: weights are about scale * code - min, min >= 0."""

    scale: Float32[Array, "subs"]
    min: Float32[Array, "subs"]
    codes: Int32[Array, "n subs"]
    clear: Bool[Array, "subs"]


def extreme(x: Float32[Array, "n *subs"], axis: int = 0) -> Float32[Array, "*subs"]:
    """The element of largest magnitude along an axis, sign kept; of equals the first; +0 where all are zero."""
    lib = exact.library(x)
    x = lib.moveaxis(x, axis, 0)

    def step(i, best):
        return lib.where(abs(x[i]) > abs(best), x[i], best)

    return fold(x.shape[0], step, lib.zeros(x.shape[1:], np.float32), unroll=8)


def _lost(product, *factors):
    """True where a product underflowed: faint although no factor is."""
    lost = is_faint(product)
    for factor in factors:
        lost = lost & ~is_faint(factor)
    return lost


def least_weighted_square_error(x: Float32[Array, "n subs"], w: Weight, top: int) -> Fit:
    """x ~ scale * (code - top), code in 0..2*top-1: best of 19 scales around the one that puts the extreme on code 0.

    Minimises sum w (x - scale l)^2, which for the best scale means maximising (sum w x l)^2 / (sum w l^2).

    Clear: nonzero sums of w*x*l are at least 2^(e(w)+e(x)-23), those of w*l*l at least 2^(e(w)-23); the quotients and
    products of these sums are watched.
    """
    lib = exact.library(x)
    peak = extreme(x)
    nothing = abs(peak) < NOTHING
    peak = lib.where(nothing, np.float32(1), peak)
    mul = exact.sealed_by(peak)

    def sums(inverse):
        def terms(i):
            code, wi = rounded_code(mul(x[i], inverse), -top, top - 1), w(i)
            return mul(mul(x[i], wi), code), mul(mul(wi, code), code)

        return running_sums(x.shape[0], terms)

    inverse = div(np.float32(-top), peak)
    xl, l2 = sums(inverse)
    scale = lib.where(l2 != 0, div(xl, lib.where(l2 != 0, l2, np.float32(1))), np.float32(0))
    best = mul(scale, xl)
    lost = _lost(best, xl)

    steps = lib.asarray(np.float32(0.1) * np.array([*range(-9, 0), *range(1, 10)], np.float32))

    def attempt(k, state):
        scale, best, inverse, lost = state
        trial = div(-(np.float32(top) + steps[k]), peak)
        xl, l2 = sums(trial)
        gain, bar = mul(xl, xl), mul(best, l2)
        better = wall((l2 > 0) & (gain > bar))
        new_scale = div(xl, lib.where(better, l2, np.float32(1)))
        new_best = mul(new_scale, xl)
        lost = lost | _lost(gain, xl) | _lost(bar, best, l2) | (better & _lost(new_best, xl))
        return (
            lib.where(better, new_scale, scale),
            lib.where(better, new_best, best),
            lib.where(better, trial, inverse),
            lost,
        )

    scale, _, inverse, lost = fold(len(steps), attempt, (scale, best, inverse, lost))
    codes = lib.where(nothing, 0, exact.i32(rounded_code(mul(x, inverse), -top, top - 1)) + top)
    ex, ew = _least_exponents(x.shape[0], x.__getitem__, w)
    clear = ~lost & (ex + ew >= -100) & (ex >= -100) & (ew >= -100) & _all_finite(x)
    return Fit(lib.where(nothing, np.float32(0), scale), codes, nothing | clear)


def importance(
    x: Float32[Array, "n subs"], qw: Float32[Array, "n subs"], mean_square: Float32[Array, "subs"]
) -> tuple[Float32[Array, "n subs"], Bool[Array, "subs"]]:
    """The weight of each squared error, qw * sqrt(mean_square + x^2), and where it did not underflow.

    mean_square belongs to the row or super-block, so that large weights count more, but not without bound.
    """
    root = exact.sqrt(mean_square + mul(x, x))
    w = wall(mul(root, qw))

    some = exact.bits(mean_square) != 0

    def add(i, lost):
        return lost | (is_faint(w[i]) & (exact.bits(qw[i]) != 0) & some)

    lost = fold(x.shape[0], add, some & False, unroll=8)
    return w, ~lost & squares_clear(x)


def squares_clear(x: Float32[Array, "n subs"]) -> Bool[Array, "subs"]:
    """Whether all squares are zero or at least 2^-100, and so their mean over a row of 2^20 at least 2^-120."""
    (ex,) = _least_exponents(x.shape[0], x.__getitem__)
    return ex >= -50


def least_error_in_rows(x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"], top: int) -> Fit:
    """least_weighted_square_error for blocks of a row, with importance relative to the row's mean square.

    Codes come as [rows, blocks, n].
    """
    columns, w, shape, clear = _columns_of_rows(x, qw)
    fit = least_weighted_square_error(columns, w.__getitem__, top)
    return Fit(fit.scale.reshape(shape), fit.codes.T.reshape(x.shape), (fit.clear & clear).reshape(shape))


def least_error_with_min_in_rows(
    x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"], top: int
) -> FitWithMin:
    """least_error_with_min for blocks of a row, 37 trials; see least_error_in_rows."""
    columns, w, shape, clear = _columns_of_rows(x, qw)
    fit = least_error_with_min(columns, w.__getitem__, top, -0.9, 0.05, 36)
    clear = (fit.clear & clear).reshape(shape)
    return FitWithMin(fit.scale.reshape(shape), fit.min.reshape(shape), fit.codes.T.reshape(x.shape), clear)


def _columns_of_rows(x, qw):
    lib = exact.library(x)
    rows, blocks, n = x.shape
    row = exact.columns(x, blocks * n)
    squares = exact.sum_in_order(mul(row, row))
    mean_square = div(squares, np.float32(blocks * n))
    (ex,) = _least_exponents(row.shape[0], row.__getitem__)
    columns = exact.columns(x, n)
    qw = exact.columns(lib.broadcast_to(qw, x.shape), n)
    w, clear = importance(columns, qw, lib.repeat(mean_square, blocks))
    return columns, w, (rows, blocks), clear & lib.repeat(ex >= -50, blocks)


def _least_exponents(n, *elements):
    """For each function of i: the exponent of the smallest nonzero magnitude over i = 0..n-1; 128 if all are zero."""

    def smaller(i, least):
        return tuple(exact.library(m).minimum(m, exact.rank(of(i))) for m, of in zip(least, elements, strict=True))

    ranks = fold(n, smaller, tuple(exact.rank(of(0)) for of in elements), unroll=8)
    return tuple(exact.exponent(exact.unrank(rank)) for rank in ranks)


def _all_finite(x):
    """The scales that a search is given may have overflowed; rounded_code then parts from C."""
    return fold(x.shape[0], lambda i, finite: finite & (abs(x[i]) < np.inf), x[0] == x[0], unroll=8)


def least_square_error_by_single_steps(x: Float32[Array, "n subs"], top: int) -> Fit:
    """x ~ scale * (code - top): start from the extreme on code 0, then move one code at a time while it helps.

    Maximises (sum w x l)^2 / (sum w l^2) with w = x^2, in at most five passes.
    """
    lib = exact.library(x)
    peak = extreme(x)
    nothing = abs(peak) < NOTHING
    inverse = div(np.float32(-top), lib.where(nothing, np.float32(1), peak))
    codes = exact.i32(rounded_code(mul(x, inverse), -top, top - 1))
    codes, xl, l2 = _improve_by_single_steps(x, mul(x, x), codes, codes, -top, top - 1)
    some = (l2 > 0) & ~nothing
    scale = lib.where(some, div(xl, lib.where(some, l2, np.float32(1))), np.float32(0))
    (ex,) = _least_exponents(x.shape[0], x.__getitem__)
    # The smallest factor outside the watched products is x * (sum - w l l), at least 2^(ex + 2 ex - 23).
    return Fit(scale, lib.where(nothing, 0, codes + top), nothing | ((xl == xl) & (ex >= -34)))


def _improve_by_single_steps(x, w, codes, counted, low, high, above_zero=False):
    """At most five passes over the elements: each takes the code that is best with all others fixed, if that helps.

    Maximises xl^2 / l2 with xl = sum w x l, l2 = sum w l^2. Returns codes, xl and l2, updated step by step as C does
    and never summed anew. The sums begin from the codes ``counted``, which differ from ``codes`` where a byte wrapped;
    ``above_zero``: codes are kept in a byte, and the rest of both sums must stay positive.
    """
    lib = exact.library(x)
    n = x.shape[0]

    def terms(i):
        code = f32(counted[i])
        return mul(mul(w[i], x[i]), code), mul(mul(w[i], code), code)

    def move(x, w, old, sums):
        xl, l2 = unpair(sums)
        wx = mul(w, x)
        rest_xl, rest_l2 = xl - mul(wx, old), l2 - mul(mul(w, old), old)
        possible = rest_xl > 0
        if above_zero:
            possible = possible & (rest_l2 > 0)
        ratio = div(mul(x, rest_l2), lib.where(possible, rest_xl, np.float32(1)))
        new = f32(lib.clip(nearest_int(ratio), low, high))
        new_xl, new_l2 = rest_xl + mul(wx, new), rest_l2 + mul(mul(w, new), new)
        gain, bar = mul(mul(new_xl, new_xl), l2), mul(mul(xl, xl), new_l2)
        tried = possible & (new != old) & (new_l2 > 0)
        better = tried & (gain > bar)
        faint = tried & (is_faint(gain) | is_faint(bar))
        kept = f32(exact.i32(new) & 255) if above_zero else new
        xl = exact.poison(lib.where(better, new_xl, xl), faint)
        l2 = exact.poison(lib.where(better, new_l2, l2), faint)
        return wall(lib.where(better, kept, old), pair(xl, l2))

    def passes(most, unroll, x, w, codes, sums):
        def step(i, state):
            codes, sums = state
            row, sums = move(x[i], w[i], codes[i], sums)
            return exact.with_row(codes, i, row), sums

        def a_pass(state):
            codes, sums, _ = state
            xl, l2 = unpair(sums)
            codes, sums = fold(n, step, (codes, sums), unroll)
            new_xl, new_l2 = unpair(sums)
            # Not the codes: one that wraps around can come back to its byte and still have moved the sums.
            return codes, sums, (new_xl != xl) | (new_l2 != l2)

        start = (codes, sums, lib.ones(codes.shape[1:], bool))
        return exact.repeat(most, a_pass, start, going_on=lambda state: state[2].any())

    codes, sums, changed = passes(1, 4, x, w, f32(codes), pair(*running_sums(n, terms)))
    # Few sub-blocks change in the first pass, and only these can change again.
    codes, sums = exact.where_needed(changed, lambda *rest: passes(4, 1, *rest)[:2], (x, w), (codes, sums))
    return exact.i32(codes), *unpair(sums)


def least_error_with_min(
    x: Float32[Array, "n subs"],
    w: Weight,
    top: int,
    first: float,
    step: float,
    steps: int,
    absolute: bool = False,
) -> FitWithMin:
    """x ~ scale * code - min, code in 0..top: weighted linear regression on the codes of ``steps + 1`` trial scales.

    Trial k divides the range into top + first + step*k parts, rounds the weights to codes, then solves for the scale
    and min that minimise sum w (scale*code - min - x)^2 given these codes; the error that decides between trials is
    that sum, or sum w |...| where ``absolute``. A min that would be negative becomes 0. Each trial starts from the
    best min so far.

    Clear: no trial reaches beyond 2^21 parts, where rounded_code parts from C; and with every nonzero abs(x), scale and
    min at least 2^e, and w at least 2^f, the smallest products are diff*diff >= 2^(2(e - 23)), however large w is, then
    w*diff*diff >= 2^(f + 2(e - 23)), and the cross products of sums, whose difference is at least 2^(2f + e - 47).
    """
    lib = exact.library(x)
    n = x.shape[0]
    zero = lib.zeros(x.shape[1:], np.float32)
    mul = exact.sealed_by(x[0])

    def totals(i, state):
        low, high, sum_w, sum_x = state
        return (
            lib.where(x[i] < low, x[i], low),
            lib.where(x[i] > high, x[i], high),
            sum_w + w(i),
            sum_x + mul(x[i], w(i)),
        )

    # Not from 0: 0 + -0 would lose the sign of a zero, which the min inherits.
    first_terms = (x[0], x[0], w(0), mul(x[0], w(0)))
    low, high, sum_w, sum_x = fold(n - 1, lambda i, state: totals(i + 1, state), first_terms, unroll=8)
    lowest = low
    low = lib.where(low > 0, np.float32(0), low)
    flat = high <= low
    span = lib.where(flat, np.float32(1), high - low)

    def error_of(scale, minimum, inverse, base):
        def terms(i):
            code = rounded_code(mul(x[i] - base, inverse), 0, top)
            diff = mul(scale, code) + minimum - x[i]
            return (mul(w(i), abs(diff) if absolute else mul(diff, diff)),)

        return running_sums(n, terms)[0]

    inverse = div(np.float32(top), span)
    scale = div(np.float32(1), inverse)
    best = error_of(scale, low, inverse, low)
    steps_float = np.float32(step) * np.arange(steps + 1, dtype=np.float32)
    parts = lib.asarray((np.float32(first) + steps_float) + np.float32(top))
    lightest = lib.minimum(scale, np.float32(np.inf))

    def attempt(k, state):
        scale, low, best, best_inverse, best_base, lightest, farthest = state
        inverse = div(parts[k], lib.where(flat, np.float32(1), high - low))
        reach = abs(inverse) * lib.maximum(abs(high - low), abs(lowest - low))

        def terms(i):
            code = rounded_code(mul(x[i] - low, inverse), 0, top)
            wl = mul(w(i), code)
            return mul(wl, code), mul(x[i], wl), wl

        l2, xl, l1 = running_sums(n, terms)
        det = mul(sum_w, l2) - mul(l1, l1)
        solvable = det > 0
        safe_det = lib.where(solvable, det, np.float32(1))
        scale_part = mul(sum_w, xl) - mul(sum_x, l1)
        min_part = mul(l2, sum_x) - mul(l1, xl)
        trial_scale, trial_min = div(scale_part, safe_det), div(min_part, safe_det)
        positive = trial_min > 0
        slope = div(xl, lib.where(positive, l2, np.float32(1)))
        trial_scale = lib.where(positive, slope, trial_scale)
        trial_min = lib.where(positive, np.float32(0), trial_min)
        trial_scale, trial_min = wall(trial_scale, trial_min)
        error = error_of(trial_scale, trial_min, inverse, low)
        better = wall(solvable & (error < best))
        # A quotient that is faint although its dividend is not counts as magnitude 0, which clears nothing.
        watched = lib.minimum(
            lib.where(lib.where(positive, xl, scale_part) != 0, abs(trial_scale), np.float32(np.inf)),
            lib.where(positive | (min_part == 0), np.float32(np.inf), abs(trial_min)),
        )
        return (
            lib.where(better, trial_scale, scale),
            lib.where(better, trial_min, low),
            lib.where(better, error, best),
            lib.where(better, inverse, best_inverse),
            lib.where(better, low, best_base),
            lib.where(solvable, lib.minimum(lightest, watched), lightest),
            lib.maximum(farthest, reach),
        )

    state = (scale, low, best, inverse, low, lightest, zero)
    scale, low, _, inverse, base, lightest, farthest = fold(steps + 1, attempt, state)
    codes = lib.where(flat, 0, exact.i32(rounded_code(mul(x - base, inverse), 0, top)))
    ex, ew = _least_exponents(n, x.__getitem__, w)
    e = lib.minimum(ex, exact.exponent(lightest))
    clear = (e >= -40) & (ew + 2 * e >= -78) & (2 * ew + ex >= -78) & (ex + ew >= -100) & (ew >= -50)
    moderate = (lib.maximum(abs(lowest), abs(high)) < np.float32(2.0**40)) & (farthest < np.float32(2.0**21))
    return FitWithMin(lib.where(flat, np.float32(0), scale), -low, codes, clear & moderate)


def least_weighted_square_error_from_zero(
    x: Float32[Array, "n blocks"], w: Float32[Array, "n blocks"], top: int
) -> Fit:
    """x ~ scale * code, code in 0..top, for x that should not be negative: the scales and mins of a super-block.

    The best of nine scales by sum w (x - scale*code)^2, then at most five passes that move one code at a time. Codes
    are kept in a byte, so a negative x wraps around as it does in C.
    """
    lib = exact.library(x)
    n = x.shape[0]
    zero = lib.zeros(x.shape[1:], np.float32)

    def larger(i, peak):
        return lib.where(peak > x[i], peak, x[i])

    peak = fold(n, larger, zero, unroll=8)
    nothing = peak < NOTHING
    peak = lib.where(nothing, np.float32(1), peak)

    def error_of(inverse, bound):
        scale = div(np.float32(1), inverse)

        def terms(i):
            code = nearest_int(mul(x[i], inverse))
            code = lib.minimum(code, top) if bound else code & 255
            diff = x[i] - mul(scale, f32(code))
            return (mul(mul(w[i], diff), diff),)

        return running_sums(n, terms)[0]

    inverse = div(np.float32(top), peak)
    best = error_of(inverse, bound=False)
    steps = lib.asarray(np.float32(0.1) * np.array([-4, -3, -2, -1, 1, 2, 3, 4], np.float32) + np.float32(top))

    def attempt(k, state):
        inverse, best = state
        trial = div(steps[k], peak)
        error = error_of(trial, bound=True)
        return lib.where(error < best, trial, inverse), lib.where(error < best, error, best)

    inverse, _ = fold(len(steps), attempt, (inverse, best))
    start = lib.minimum(nearest_int(mul(x, inverse)), top)
    codes, xl, l2 = _improve_by_single_steps(x, w, start & 255, start, -(2**22), top, above_zero=True)
    some = (l2 > 0) & ~nothing
    scale = lib.where(some, div(xl, lib.where(some, l2, np.float32(1))), np.float32(0))
    ex, ew = _least_exponents(n, x.__getitem__, w.__getitem__)
    # The finest scale tried is at least peak / (top + 1).
    e = lib.minimum(ex, exact.exponent(peak) - 8)
    clear = (xl == xl) & (ew + 2 * e >= -78) & (ex + ew >= -78) & (ew >= -100)
    return Fit(scale, lib.where(nothing, 0, codes), nothing | clear)
