"""The search for a scale alone, by the error it minimises, over many sub-blocks at once.

Elements lie on the leading axis, sub-blocks on all others: x[i] is weight i of every sub-block. Sums run over the
leading axis first to last, because float addition does not associate and the bits of the reference follow C's order.

Each search also returns ``clear``: true for sub-blocks whose every product and quotient is zero by its operands or at
least 2^-126 in size, so that arithmetic which flushes subnormals to zero gives the same bits. The argument is always
the same. A nonzero float v is a multiple of 2^(e(v)-23), hence so is any sum or difference in which it is the finest
operand; so a nonzero difference of values of at least 2^e is at least 2^(e-23). Where that bound is not enough, the
product itself is watched. A product below 2^-126 that only feeds nearest_int rounds to 0 either way and needs no proof.

scale_and_min_search has the searches for a scale and a min, single_steps those that then move one code at a time,
row_importance those that weigh errors by a row's importance.

Source: make_qx_quants (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, fold, is_faint, rounded_code, running_sums, wall

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


def extreme(x: Float32[Array, "n *subs"], axis: int = 0) -> Float32[Array, "*subs"]:
    """The element of largest magnitude along an axis, sign kept; of equals the first; +0 where all are zero."""
    lib = exact.library(x)
    if axis == -1 and not exact.is_jax(x):
        # One call a step would cost more than the step; a NaN is not larger than anything.
        x = np.where(x == x, x, np.float32(0))
        return np.take_along_axis(x, abs(x).argmax(axis=-1)[..., None], axis=-1)[..., 0] + np.float32(0)
    x = lib.moveaxis(x, axis, 0)

    def step(i, best):
        return lib.where(abs(x[i]) > abs(best), x[i], best)

    return fold(x.shape[0], step, lib.zeros(x.shape[1:], np.float32), unroll=8)


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
    ex, ew = least_exponents(x.shape[0], x.__getitem__, w)
    clear = ~lost & (ex + ew >= -100) & (ex >= -100) & (ew >= -100) & _all_finite(x)
    return Fit(lib.where(nothing, np.float32(0), scale), codes, nothing | clear)


def _lost(product, *factors):
    """True where a product underflowed: faint although no factor is."""
    lost = is_faint(product)
    for factor in factors:
        lost = lost & ~is_faint(factor)
    return lost


def least_exponents(n, *elements):
    """For each function of i: the exponent of the smallest nonzero magnitude over i = 0..n-1; 128 if all are zero."""

    def smaller(i, least):
        return tuple(exact.library(m).minimum(m, exact.rank(of(i))) for m, of in zip(least, elements, strict=True))

    ranks = fold(n, smaller, tuple(exact.rank(of(0)) for of in elements), unroll=8)
    return tuple(exact.exponent(exact.unrank(rank)) for rank in ranks)


def _all_finite(x):
    """The scales that a search is given may have overflowed; rounded_code then parts from C."""
    return fold(x.shape[0], lambda i, finite: finite & (abs(x[i]) < np.inf), x[0] == x[0], unroll=8)
