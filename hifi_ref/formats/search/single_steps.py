"""Searches for a scale that end with passes over the codes: each takes one step where that lessens the error.

Layout and order of sums are those of scale_search.

Sources: make_q3_quants, make_qp_quants (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, mul, nearest_int, product, ratio, rounded_code, running_sums, score
from hifi_ref.formats.search.scale_search import NOTHING, Fit, extreme

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from hifi_ref.exact import Array


def least_square_error_by_single_steps(x: Float32[Array, "n subs"], top: int) -> Fit:
    """x ~ scale * (code - top): start from the extreme on code 0, then move one code at a time while it helps.

    Minimises sum w (x - scale l)^2 with w = x^2, which means maximising (sum w x l)^2 / (sum w l^2).
    """
    lib = exact.library(x)
    peak = extreme(x)
    nothing = lib.abs(peak) < NOTHING
    inverse = div(np.float32(-top), lib.where(nothing, np.float32(1), peak))
    codes = exact.i32(rounded_code(product(x, inverse), -top, top - 1))
    codes, xl, l2 = improve_by_single_steps(x, exact.rounded(mul(x, x)), codes, codes, -top, top - 1)
    some = (l2 > 0) & ~nothing
    scale = lib.where(some, div(xl, lib.where(some, l2, np.float32(1))), np.float32(0))
    return Fit(scale, lib.where(nothing, 0, codes + top))


def least_weighted_square_error_from_zero(
    x: Float32[Array, "n blocks"], w: Float32[Array, "n blocks"], top: int
) -> Fit:
    """x ~ scale * code, code in 0..top, for x that should not be negative: the scales and mins of a super-block.

    The best of nine scales by sum w (x - scale*code)^2, then passes that move one code at a time. Codes are kept in a
    byte, so a negative x wraps around as it does in C.
    """
    lib = exact.library(x)
    n = x.shape[0]
    zero = lib.zeros(x.shape[1:], np.float32)
    peak = fold(n, lambda i, peak: lib.where(peak > x[i], peak, x[i]), zero, unroll=8)
    guarded = not exact.is_unguarded()
    nothing = peak < NOTHING if guarded else peak == 0
    peak = lib.where(nothing, np.float32(1), peak)

    def error_of(inverse: Array, bound: bool) -> Array:
        which = "trial" if bound else "first"
        scale = div(np.float32(1), inverse)

        def terms(i: Any) -> tuple[Array]:
            code = nearest_int(product(x[i], inverse))
            code = lib.minimum(code, top) if bound else code & 255
            diff = x[i] - product(scale, f32(code), f"{which} step difference")
            return (mul(mul(w[i], diff), diff, f"{which} step error"),)

        return running_sums(n, terms, at_once=True)[0]

    inverse = div(np.float32(top), peak)
    best = error_of(inverse, bound=False)
    steps = lib.asarray(np.float32(0.1) * np.array([-4, -3, -2, -1, 1, 2, 3, 4], np.float32) + np.float32(top))

    def attempt(k: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        inverse, best = state
        trial = div(steps[k], peak)
        error = error_of(trial, bound=True)
        return lib.where(error < best, trial, inverse), lib.where(error < best, error, best)

    inverse, _ = fold(len(steps), attempt, (inverse, best))
    start = lib.minimum(nearest_int(product(x, inverse)), top)
    codes, xl, l2 = improve_by_single_steps(x, w, start & 255, start, -(2**22), top, above_zero=True)
    some = (l2 > 0) & ~nothing if guarded else ~nothing
    scale = lib.where(some, div(xl, lib.where(some, l2, np.float32(1))), np.float32(0))
    return Fit(scale, lib.where(nothing, 0, codes))


class Codes(NamedTuple):
    """Codes, and the sums of w x l and w l^2 over them, as C has them: moved step by step, never summed anew."""

    codes: Int32[Array, "n subs"]
    xl: Float32[Array, "subs"]
    l2: Float32[Array, "subs"]


@exact.has_faster_text
def improve_by_single_steps(
    x: Float32[Array, "n subs"],
    w: Float32[Array, "n subs"],
    codes: Int32[Array, "n subs"],
    counted: Int32[Array, "n subs"],
    low: int,
    high: int,
    above_zero: bool = False,
) -> Codes:
    """At most five passes over the weights: each takes the code that is best with all others fixed, if that helps.

    Maximises xl^2 / l2 with xl = sum w x l, l2 = sum w l^2. The sums begin from the codes ``counted``, which differ
    from ``codes`` where a byte wrapped. ``above_zero``: codes are kept in a byte, and what the other weights give to
    l2 must be positive too.
    """
    n = len(x)

    def terms(i: Any) -> tuple[Array, Array]:
        code = f32(counted[i])
        return mul(mul(w[i], x[i]), code, "start w x l"), mul(mul(w[i], code), code, "start w l l")

    xl, l2 = running_sums(n, terms, at_once=True)

    def passes(most: int, x: Array, w: Array, codes: Array, xl: Array, l2: Array) -> tuple[Array, Array, Array]:
        moved = np.zeros(xl.shape, bool)
        for i in range(n):
            old, wx = codes[i], mul(w[i], x[i])
            rest_xl, rest_l2 = xl - mul(wx, old, "without w x l"), l2 - mul(mul(w[i], old), old, "without w l l")
            possible = (rest_xl > 0) & (rest_l2 > 0) if above_zero else rest_xl > 0
            best = ratio(score(x[i], rest_l2), np.where(possible, rest_xl, np.float32(1)))
            new = f32(np.clip(nearest_int(best), low, high))
            new_xl, new_l2 = rest_xl + mul(wx, new, "with w x l"), rest_l2 + mul(mul(w[i], new), new, "with w l l")
            better = score(score(new_xl, new_xl), l2) > score(score(xl, xl), new_l2)
            better = better & possible & (new != old) & (new_l2 > 0)
            kept = f32(exact.i32(new) & 255) if above_zero else new
            codes[i] = np.where(better, kept, old)
            xl, l2 = np.where(better, new_xl, xl), np.where(better, new_l2, l2)
            moved |= better
        if most > 1 and moved.any():
            # Only where something moved can something move again
            rest = (x[:, moved], w[:, moved], codes[:, moved], xl[moved], l2[moved])
            codes[:, moved], xl[moved], l2[moved] = passes(most - 1, *rest)
        return codes, xl, l2

    codes, xl, l2 = passes(5, x, w, f32(codes), xl, l2)
    return Codes(exact.i32(codes), xl, l2)
