"""The search for a scale alone, by the error it minimises, over many sub-blocks at once.

Elements lie on the leading axis, sub-blocks on all others: x[i] is weight i of every sub-block. Sums run over the
leading axis first to last, because float addition does not associate and the bits of the reference follow C's order.

scale_and_min_search has the searches for a scale and a min, single_steps those that then move one code at a time,
row_importance those that weigh errors by a row's importance.

Source: make_qx_quants (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, fold, rounded_code, running_sums, score, wall

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

    from hifi_ref.exact import Array

# The weight of the squared error of element i of every sub-block: a function, because computing it anew from x can cost
# less than loading it.
Weight = Callable[[Any], "Float32[Array, 'subs']"]

# Below this largest magnitude a group counts as all zero.
NOTHING = np.float32(1e-15)


class Fit(NamedTuple):
    """A scale for each sub-block, and the codes it gives."""

    scale: Float32[Array, "subs"]
    codes: Int32[Array, "n subs"]


def extreme(x: Float32[Array, "..."], axis: int = 0) -> Float32[Array, "..."]:
    """The element of largest magnitude along an axis, sign kept; of equals the first; +0 where all are zero."""
    lib = exact.library(x)
    if axis == -1 and not exact.is_jax(x):
        # One call a step would cost more than the step; a NaN is not larger than anything.
        x = np.where(x == x, x, np.float32(0))
        return np.take_along_axis(x, abs(x).argmax(axis=-1)[..., None], axis=-1)[..., 0] + np.float32(0)
    x = lib.moveaxis(x, axis, 0)

    def step(i: Any, best: Array) -> Array:
        return lib.where(abs(x[i]) > abs(best), x[i], best)

    return fold(x.shape[0], step, lib.zeros(x.shape[1:], np.float32), unroll=8)


def least_weighted_square_error(x: Float32[Array, "n subs"], w: Weight, top: int) -> Fit:
    """x ~ scale * (code - top), code in 0..2*top-1: best of 19 scales around the one that puts the extreme on code 0.

    Minimises sum w (x - scale l)^2, which for the best scale means maximising (sum w x l)^2 / (sum w l^2).
    """
    lib = exact.library(x)
    peak = extreme(x)
    nothing = lib.abs(peak) < NOTHING
    peak = lib.where(nothing, np.float32(1), peak)
    mul, product = exact.sealed_by(peak)

    def sums(inverse: Array, which: str) -> tuple[Array, ...]:
        def terms(i: Any) -> tuple[Array, Array]:
            code, wi = rounded_code(product(x[i], inverse), -top, top - 1), w(i)
            return product(mul(x[i], wi), code, f"{which} w x l"), product(product(wi, code), code, f"{which} w l l")

        return running_sums(x.shape[0], terms, at_once=True)

    inverse = div(np.float32(-top), peak)
    xl, l2 = sums(inverse, "first")
    scale = lib.where(l2 != 0, div(xl, lib.where(l2 != 0, l2, np.float32(1))), np.float32(0))
    best = score(scale, xl)

    steps = lib.asarray(np.float32(0.1) * np.array([*range(-9, 0), *range(1, 10)], np.float32))

    def attempt(k: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        scale, best, inverse = state
        # The products of x and w are those of the first sums, where they were watched; and a trial is about as large
        # as the inverse there
        with exact.unwatched():
            trial = div(-(np.float32(top) + steps[k]), peak)
            xl, l2 = sums(trial, "trial")
        better = wall((l2 > 0) & (score(xl, xl) > score(best, l2)))
        new_scale = div(xl, lib.where(better, l2, np.float32(1)))
        return (
            lib.where(better, new_scale, scale),
            lib.where(better, score(new_scale, xl), best),
            lib.where(better, trial, inverse),
        )

    scale, _, inverse = fold(len(steps), attempt, (scale, best, inverse))
    codes = lib.where(nothing, 0, exact.i32(rounded_code(product(x, inverse), -top, top - 1)) + top)
    exact.mark(_overflows(x))
    return Fit(lib.where(nothing, np.float32(0), scale), codes)


def _overflows(x: Float32[Array, "n subs"]) -> Bool[Array, "subs"]:
    """Where a scale that is to be encoded has overflowed; rounded_code then parts from C."""
    finite = fold(x.shape[0], lambda i, finite: finite & (abs(x[i]) < np.inf), x[0] == x[0], unroll=8)
    return ~finite
