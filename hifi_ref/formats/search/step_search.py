"""The search for a scale over the sixteen unequal steps of IQ4_NL and IQ4_XS; scale_search has those for equal ones.

Source: quantize_row_iq4_nl_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, fold, is_faint, mul
from hifi_ref.formats.codebooks import STEPS_IQ4, nearest_step_iq4, take
from hifi_ref.formats.search.row_importance import importance
from hifi_ref.formats.search.scale_search import NOTHING, extreme

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32


def scales_of_least_error(
    x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"] | None
) -> tuple[Float32[Array, "rows blocks subs"], Bool[Array, "rows blocks"]]:
    """The best scale for each 32 weights, and the blocks whose sub-blocks are all clear of underflow.

    A squared error counts x^2, or with importance qw * sqrt(2 * mean square of the block + x^2).
    """
    lib = exact.library(x)
    n = x.shape[-1]
    columns = x.reshape(-1, 32).T
    if qw is None:
        w, clear = mul(columns, columns), True
    else:
        whole = x.reshape(-1, n).T
        mean_square = mul(exact.sum_in_order(mul(whole, whole)), np.float32(2 / n))
        spread_qw = lib.broadcast_to(qw, x.shape).reshape(-1, 32).T
        w, clear = importance(columns, spread_qw, lib.repeat(mean_square, n // 32))
    scale, fit_clear = _scale_of_least_error(columns, w)
    shape = (*x.shape[:-1], n // 32)
    return scale.reshape(shape), (fit_clear & clear).reshape(shape).all(axis=-1)


def _scale_of_least_error(
    x: Float32[Array, "n subs"], w: Float32[Array, "n subs"]
) -> tuple[Float32[Array, "subs"], Bool[Array, "subs"]]:
    """x ~ scale * step: best of 16 scales around those that put the extreme on the outermost step, with either sign.

    Minimises sum w (x - scale q)^2 over the scale for the steps q that each trial gives, which means maximising
    (sum w q x)^2 / (sum w q^2).

    Clear: w*q*x is at least 2^(e(w)+e(x)), so a sum of them that is not zero is at least 2^-23 of it; the products and
    quotients of sums are watched. Shares of the scale that underflow take the step next to 0, as 0 does.
    """
    lib = exact.library(x)
    peak = extreme(x)
    nothing = abs(peak) < NOTHING
    peak = lib.where(nothing, np.float32(1), peak)
    values = STEPS_IQ4.astype(np.float32)

    def sums(inverse):
        def add(i, total):
            q = take(values, nearest_step_iq4(mul(inverse, x[i])))
            weighted = mul(w[i], q)
            return total[0] + mul(weighted, x[i]), total[1] + mul(weighted, q)

        zero = lib.zeros(peak.shape, np.float32)
        return fold(x.shape[0], add, (zero, zero), unroll=4)

    qx, q2 = sums(div(np.float32(1), div(-peak, values[0])))
    scale = lib.where(q2 > 0, div(qx, lib.where(q2 > 0, q2, np.float32(1))), np.float32(0))
    best = mul(scale, qx)
    lost = (is_faint(scale) | is_faint(best)) & (qx != 0)
    trials = lib.asarray(np.arange(-7, 8, dtype=np.float32) + values[0])

    def attempt(k, state):
        scale, best, lost = state
        qx, q2 = sums(div(trials[k], peak))
        gain, bar = mul(qx, qx), mul(best, q2)
        better = (q2 > 0) & (gain > bar)
        new_scale = div(qx, lib.where(better, q2, np.float32(1)))
        new_best = mul(new_scale, qx)
        lost = lost | (is_faint(gain) & (qx != 0)) | (is_faint(bar) & (best != 0) & (q2 != 0))
        lost = lost | (better & (is_faint(new_scale) | is_faint(new_best)))
        return lib.where(better, new_scale, scale), lib.where(better, new_best, best), lost

    scale, _, lost = fold(len(trials), attempt, (scale, best, lost))
    scale = lib.where(nothing, np.float32(0), scale)
    ex, ew = (exact.exponent(exact.least_magnitude(a, axis=0)) for a in (x, w))
    # Without importance w underflows before the bound on ex + ew could tell, hence the bound on ex.
    clear = ~lost & (ex + ew >= -100) & (ex >= -60) & (abs(scale) < np.inf)
    return scale, nothing | clear
