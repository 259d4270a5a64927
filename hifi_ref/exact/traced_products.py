"""Products that meet an addition unrounded, of arrays that jax traces: what profiles.Product is to NumPy's.

A product of two float32 is exact in binary64, where the sum is rounded first, and then to float32. These two roundings
are one but where the first ends midway between two float32 and was not exact; there, and where a sum is faint, it is
marked (see watch.py), and the lane computes the block in NumPy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact import watch
from hifi_ref.exact.lanes import library

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact.lanes import Array


class TracedProduct:
    """float32: a product, rounded, that still knows its two factors. Where it is not added, it is its ``value``.

    It is no array of jax, whose functions refuse it unrounded.
    """

    # Of a sum whose left side is NumPy's the right side is asked.
    __array_ufunc__ = None

    def __init__(self, value: Array, a: Any, b: Any) -> None:
        self.value, self.factors = value, (a, b)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.value, name)

    def __add__(self, other: Any) -> Array:
        return fused(*self.factors, plain(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Array:
        return fused(*self.factors, -plain(other))

    def __rsub__(self, other: Any) -> Array:
        return fused(-self.factors[0], self.factors[1], plain(other))

    def __neg__(self) -> TracedProduct:
        return TracedProduct(-self.value, -self.factors[0], self.factors[1])

    def __getitem__(self, key: Any) -> TracedProduct:
        return self._moved(lambda a: a[key])

    def reshape(self, *shape: Any) -> TracedProduct:
        return self._moved(lambda a: a.reshape(*shape))

    def _moved(self, move: Callable[[Any], Any]) -> TracedProduct:
        """The same elements in another place."""
        lib = library(self.value)
        a, b = (move(lib.broadcast_to(factor, self.value.shape)) for factor in self.factors)
        return TracedProduct(move(self.value), a, b)

    def nearest_whole(self) -> Float32[Array, "*n"]:
        """The unrounded product to the nearest whole number, halves to even."""
        jax = sys.modules["jax"]
        with jax.enable_x64(True):
            whole = jax.lax.round(_wide_product(*self.factors), jax.lax.RoundingMethod.TO_NEAREST_EVEN)
            return jax.lax.convert_element_type(whole, np.float32)


def _of_value(name: str) -> Callable[..., Any]:
    return lambda product, *others: getattr(product.value, name)(*map(plain, others))


# All else takes it rounded
for _name in ("abs", "eq", "ne", "lt", "le", "gt", "ge", "mul", "rmul"):
    setattr(TracedProduct, f"__{_name}__", _of_value(f"__{_name}__"))


def plain(value: Any) -> Any:
    return value.value if isinstance(value, TracedProduct) else value


def fused(a: Any, b: Any, c: Any) -> Float32[Array, "*n"]:
    """a*b + c, rounded once, and marked where that is not sure."""
    jax = sys.modules["jax"]
    lax = jax.lax
    with jax.enable_x64(True):
        product = _wide_product(a, b)
        shape = np.broadcast_shapes(product.shape, np.shape(c))
        product, c = lax.broadcast_to_rank(product, len(shape)), _wide(c)
        product, c = (jax.numpy.broadcast_to(term, shape) for term in (product, c))
        total = product + c
        midway = lax.bitcast_convert_type(total, np.uint64) & np.uint64(0x1FFFFFFF) == np.uint64(0x10000000)
        # Of two terms the smaller is what is left of their sum, without an error, if nothing was lost
        is_exact = (total - product == c) & (total - c == product)
        faint = (abs(total) < np.float64(watch.FAINT)) & (total != np.float64(0))
        result = lax.convert_element_type(total, np.float32)
        doubtful = midway & ~is_exact | faint
    watch.mark(doubtful)
    return result


def _wide(x: Any) -> Any:
    jax = sys.modules["jax"]
    return jax.lax.convert_element_type(x, np.float64)


def _wide_product(a: Any, b: Any) -> Any:
    return _wide(a) * _wide(b)
