"""Division, square root and binary16 in whole numbers, for back ends whose own are not rounded right.

Every step is an exact operation on uint32, so there is nothing that a back end could round, fuse or flush: results
are correctly rounded, ties to even, subnormal operands and results included. Any NaN comes out as the quiet one.

Division and square root develop two digits more than are kept, the last with all that follows or-ed in. That decides
every rounding: a half is 10, more than a half 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact.bit_patterns import bits, f32, from_bits, i32
from hifi_ref.exact.lanes import library
from hifi_ref.exact.loops import fold

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt16, UInt32

    from hifi_ref.exact.lanes import Array

INFINITY = np.uint32(0x7F800000)
QUIET_NAN = np.uint32(0x7FC00000)
SIGN = np.uint32(0x80000000)


def div(a: Float32[Array, "*n"], b: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """a / b."""
    lib = library(a)
    size_a, size_b = bits(a) & ~SIGN, bits(b) & ~SIGN
    sign = (bits(a) ^ bits(b)) & SIGN
    (rest, exponent_a), (divisor, exponent_b) = _normal(size_a), _normal(size_b)

    # 1 <= quotient < 2
    less = rest < divisor
    rest = lib.where(less, rest << np.uint32(1), rest)
    exponent = exponent_a - exponent_b + np.int32(127) - i32(less)

    # DIGITS: the first is a 1
    def digit(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        digits, rest = state
        fits = rest >= divisor
        digits = digits << np.uint32(1) | fits.astype(np.uint32)
        return digits, (rest - lib.where(fits, divisor, np.uint32(0))) << np.uint32(1)

    # A loop, and not 26 steps in a row: what XLA makes of these takes minutes to compile.
    digits, rest = fold(26, digit, (lib.zeros_like(rest), rest))
    digits = digits | (rest != 0).astype(np.uint32)

    # Below 2^-126 fewer of them are kept
    lost = lib.clip(np.int32(1) - exponent, 0, 27).astype(np.uint32)
    kept = digits >> lost
    digits = kept | ((kept << lost) != digits).astype(np.uint32)
    result = _rounded(digits, lib.clip(exponent, 1, 255))

    result = lib.where(result > INFINITY, INFINITY, result)
    result = lib.where((size_a == 0) | (size_b == INFINITY), np.uint32(0), result)
    result = lib.where((size_b == 0) | (size_a == INFINITY), INFINITY, result)
    none = (size_a > INFINITY) | (size_b > INFINITY) | (size_a == size_b) & ((size_a == 0) | (size_a == INFINITY))
    return from_bits(lib.where(none, QUIET_NAN, result | sign))


def sqrt(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """The square root of x."""
    lib = library(x)
    u = bits(x)
    mantissa, exponent = _normal(u & ~SIGN)

    # An even exponent; 26 binary places, taken two at a time
    odd = exponent & np.int32(1)
    given = mantissa << (odd + np.int32(1)).astype(np.uint32)

    def digit(_: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        digits, rest, given = state
        # The next two places of 26, then zeros
        rest = rest << np.uint32(2) | given >> np.uint32(24) & np.uint32(3)
        trial = digits << np.uint32(2) | np.uint32(1)
        fits = rest >= trial
        digits = digits << np.uint32(1) | fits.astype(np.uint32)
        return digits, rest - lib.where(fits, trial, np.uint32(0)), given << np.uint32(2)

    digits, rest, _ = fold(26, digit, (lib.zeros_like(given), lib.zeros_like(given), given))
    result = _rounded(digits | (rest != 0).astype(np.uint32), ((exponent - odd) >> np.int32(1)) + np.int32(127))

    result = lib.where((u & ~SIGN == 0) | (u == INFINITY), u, result)
    none = (u > SIGN) | (u > INFINITY) & (u < SIGN)
    return from_bits(lib.where(none, QUIET_NAN, result))


def widen_f16(h: UInt16[Array, "*n"]) -> Float32[Array, "*n"]:
    """The bits of binary16 -> float32."""
    lib = library(h)
    u = h.astype(np.uint32)
    exponent, mantissa = u >> np.uint32(10) & np.uint32(31), u & np.uint32(0x3FF)
    normal = exponent + np.uint32(127 - 15) << np.uint32(23) | mantissa << np.uint32(13)
    # Multiples of 2^-24, normal numbers of float32
    size = lib.where(exponent == 0, bits(f32(mantissa) * np.float32(2.0**-24)), normal)
    size = lib.where(exponent == 31, lib.where(mantissa == 0, INFINITY, QUIET_NAN), size)
    return from_bits((u & np.uint32(0x8000)) << np.uint32(16) | size)


def narrow_f16(x: Float32[Array, "*n"]) -> UInt16[Array, "*n"]:
    """float32 -> the bits of binary16, nearest even."""
    lib = library(x)
    u = bits(x)
    size = u & ~SIGN
    # From 2^-14 on ten bits of the mantissa are kept, below it multiples of 2^-24
    exponent = size >> np.uint32(23)
    lost = lib.clip(np.int32(126) - i32(exponent), 13, 25).astype(np.uint32)
    normal = size >= np.uint32(113 << 23)
    given = lib.where(normal, size - np.uint32(112 << 23), size & np.uint32(0x007FFFFF) | np.uint32(1 << 23))
    kept = given >> lost
    half = np.uint32(1) << (lost - np.uint32(1))
    rest = given & ((half << np.uint32(1)) - np.uint32(1))
    kept = kept + ((rest > half) | (rest == half) & (kept & np.uint32(1) != 0)).astype(np.uint32)
    kept = lib.minimum(lib.where(size < np.uint32(102 << 23), np.uint32(0), kept), np.uint32(0x7C00))
    kept = lib.where(size > INFINITY, np.uint32(0x7E00), kept)
    return (kept | (u & SIGN) >> np.uint32(16)).astype(np.uint16)


def _normal(size: UInt32[Array, "*n"]) -> tuple[UInt32[Array, "*n"], Int32[Array, "*n"]]:
    """A magnitude's bits -> mantissa from 2^23 to 2^24 - 1, and exponent: mantissa * 2^(exponent - 23)."""
    lib = library(size)
    subnormal = size < np.uint32(1 << 23)
    mantissa = size & np.uint32(0x007FFFFF) | lib.where(subnormal, np.uint32(0), np.uint32(1 << 23))
    exponent = lib.where(subnormal, np.int32(-126), i32(size >> np.uint32(23)) - np.int32(127))
    for places in (16, 8, 4, 2, 1):
        small = mantissa < np.uint32(1 << (24 - places))
        mantissa = lib.where(small, mantissa << np.uint32(places), mantissa)
        exponent = exponent - lib.where(small, np.int32(places), np.int32(0))
    return mantissa, exponent


def _rounded(digits: UInt32[Array, "*n"], biased: Int32[Array, "*n"]) -> UInt32[Array, "*n"]:
    """26 digits, the last two behind those kept, and the exponent field -> bits; a carry moves the exponent on."""
    kept = digits >> np.uint32(2)
    up = (digits & np.uint32(3)) + (kept & np.uint32(1)) > np.uint32(2)
    return ((biased - np.int32(1)).astype(np.uint32) << np.uint32(23)) + kept + up.astype(np.uint32)
