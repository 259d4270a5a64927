"""Floats of eight, six and four bits: their values, and rounding to them, in whole numbers that no compiler flushes.

    name    bits: sign, exponent, mantissa   bias   largest   beyond it
    E4M3    1 4 3                            7      448       NaN 0x7F
    E5M2    1 5 2                            15     57344     infinity 0x7C, NaN 0x7D to 0x7F
    E3M2    1 3 2                            3      28
    E2M3    1 2 3                            1      7.5
    E2M1    1 2 1                            1      6
    INT8    1 0 7                            0      127/64

An exponent of 0 holds subnormal numbers. E8M0 is a scale: 2^(code - 127), and 255 is NaN.

Reference: OCP Microscaling Formats (MX) Specification 1.0; OCP 8-bit Floating Point Specification 1.0.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.codebooks import take

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt32

    from hifi_ref.exact import Array


class SmallFloat(NamedTuple):
    exponent_bits: int
    mantissa_bits: int
    bias: int
    most: int
    """The code of the largest number."""

    @property
    def sign(self) -> int:
        """The code of -0."""
        return 1 << (self.exponent_bits + self.mantissa_bits)

    @property
    def largest(self) -> float:
        return float(values(self)[self.most])

    @property
    def largest_exponent(self) -> int:
        return (self.most >> self.mantissa_bits) - self.bias


E4M3 = SmallFloat(4, 3, 7, 0x7E)
E5M2 = SmallFloat(5, 2, 15, 0x7B)
E3M2 = SmallFloat(3, 2, 3, 0x1F)
E2M3 = SmallFloat(2, 3, 1, 0x1F)
E2M1 = SmallFloat(2, 1, 1, 0x07)
# MX's INT8 as sign and magnitude: 64ths, as the subnormal numbers of a float would be.
INT8 = SmallFloat(0, 7, 0, 0x7F)


@functools.cache
def values(kind: SmallFloat) -> Float32[np.ndarray, "codes"]:
    """The value of each code."""
    code = np.arange(kind.sign)
    exponent, mantissa = code >> kind.mantissa_bits, code & (1 << kind.mantissa_bits) - 1
    fraction = mantissa / (1 << kind.mantissa_bits)
    size = np.where(
        exponent > 0, (1 + fraction) * 2.0 ** (exponent - kind.bias), fraction * 2.0 ** (1 - kind.bias)
    ).astype(np.float32)
    size[kind.most + 1 :] = np.nan
    if kind == E5M2:
        size[kind.most + 1] = np.inf
    return np.concatenate([size, -size])


def widen(kind: SmallFloat, code: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    """Exact. Bits above the float's own are ignored."""
    return take(values(kind), code & np.uint8(2 * kind.sign - 1))


def narrow(
    kind: SmallFloat, x: Float32[Array, "*n"], ties: str = "even", exponent: Int32[Array, "..."] | int = 0
) -> UInt8[Array, "*n"]:
    """The code of the number nearest to x / 2^exponent, its sign kept; beyond the largest, and for infinities, that.

    ties: "even"; "down" to the smaller magnitude; "away" from zero, as floor(abs(x) + 0.5) in float32 has it, where the
        number next below a half goes up; "floor" takes the next smaller magnitude always.

    NaN gives 0x7F in eight bits; in fewer there is none, and it gives the largest. No quotient is formed, so that
    nothing can be flushed: x and x / 2^exponent may be subnormal.
    """
    if ties == "even" and not exact.is_jax(x) and np.abs(exponent).max(initial=0) < 127:
        return _narrow_by_adding(kind, np.asarray(x), exponent)
    lib = exact.library(x)
    u = exact.bits(x)
    size = u & np.uint32(0x7FFFFFFF)
    # x = units * 2^(power - 150), units below 2^24; subnormal numbers as float32 has whole ones
    whole = exact.bits(exact.f32(exact.i32(size & np.uint32(0x7FFFFF))))
    is_normal = size >= np.uint32(1 << 23)
    power = exact.i32(lib.where(is_normal, size, whole) >> np.uint32(23)) - lib.where(is_normal, 0, 149) - exponent
    units = lib.where(is_normal, size, whole) & np.uint32(0x7FFFFF) | lib.where(
        size > 0, np.uint32(1 << 23), np.uint32(0)
    )
    # Within a binade a code is worth 2^shift units; below the least normal number, more
    least = np.int32(128 - kind.bias)
    shift = (23 - kind.mantissa_bits) + lib.maximum(least - power, 0)
    shift = lib.minimum(shift, 30).astype(np.uint32)
    rounded = (units + _before_truncating(units, shift, ties)) >> shift
    binade = lib.clip(power - least, 0, 255).astype(np.uint32)
    code = lib.minimum(rounded + (binade << np.uint32(kind.mantissa_bits)), np.uint32(kind.most))
    code = lib.where(size >= np.uint32(0x7F800000), np.uint32(kind.most), code)
    sign = (u >> np.uint32(31)) * np.uint32(kind.sign)
    if kind.sign == 128:
        is_nan = size > np.uint32(0x7F800000)
        code, sign = lib.where(is_nan, np.uint32(0x7F), code), lib.where(is_nan, np.uint32(0), sign)
    return (code | sign).astype(np.uint8)


