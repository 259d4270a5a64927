"""The search for a scale and a min, over many sub-blocks at once: weighted linear regression on trial codes.

Layout and order of sums are those of scale_search.

Sources: make_qkx2_quants, make_qkx3_quants (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, fold, rounded_code, running_sums, wall
from hifi_ref.formats.search.scale_search import Weight

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from hifi_ref.exact import Array


class FitWithMin(NamedTuple):
    """As scale_search.Fit with a min, which is not negative: weights are about scale * code - min."""

    scale: Float32[Array, "subs"]
    min: Float32[Array, "subs"]
    codes: Int32[Array, "n subs"]


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
    """
    with exact.unwatched():
        return _least_error_with_min(x, w, top, first, step, steps, absolute)


def _least_error_with_min(
    x: Float32[Array, "n subs"], w: Weight, top: int, first: float, step: float, steps: int, absolute: bool
) -> FitWithMin:
    lib = exact.library(x)
    n = x.shape[0]
    mul, product = exact.sealed_by(x[0])
    mark_underflow = _bounds(x, w)

    def totals(i: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, sum_w, sum_x = state
        return (
            lib.where(x[i] < low, x[i], low),
            lib.where(x[i] > high, x[i], high),
            sum_w + w(i),
            sum_x + mul(x[i], w(i), "sum of w x"),
        )

    # Not from 0: 0 + -0 would lose the sign of a zero, which the min inherits.
    first_terms = (x[0], x[0], w(0), exact.rounded(mul(x[0], w(0))))
    low, high, sum_w, sum_x = fold(n - 1, lambda i, state: totals(i + 1, state), first_terms, unroll=8)
    lowest = low
    low = lib.where(low > 0, np.float32(0), low)
    flat = high <= low
    span = lib.where(flat, np.float32(1), high - low)

    def error_of(scale: Array, minimum: Array, inverse: Array, base: Array, which: str) -> Array:
        def terms(i: Any) -> tuple[Array]:
            code = rounded_code(product(x[i] - base, inverse), 0, top)
            diff = product(scale, code, f"{which} difference") + minimum - x[i]
            return (mul(w(i), abs(diff) if absolute else mul(diff, diff), f"{which} error"),)

        return running_sums(n, terms, at_once=True)[0]

    inverse = div(np.float32(top), span)
    scale = div(np.float32(1), inverse)
    mark_underflow(scale, low, scale, low, ~flat)
    best = error_of(scale, low, inverse, low, "first")
    steps_float = exact.product(np.float32(step), np.arange(steps + 1, dtype=np.float32), "trial parts")
    parts = lib.asarray((np.float32(first) + steps_float) + np.float32(top))

    def attempt(k: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        scale, low, best, best_inverse, best_base = state
        inverse = div(parts[k], lib.where(flat, np.float32(1), high - low))
        # Beyond 2^21 parts rounded_code parts from C
        exact.mark(abs(inverse) * lib.maximum(abs(high - low), abs(lowest - low)) >= np.float32(2.0**21))

        def terms(i: Any) -> tuple[Array, Array, Array]:
            code = rounded_code(product(x[i] - low, inverse), 0, top)
            wl = product(w(i), code, "sum of w l")
            return product(wl, code, "sum of w l l"), mul(x[i], wl, "sum of w l x"), wl

        l2, xl, l1 = running_sums(n, terms, at_once=True)
        det = mul(sum_w, l2, "determinant") - mul(l1, l1, "determinant, right")
        solvable = det > 0
        safe_det = lib.where(solvable, det, np.float32(1))
        scale_part = mul(sum_w, xl, "scale part") - mul(sum_x, l1, "scale part, right")
        min_part = mul(l2, sum_x, "min part") - mul(l1, xl, "min part, right")
        trial_scale, trial_min = div(scale_part, safe_det), div(min_part, safe_det)
        positive = trial_min > 0
        slope = div(xl, lib.where(positive, l2, np.float32(1)))
        trial_scale = lib.where(positive, slope, trial_scale)
        trial_min = lib.where(positive, np.float32(0), trial_min)
        trial_scale, trial_min = wall(trial_scale, trial_min)
        of_scale, of_min = lib.where(positive, xl, scale_part), lib.where(positive, np.float32(0), min_part)
        mark_underflow(
            trial_scale, trial_min, lib.where(solvable, of_scale, 0), lib.where(solvable, of_min, 0), solvable
        )
        error = error_of(trial_scale, trial_min, inverse, low, "trial")
        better = wall(solvable & (error < best))
        return (
            lib.where(better, trial_scale, scale),
            lib.where(better, trial_min, low),
            lib.where(better, error, best),
            lib.where(better, inverse, best_inverse),
            lib.where(better, low, best_base),
        )

    scale, low, _, inverse, base = fold(steps + 1, attempt, (scale, low, best, inverse, low))
    codes = lib.where(flat, 0, exact.i32(rounded_code(product(x - base, inverse), 0, top)))
    exact.mark(lib.maximum(abs(lowest), abs(high)) >= np.float32(2.0**40))
    return FitWithMin(lib.where(flat, np.float32(0), scale), -low, codes)


def _bounds(x: Float32[Array, "n subs"], w: Weight) -> Callable[[Array, Array, Array, Array, Array], None]:
    """What marks a scale and a min, quotients of two dividends, where they are used and may have met underflow.

    Watching every product would cost a fifth of the search, so they are bounded. With nonzero abs(x), scale and min of
    at least 2^e, a difference of theirs that is not zero is at least 2^(e - 23), the last place of the finest. With
    nonzero w of at least 2^f a weighted square is then at least 2^(f + 2(e - 23)), and the square alone at least
    2^(2(e - 23)), however large w is. Sums of products of w and x are multiples of 2^(f + e - 23), and differences of
    the products of sums at least 2^(2f + e - 47).
    """
    if not exact.is_watching():
        return lambda *of_a_trial: None
    lib = exact.library(x)
    ex, ew = least_exponents(x.shape[0], x.__getitem__, w)
    exact.mark((ex < -40) | (ew < -50) | (ex + ew < -100) | (2 * ew + ex < -78) | (ew + 2 * ex < -78))

    def mark(scale: Array, minimum: Array, of_scale: Array, of_min: Array, where: Array) -> None:
        # A quotient of 0 although its dividend is not is the faintest of all
        some_scale, some_min = ((q != 0) | (of != 0) for q, of in ((scale, of_scale), (minimum, of_min)))
        e = lib.minimum(
            lib.where(some_scale, exact.exponent(scale), 128), lib.where(some_min, exact.exponent(minimum), 128)
        )
        exact.mark(((e < -40) | (ew + 2 * e < -78)) & where)

    return mark


def least_exponents(n: int, *elements: Weight) -> tuple[Int32[Array, "subs"], ...]:
    """For each function of i: the exponent of the smallest nonzero magnitude over i = 0..n-1; 128 if all are zero."""

    def rank(x: Array) -> Array:
        # Orders magnitudes, zero above all others
        return (exact.bits(x) & np.uint32(0x7FFFFFFF)) - np.uint32(1)

    def smaller(i: Any, least: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(exact.library(m).minimum(m, rank(of(i))) for m, of in zip(least, elements, strict=True))

    ranks = fold(n, smaller, tuple(rank(of(0)) for of in elements), unroll=8)
    lib = exact.library(ranks[0])
    return tuple(exact.exponent(exact.from_bits(lib.minimum(r, np.uint32(0x7F7FFFFF)) + np.uint32(1))) for r in ranks)
