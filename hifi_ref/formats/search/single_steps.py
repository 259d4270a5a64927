"""Searches for a scale that end with passes over the codes: each takes one step where that lessens the error.

Layout, order of sums and ``clear`` are those of scale_search.

Sources: make_q3_quants, make_qp_quants (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, is_faint, mul, nearest_int, pair, rounded_code, running_sums, unpair, wall
from hifi_ref.formats.search.scale_search import NOTHING, Fit, extreme, least_exponents

if TYPE_CHECKING:
    from jaxtyping import Array, Float32


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
    (ex,) = least_exponents(x.shape[0], x.__getitem__)
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
    ex, ew = least_exponents(n, x.__getitem__, w.__getitem__)
    # The finest scale tried is at least peak / (top + 1).
    e = lib.minimum(ex, exact.exponent(peak) - 8)
    clear = (xl == xl) & (ew + 2 * e >= -78) & (ex + ew >= -78) & (ew >= -100)
    return Fit(scale, lib.where(nothing, 0, codes), nothing | clear)
