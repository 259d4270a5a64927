"""Products that meet an addition unrounded, as builds with fused multiply-adds compute.

``a*b + c`` rounds twice in the strict profile, as the x86-64 release computes it. For processors with a fused
multiply-add, most compilers round once there. Within ``fusing`` the NumPy lane does as such builds do: ``mul`` and
``product`` give a ``Product``, which knows its factors; an addition or subtraction takes it unrounded, all else takes
it rounded. Of two products the left one is taken so. Where a build does otherwise, a **site** says so: a name that the
text gives to a product that is added; formats/builds.py lists at which sites a build rounds the product first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact.bit_patterns import SMALLEST_NORMAL
from hifi_ref.exact.fusing import fusing_now
from hifi_ref.exact.lanes import is_jax
from hifi_ref.exact.traced_products import TracedProduct

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

    from hifi_ref.exact.lanes import Array, Operand


def rounded(value: Any, site: str = "") -> Any:
    """The value, rounded if it is a product that the build rounds at that site, or, without a site, that all do."""
    if isinstance(value, Product | TracedProduct):
        build = fusing_now()
        if not site or build is None or site in build.rounded:
            return np.asarray(value) if isinstance(value, Product) else value.value
    return value


def known(result: Float32[Array, "*n"], a: Operand, b: Operand, site: str) -> Any:
    """a*b, rounded; within ``fusing`` a Product, but at the sites that are rounded."""
    build = fusing_now()
    if build is None or site in build.rounded:
        return result
    return TracedProduct(result, a, b) if is_jax(result) else product_of(np.asarray(result), a, b)


class Product(np.ndarray):
    """float32: a product, rounded, that still knows its two factors."""

    factors: tuple[np.ndarray, np.ndarray] | None = None

    def __array_finalize__(self, other: Any) -> None:
        self.factors = None

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Product:
        """The same elements in another place."""
        assert self.factors is not None
        a, b = (move(np.broadcast_to(factor, self.shape)) for factor in self.factors)
        return product_of(move(np.asarray(self)), a, b)

    def __getitem__(self, key: Any) -> Any:
        if self.factors is None:
            return np.asarray(self)[key]
        return self.moved(lambda a: a[key])

    def reshape(self, *shape: Any, **named: Any) -> Any:
        if self.factors is None:
            return np.asarray(self).reshape(*shape, **named)
        return self.moved(lambda a: a.reshape(*shape, **named))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        if method == "__call__" and not named and ufunc in (np.add, np.subtract):
            for i, own in enumerate(inputs):
                if isinstance(own, Product) and own.factors is not None:
                    return _fused(ufunc, i, own.factors, inputs[1 - i])
        plain = [np.asarray(x) if isinstance(x, Product) else x for x in inputs]
        result = getattr(ufunc, method)(*plain, **named)
        if ufunc is np.negative and self.factors is not None:
            return product_of(result, -self.factors[0], self.factors[1])
        return result


def product_of(result: Float32[np.ndarray, "*n"], a: Operand, b: Operand) -> Product:
    """a*b, rounded, as an array that knows a and b."""
    known = np.asarray(result, np.float32).view(Product)
    known.factors = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return known


def _fused(ufunc: np.ufunc, place: int, factors: tuple[np.ndarray, np.ndarray], other: Any) -> np.ndarray:
    """The sum or difference with the product at that place."""
    (a, b), c = factors, np.asarray(other)
    if ufunc is np.subtract and place == 0:
        c = -c
    elif ufunc is np.subtract:
        a = -a
    return fused(a, b, c)


def fused(
    a: Float32[np.ndarray, "*n"], b: Float32[np.ndarray, "*n"], c: Float32[np.ndarray, "*n"]
) -> Float32[np.ndarray, "*n"]:
    """a*b + c, rounded once.

    The product is exact in binary64, and so that the sum rounds there first matters only where it then lies midway
    between two neighbours in binary32, or where these are subnormal.
    """
    product = np.multiply(a, b, dtype=np.float64)
    shape = np.broadcast_shapes(product.shape, np.shape(c))
    total = np.atleast_1d(product + c)
    result = total.astype(np.float32)
    doubtful = total.view(np.int64) & 0x1FFFFFFF == 0x10000000
    faint = np.abs(result) <= SMALLEST_NORMAL
    if faint.any():
        doubtful |= faint & (total != 0)
    there = np.nonzero(doubtful)
    if there[0].size:
        terms = (_spread(term, total.shape)[there] for term in (product, np.asarray(c, np.float64)))
        result[there] = _to_odd(*terms).astype(np.float32)
    return result.reshape(shape)


def _spread(term: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return term if term.shape == shape else np.broadcast_to(term, shape)


def _to_odd(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """a + b, rounded to the neighbour whose last bit is 1 unless it is exact: so it rounds later as the sum would."""
    total = a + b
    # What the sum lost, exact: Knuth's two-sum
    part = total - a
    lost = (a - (total - part)) + (b - part)
    u = total.view(np.int64)
    even = np.isfinite(total) & (lost != 0) & (u & 1 == 0)
    return (u + np.where(even, np.where((lost > 0) == (total > 0), 1, -1), 0)).view(np.float64)
