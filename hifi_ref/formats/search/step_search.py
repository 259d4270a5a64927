"""The search for a scale over the sixteen unequal steps of IQ4_NL and IQ4_XS; scale_search has those for equal ones.

Source: quantize_row_iq4_nl_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, fold, mul, product, running_sums, score
from hifi_ref.formats.codebooks import STEPS_IQ4, nearest_step_iq4, take
from hifi_ref.formats.search.row_importance import importance
from hifi_ref.formats.search.scale_search import NOTHING, extreme

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array


def scales_of_least_error(
    x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"] | None
) -> Float32[Array, "rows blocks subs"]:
    """The best scale for each 32 weights.

    A squared error counts x^2, or with importance qw * sqrt(2 * mean square of the block + x^2).
    """
    lib = exact.library(x)
    n = x.shape[-1]
    columns = x.reshape(-1, 32).T
    if qw is None:
        w = mul(columns, columns)
    else:
        whole = x.reshape(-1, n).T
        mean_square = exact.rounded(mul(exact.sum_in_order(mul(whole, whole, "mean square")), np.float32(2 / n)))
        spread_qw = lib.broadcast_to(qw, x.shape).reshape(-1, 32).T
        w = importance(columns, spread_qw, lib.repeat(mean_square, n // 32))
    return _scale_of_least_error(columns, w).reshape(*x.shape[:-1], n // 32)


def _scale_of_least_error(x: Float32[Array, "n subs"], w: Float32[Array, "n subs"]) -> Float32[Array, "subs"]:
    """x ~ scale * step: best of 16 scales around those that put the extreme on the outermost step, with either sign.

    Minimises sum w (x - scale q)^2 over the scale for the steps q that each trial gives, which means maximising
    (sum w q x)^2 / (sum w q^2).
    """
    lib = exact.library(x)
    peak = extreme(x)
    nothing = lib.abs(peak) < NOTHING
    peak = lib.where(nothing, np.float32(1), peak)
    values = STEPS_IQ4.astype(np.float32)

    def sums(inverse: Array, which: str) -> tuple[Array, ...]:
        def terms(i: Any) -> tuple[Array, Array]:
            q = take(values, nearest_step_iq4(product(inverse, x[i])))
            weighted = product(w[i], q)
            return mul(weighted, x[i], f"{which} w q x"), product(weighted, q, f"{which} w q q")

        return running_sums(x.shape[0], terms, unroll=4, at_once=True)

    qx, q2 = sums(div(np.float32(1), div(-peak, values[0])), "first")
    some = (q2 > 0) | exact.is_unguarded()
    scale = lib.where(some, div(qx, lib.where(some, q2, np.float32(1))), np.float32(0))
    best = score(scale, qx)
    trials = lib.asarray(np.arange(-7, 8, dtype=np.float32) + values[0])

    def attempt(k: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        scale, best = state
        qx, q2 = sums(div(trials[k], peak), "trial")
        better = (q2 > 0) & (score(qx, qx) > score(best, q2))
        new_scale = div(qx, lib.where(better, q2, np.float32(1)))
        return lib.where(better, new_scale, scale), lib.where(better, score(new_scale, qx), best)

    scale, _ = fold(len(trials), attempt, (scale, best))
    scale = lib.where(nothing, np.float32(0), scale)
    exact.mark(~(abs(scale) < np.inf))
    return scale
