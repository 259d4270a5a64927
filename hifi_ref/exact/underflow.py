"""Proofs that arithmetic stayed clear of the numbers below 2^-126, which some back ends flush to zero."""

from __future__ import annotations

import numpy as np

from hifi_ref.exact.bit_patterns import bits, from_bits, i32
from hifi_ref.exact.lanes import Array, is_jax, library

SMALLEST_NORMAL = np.float32(2.0**-126)


def is_comfortable(x: Array, axis: int = -1) -> Array:
    """True along an axis that is all zero, or holds no subnormal number and a largest magnitude of 2^-90 to 2^90.

    Enough for encoders that only divide by a scale and round: the scale, its inverse and every difference that can
    reach a code are then normal numbers.
    """
    lib = library(x)
    size = bits(x) & np.uint32(0x7FFFFFFF)
    largest = lib.max(size, axis=axis)
    middle = (largest >= bits(np.float32(2.0**-90))) & (largest <= bits(np.float32(2.0**90)))
    subnormal = lib.any((size > 0) & (size < np.uint32(0x00800000)), axis=axis)
    return (largest == 0) | (middle & ~subnormal)


def is_faint(x: Array) -> Array:
    """abs(x) < 2^-126: zero, or a value that some back ends flush to zero."""
    return ~(abs(x) >= SMALLEST_NORMAL) & (x == x)


def poison(value: Array, faint: Array) -> Array:
    """NaN where an underflow was seen, in the JAX lane: what follows is NaN too, and so marks the block as not clear.

    In the NumPy lane the value as it is: there nothing is lost.
    """
    if is_jax(value):
        return library(value).where(faint, np.float32(np.nan), value)
    return value


def rank(x: Array) -> Array:
    """uint32 that orders nonzero magnitudes, subnormal ones too, and puts zero above all of them."""
    return (bits(x) & np.uint32(0x7FFFFFFF)) - np.uint32(1)


def unrank(r: Array) -> Array:
    """The magnitude of a rank; infinity for that of zero."""
    return from_bits(library(r).minimum(r, np.uint32(0x7F7FFFFF)) + np.uint32(1))


def least_magnitude(x: Array, axis: int) -> Array:
    """The smallest nonzero abs(x) along an axis; infinity where all are zero."""
    return unrank(library(x).min(rank(x), axis=axis))


def exponent(x: Array) -> Array:
    """int32 e with 2^e <= abs(x) < 2^(e+1) for normal x; -127 for zero and subnormals, 128 for infinities and NaN."""
    return i32((bits(x) >> np.uint32(23)) & np.uint32(0xFF)) - np.int32(127)
