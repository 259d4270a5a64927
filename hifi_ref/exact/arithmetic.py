"""Products, quotients and roots that round once: sealed against what compilers do to them in the JAX lane."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from hifi_ref.exact.lanes import Array, is_jax, is_traced, library

# A quiet NaN with a payload that neither hardware nor a compiler's constant folding ever makes.
_ALIEN_NAN = np.uint32(0x7FABCDEF)


def bits(x: Array) -> Array:
    """float32 -> its uint32 bit pattern."""
    if is_jax(x):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(x, jax.numpy.uint32)
    return np.asarray(x, np.float32).view(np.uint32)


def from_bits(u: Array) -> Array:
    """uint32 bit pattern -> float32."""
    if is_jax(u):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(u, jax.numpy.float32)
    return np.asarray(u, np.uint32).view(np.float32)


def f32(x: Array) -> Array:
    """Integers (exact below 2^24) or float16 widened to float32."""
    return x.astype(np.float32)


def i32(x: Array) -> Array:
    return x.astype(np.int32)


def i16(x: Array) -> Array:
    return x.astype(np.int16)


def hidden_zero(witness: Array) -> Array:
    """uint32 zeros shaped as the witness that no compiler can prove to be zero."""
    return (bits(witness) == _ALIEN_NAN).astype(np.uint32)


def _seal(value: Array, witness: Array) -> Array:
    return from_bits(bits(value) ^ hidden_zero(witness))


def _witness(a: Any, b: Any) -> Array:
    """The operand that hides the zero: one that is being traced, since that of a constant is no secret."""
    if is_traced(a):
        return a
    return b if is_traced(b) or not is_jax(a) else a


def mul(a: Array, b: Array) -> Array:
    """a*b, rounded once, and never part of a fused multiply-add. Put the less predictable operand first."""
    if is_jax(a) or is_jax(b):
        return _seal(a * b, _witness(a, b))
    return a * b


def sealed_by(x: Array) -> Callable[[Array, Array], Array]:
    """A ``mul`` for loops: every product is sealed with one hidden zero, taken from finite x once, not per operand."""
    if not is_jax(x):
        return np.multiply
    zero = hidden_zero(x)
    return lambda a, b: from_bits(bits(a * b) ^ zero)


def mul_int(d: Array, q: Array) -> Array:
    """d*q for any float32 d and integers abs(q) <= 128, exact down to subnormal d and results in both lanes."""
    if not (is_jax(d) or is_jax(q)):
        return d * f32(q)
    lib = library(d)
    u = bits(d)
    # Below 2^-125 d is a multiple of 2^-149: multiply integers, round once as a float, and move the exponent back.
    units = i32(lib.where((u >> 23) & 0xFF == 0, u & 0x007FFFFF, u & 0x007FFFFF | 0x00800000)) * abs(i32(q))
    as_float = bits(f32(units))
    small = lib.where(units < 2**24, units.astype(np.uint32), as_float - np.uint32(149 << 23))
    negative = (u >> 31 != 0) ^ (q < 0)
    small = small | lib.where(negative, np.uint32(0x80000000), np.uint32(0))
    return lib.where(u & 0x7FFFFFFF < np.uint32(2 << 23), from_bits(small), d * f32(q))


def madd(a: Array, b: Array, c: Array) -> Array:
    """a*b + c in the strict profile: the product rounds, then the sum."""
    return mul(a, b) + c


# What by_hand says of the functions that are being traced.
_by_hand: ContextVar[frozenset[str]] = ContextVar("by_hand", default=frozenset())


@contextmanager
def by_hand(operations: Iterable[str]) -> Iterator[None]:
    """Within it, jax functions that are traced leave these operations to no back end.

    "division", "square root" and "conversion", from and to binary16, are done in whole numbers (long_arithmetic);
    "binary64 sums" by NumPy, which is called back.
    """
    token = _by_hand.set(frozenset(operations))
    try:
        yield
    finally:
        _by_hand.reset(token)


def is_by_hand(operation: str) -> bool:
    """Whether by_hand names this operation."""
    return operation in _by_hand.get()


def div(a: Array, b: Array) -> Array:
    """a/b, correctly rounded. a or b may be a Python number, not both."""
    if (is_jax(a) or is_jax(b)) and is_by_hand("division"):
        from hifi_ref import long_arithmetic

        lib = library(_witness(a, b))
        return long_arithmetic.div(*lib.broadcast_arrays(lib.asarray(a, np.float32), lib.asarray(b, np.float32)))
    if is_jax(a) or is_jax(b):
        if is_traced(b) and not is_traced(a) and np.ndim(a):
            # A table of constants hides no zero, and that of a broadcast is known once for many quotients.
            a, b = sys.modules["jax"].lax.optimization_barrier((library(b).asarray(a, np.float32), b))
        witness = _witness(a, b)
        numpy_like = library(witness)
        zero = hidden_zero(witness)
        shape = np.broadcast_shapes(np.shape(a), np.shape(b))
        divisor = from_bits(bits(numpy_like.asarray(b, np.float32)) ^ numpy_like.broadcast_to(zero, shape))
        return from_bits(bits(a / divisor) ^ zero)
    return np.divide(a, b, dtype=np.float32)


def sqrt(x: Array) -> Array:
    """Square root, correctly rounded; sealed so that 1/sqrt(x) stays two operations."""
    if is_jax(x) and is_by_hand("square root"):
        from hifi_ref import long_arithmetic

        return long_arithmetic.sqrt(x)
    if is_jax(x):
        return _seal(library(x).sqrt(x), x)
    return np.sqrt(x)


def reciprocal_or_zero(d: Array) -> Array:
    """1/d, and 0 where d is 0."""
    lib = library(d)
    return lib.where(d != 0, div(np.float32(1), lib.where(d != 0, d, np.float32(1))), np.float32(0))
