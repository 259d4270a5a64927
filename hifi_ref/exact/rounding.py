"""From float32 to whole numbers, each as one C expression rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact.bit_patterns import bits, f32, from_bits, i32
from hifi_ref.exact.fusing import is_arm64
from hifi_ref.exact.lanes import is_for_cpu, is_jax, library
from hifi_ref.exact.profiles import rounded
from hifi_ref.exact.traced_products import TracedProduct

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from hifi_ref.exact.lanes import Array


def nearest_int(x: Float32[Array, "*n"]) -> Int32[Array, "*n"]:
    """int32 nearest to x, halves to even, by adding 1.5 * 2^23 and reading the low 23 bits.

    Right for abs(x) <= 2^22 - 1. Beyond it the answer is what those bits hold, as in C: infinities give -2^22, NaN 0.
    Source: nearest_int (ggml-quants.c).
    """
    x = rounded(x, "nearest integer")
    nearest = i32(bits(x + np.float32(12582912.0)) & np.uint32(0x007FFFFF)) - np.int32(0x00400000)
    if is_jax(x) and not is_for_cpu():
        # A GPU's NaN has other low bits
        return library(x).where(x == x, nearest, 0)
    return nearest


def rounded_code(x: Float32[Array, "*n"], low: int, high: int) -> Float32[Array, "*n"]:
    """nearest_int(x) clamped to low..high, as float32.

    The JAX lane rounds and clamps in float, which is cheaper and the same for abs(x) <= 2^22 - 1; where larger values
    or NaN can occur the caller must not count the block as clear.
    """
    x = rounded(x, "nearest integer")
    if isinstance(x, TracedProduct):
        whole = x.nearest_whole()
    elif is_jax(x):
        whole = library(x).round(x)
    else:
        return f32(np.minimum(np.maximum(nearest_int(x), low), high))
    lib = library(whole)
    whole = lib.where(np.float32(low) > whole, np.float32(low), whole)
    return lib.where(np.float32(high) < whole, np.float32(high), whole)


def round_half_away(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """float32 integer nearest to x, halves away from zero: C's roundf, right also for 0.49999997."""
    x = rounded(x)
    numpy_like = library(x)
    if not is_jax(x):
        # Less than a half by so little that only what ends in a half or more reaches the next whole number
        almost_half = from_bits((bits(x) & np.uint32(0x80000000)) | np.uint32(0x3EFFFFFF))
        return np.trunc(x + almost_half)
    whole = numpy_like.trunc(x)
    away = numpy_like.copysign(np.float32(1), x)
    return numpy_like.where(abs(x - whole) >= np.float32(0.5), whole + away, whole)


def truncate(x: Float32[Array, "*n"]) -> Int32[Array, "*n"]:
    """(int32)x, towards zero. Outside int32, and for NaN, the answer is -2^31, as x86-64's conversion gives.

    Within ``fusing`` on arm64 it is the nearest of int32, and 0 for NaN.
    """
    numpy_like = library(x)
    if not is_jax(x) and (numpy_like.abs(x) < np.float32(2.0**31)).all():
        return i32(np.asarray(x))
    inside = (x >= np.float32(-(2.0**31))) & (x < np.float32(2.0**31))
    outside: Any = np.int32(-(2**31))
    if is_arm64():
        outside = np.where(x > 0, np.int32(2**31 - 1), np.where(x < 0, outside, np.int32(0)))
    return numpy_like.where(inside, i32(numpy_like.where(inside, x, np.float32(0))), outside)


def low_of_long(x: Float32[Array, "*n"]) -> Int32[Array, "*n"]:
    """(int)(int64)x of x that is whole and within int32, or not finite: then 0, but -1 for infinity on arm64."""
    numpy_like = library(x)
    outside = np.where(x > 0, np.int32(-1), np.int32(0)) if is_arm64() else np.int32(0)
    return numpy_like.where(numpy_like.abs(x) < np.inf, truncate(x), outside)


def as_int8(x: Int32[Array, "*n"]) -> Int32[Array, "*n"]:
    """(int8_t)x of an int32: the low byte, sign extended."""
    return x.astype(np.int8).astype(np.int32)


def at_most(bound: int, x: Int32[Array, "*n"]) -> Int32[Array, "*n"]:
    """MIN(bound, x)."""
    return library(x).minimum(x, np.int32(bound))