def _narrow_by_adding(kind: SmallFloat, x: Float32[np.ndarray, "*n"], exponent: Any) -> UInt8[np.ndarray, "*n"]:
    """narrow to even, faster and for NumPy only: what is added leaves as many bits as the binade has codes."""
    size = np.abs(x) * np.ldexp(np.float32(1), -np.asarray(exponent, np.int32))
    is_nan = size != size
    np.minimum(size, np.float32(2 * kind.largest), out=size)
    size[is_nan] = kind.largest
    least = np.int32(128 - kind.bias << 23)
    binade = size.view(np.int32) & np.int32(0x7F800000)
    np.maximum(binade, least, out=binade)
    added = binade + np.int32(23 - kind.mantissa_bits << 23)
    size += added.view(np.float32)
    code = size.view(np.int32) - added + ((binade - least) >> np.int32(23 - kind.mantissa_bits))
    np.minimum(code, np.int32(kind.most), out=code)
    code |= (x.view(np.int32) >> np.int32(31)) & np.int32(kind.sign)
    if kind.sign == 128:
        code[is_nan] = 0x7F
    return code.astype(np.uint8)


def _before_truncating(units: UInt32[Array, "*n"], shift: UInt32[Array, "*n"], ties: str) -> UInt32[Array, "*n"]:
    half = np.uint32(1) << (shift - np.uint32(1))
    if ties == "floor":
        return half & np.uint32(0)
    if ties == "away":
        return half + (shift == 25)
    return half - np.uint32(1) + (units >> shift & np.uint32(1) if ties == "even" else np.uint32(0))


def times_power(x: Float32[Array, "*n"], exponent: Int32[Array, "..."]) -> Float32[Array, "*n"]:
    """x * 2^exponent for x that is not subnormal, nearest even where the result is; in whole numbers."""
    lib = exact.library(x)
    u = exact.bits(x)
    size, sign = u & np.uint32(0x7FFFFFFF), u & np.uint32(0x80000000)
    power = exact.i32(size >> np.uint32(23)) + exponent
    normal = size + (exponent << 23 if isinstance(exponent, int) else exponent.astype(np.uint32) << np.uint32(23))
    shift = lib.clip(1 - power, 1, 30).astype(np.uint32)
    units = size & np.uint32(0x7FFFFF) | np.uint32(1 << 23)
    small = (units + _before_truncating(units, shift, "even")) >> shift
    result = lib.where(power > 0, lib.where(power > 254, np.uint32(0x7F800000), normal), small)
    result = lib.where((size == 0) | (size >= np.uint32(0x7F800000)), size, result)
    return exact.from_bits(result | sign)


def widen_e8m0(code: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    """2^(code - 127); 0 is a subnormal float32, 255 NaN."""
    lib = exact.library(code)
    wide = code.astype(np.uint32)
    u = lib.where(wide == 0, np.uint32(1 << 22), wide << np.uint32(23))
    return exact.from_bits(lib.where(wide == 255, np.uint32(0x7FC00000), u))
