"""The search for a scale and a min, over many sub-blocks at once: weighted linear regression on trial codes.

Layout and order of sums are those of scale_search.

Sources: make_qkx2_quants, make_qkx3_quants (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, fold, rounded_code, running_sums, wall
from hifi_ref.formats.search.scale_search import Weight

if TYPE_CHECKING:
    from jaxtyping import Array, Float32, Int32


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
    lib = exact.library(x)
    n = x.shape[0]
    zero = lib.zeros(x.shape[1:], np.float32)
    mul, product = exact.sealed_by(x[0])

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
            code = rounded_code(product(x[i] - base, inverse), 0, top)
            diff = product(scale, code) + minimum - x[i]
            return (mul(w(i), abs(diff) if absolute else mul(diff, diff)),)

        return running_sums(n, terms)[0]

    inverse = div(np.float32(top), span)
    scale = div(np.float32(1), inverse)
    best = error_of(scale, low, inverse, low)
    steps_float = np.float32(step) * np.arange(steps + 1, dtype=np.float32)
    parts = lib.asarray((np.float32(first) + steps_float) + np.float32(top))

    def attempt(k, state):
        scale, low, best, best_inverse, best_base, farthest = state
        inverse = div(parts[k], lib.where(flat, np.float32(1), high - low))
        reach = abs(inverse) * lib.maximum(abs(high - low), abs(lowest - low))

        def terms(i):
            code = rounded_code(product(x[i] - low, inverse), 0, top)
            wl = product(w(i), code)
            return product(wl, code), mul(x[i], wl), wl

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
        return (
            lib.where(better, trial_scale, scale),
            lib.where(better, trial_min, low),
            lib.where(better, error, best),
            lib.where(better, inverse, best_inverse),
            lib.where(better, low, best_base),
            lib.maximum(farthest, reach),
        )

    state = (scale, low, best, inverse, low, zero)
    scale, low, _, inverse, base, farthest = fold(steps + 1, attempt, state)
    codes = lib.where(flat, 0, exact.i32(rounded_code(product(x - base, inverse), 0, top)))
    # A trial that reaches beyond 2^21 parts, where rounded_code parts from C
    moderate = (lib.maximum(abs(lowest), abs(high)) < np.float32(2.0**40)) & (farthest < np.float32(2.0**21))
    exact.mark(~moderate)
    return FitWithMin(lib.where(flat, np.float32(0), scale), -low, codes)
