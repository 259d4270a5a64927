"""Products, quotients and roots that round once: sealed against what compilers do to them in the JAX lane."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact import long_arithmetic
from hifi_ref.exact.bit_patterns import SMALLEST_NORMAL, bits, f32, from_bits, hidden_zero, i32, seal
from hifi_ref.exact.corrections import is_by_hand
from hifi_ref.exact.fusing import fusing_now
from hifi_ref.exact.lanes import is_jax, is_traced, library
from hifi_ref.exact.profiles import known, rounded
from hifi_ref.exact.watch import mark_faint

if TYPE_CHECKING:
    from jaxtyping import Float32, Shaped

    from hifi_ref.exact.lanes import Array, Operand


def _witness(a: Operand, b: Operand) -> Any:
    """The operand that hides the zero: one that is being traced, since that of a constant is no secret."""
    if is_traced(a):
        return a
    return b if is_traced(b) or not is_jax(a) else a


def mul(a: Operand, b: Operand, site: str = "") -> Float32[Array, "..."]:
    """a*b, rounded once and watched. Put the less predictable operand first.

    It is never part of a fused multiply-add but within ``fusing``, and there not at the sites that are rounded.
    """
    a, b = rounded(a), rounded(b)
    result: Any = a * b
    if is_jax(a) or is_jax(b):
        mark_faint(result, a, b)
        result = seal(result, _witness(a, b))
    return result if fusing_now() is None else known(result, a, b, site)


def score(a: Operand, b: Operand) -> Float32[Array, "..."]:
    """``mul`` for a number that is only compared and multiplied, never added: watched down to 2^-126, not to 2^-103."""
    a, b = rounded(a), rounded(b)
    result: Any = a * b
    if is_jax(a) or is_jax(b):
        mark_faint(result, a, b, floor=SMALLEST_NORMAL)
        return seal(result, _witness(a, b))
    return result


def product(a: Operand, b: Operand, site: str = "") -> Float32[Array, "..."]:
    """``mul``, not watched: for a product that cannot be faint, or may be.

    It cannot where a factor is a whole number, or where both are numbers that were binary16; it may where all that is
    done with it is to round it to a whole number, or to add it to one. tests/unsealed.py proves which it is.
    """
    a, b = rounded(a), rounded(b)
    result: Any = a * b
    if is_jax(a) or is_jax(b):
        result = seal(result, _witness(a, b))
    return result if fusing_now() is None else known(result, a, b, site)


def sealed_by(
    x: Float32[Array, "*n"],
) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """``mul`` and ``product`` for loops: sealed with one hidden zero, taken from finite x once, not per operand."""
    if fusing_now() is not None:
        return mul, product
    if not is_jax(x):
        return _multiply, _multiply
    zero = hidden_zero(x)

    def watched(a: Operand, b: Operand, site: str = "") -> Array:
        result: Any = a * b
        mark_faint(result, a, b)
        return from_bits(bits(result) ^ zero)

    return watched, lambda a, b, site="": from_bits(bits(a * b) ^ zero)


def _multiply(a: Operand, b: Operand, site: str = "") -> Array:
    return np.multiply(a, b)


def mul_int(d: Float32[Array, "..."], q: Shaped[Array, "..."]) -> Float32[Array, "..."]:
    """d*q for any float32 d and integers abs(q) <= 128, exact down to subnormal d and results in both lanes."""
    if not (is_jax(d) or is_jax(q)):
        return d * f32(q)
    lib = library(d)
    u = bits(d)
    # Below 2^-125 d is a multiple of 2^-149: multiply integers, round once as a float, and move the exponent back.
    units = i32(lib.where((u >> 23) & 0xFF == 0, u & 0x007FFFFF, u & 0x007FFFFF | 0x00800000)) * lib.abs(i32(q))
    as_float = bits(f32(units))
    small = lib.where(units < 2**24, units.astype(np.uint32), as_float - np.uint32(149 << 23))
    negative = (u >> 31 != 0) ^ (q < 0)
    small = small | lib.where(negative, np.uint32(0x80000000), np.uint32(0))
    return lib.where(u & 0x7FFFFFFF < np.uint32(2 << 23), from_bits(small), d * f32(q))


def madd(a: Operand, b: Operand, c: Operand, site: str = "") -> Float32[Array, "..."]:
    """a*b + c: the product rounds, then the sum, but within ``fusing``. The product is not watched: see ``product``."""
    return product(a, b, site) + c


def div(a: Operand, b: Operand) -> Float32[Array, "..."]:
    """a/b, correctly rounded, and watched. a or b may be a Python number, not both."""
    a, b = rounded(a), rounded(b)
    if not is_jax(a) and not is_jax(b):
        return np.divide(a, b, dtype=np.float32)
    quotient = _div(a, b)
    mark_faint(quotient, a)
    return quotient


def ratio(a: Operand, b: Operand) -> Float32[Array, "..."]:
    """``div``, not watched: for a quotient that is only rounded to a whole number. tests/unsealed.py proves it."""
    a, b = rounded(a), rounded(b)
    return _div(a, b) if is_jax(a) or is_jax(b) else np.divide(a, b, dtype=np.float32)


def _div(a: Operand, b: Operand) -> Float32[Array, "..."]:
    if is_by_hand("division"):
        lib = library(_witness(a, b))
        return long_arithmetic.div(*lib.broadcast_arrays(lib.asarray(a, np.float32), lib.asarray(b, np.float32)))
    if is_traced(b) and not is_traced(a) and np.ndim(a):
        # A table of constants hides no zero, and that of a broadcast is known once for many quotients.
        a, b = sys.modules["jax"].lax.optimization_barrier((library(b).asarray(a, np.float32), b))
    # One number of a table, which a loop goes through, hides none either
    witness: Any = b if is_traced(b) and not np.ndim(a) else _witness(a, b)
    numpy_like = library(witness)
    zero = hidden_zero(witness)
    shape = np.broadcast_shapes(np.shape(a), np.shape(b))
    divisor = from_bits(bits(numpy_like.asarray(b, np.float32)) ^ numpy_like.broadcast_to(zero, shape))
    return from_bits(bits(a / divisor) ^ zero)


def sqrt(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """Square root, correctly rounded; sealed so that 1/sqrt(x) stays two operations."""
    x = rounded(x)
    if is_jax(x) and is_by_hand("square root"):
        return long_arithmetic.sqrt(x)
    if is_jax(x):
        return seal(library(x).sqrt(x), x)
    return np.sqrt(x)


def reciprocal_or_zero(d: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """1/d, and 0 where d is 0."""
    d = rounded(d)
    lib = library(d)
    return lib.where(d != 0, div(np.float32(1), lib.where(d != 0, d, np.float32(1))), np.float32(0))
