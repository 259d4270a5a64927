"""Floats of eight, six and four bits: their values, and rounding to them, in whole numbers that no compiler flushes.

    name    bits: sign, exponent, mantissa   bias   largest   beyond it
    E4M3    1 4 3                            7      448       NaN 0x7F
    E5M2    1 5 2                            15     57344     infinity 0x7C, NaN 0x7D to 0x7F
    E3M2    1 3 2                            3      28
    E2M3    1 2 3                            1      7.5
    E2M1    1 2 1                            1      6

An exponent of 0 holds subnormal numbers. E8M0 is a scale: 2^(code - 127), and 255 is NaN.

Reference: OCP Microscaling Formats (MX) Specification 1.0; OCP 8-bit Floating Point Specification 1.0.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.codebooks import take

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8, UInt32

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


def narrow(kind: SmallFloat, x: Float32[Array, "*n"], ties: str = "even") -> UInt8[Array, "*n"]:
    """The code of the nearest number, its sign kept; beyond the largest, infinities too, that of the largest.

    ties: "even", "down" to the smaller magnitude or "away" from zero; "floor" takes the next smaller magnitude always.

    NaN gives 0x7F, with its sign, in eight bits; in fewer there is none, and it gives the largest.
    """
    lib = exact.library(x)
    u = exact.bits(x)
    size = u & np.uint32(0x7FFFFFFF)
    # Within a binade a code is worth 2^shift units of the last place of a float32; below the least normal, more
    exponent = size >> np.uint32(23)
    least = np.uint32(128 - kind.bias)
    shift = np.uint32(23 - kind.mantissa_bits) + lib.where(exponent < least, least - exponent, np.uint32(0))
    shift = lib.minimum(shift, np.uint32(30))
    units = (size & np.uint32(0x7FFFFF)) | lib.where(exponent > 0, np.uint32(1 << 23), np.uint32(0))
    rounded = (units + _before_truncating(units, shift, ties)) >> shift
    code = rounded + (lib.maximum(exponent, least) - least << np.uint32(kind.mantissa_bits))
    code = lib.minimum(code, np.uint32(kind.most))
    if kind.sign == 128:
        code = lib.where(size > np.uint32(0x7F800000), np.uint32(0x7F), code)
    return (code | (u >> np.uint32(31)) * np.uint32(kind.sign)).astype(np.uint8)


def _before_truncating(units: UInt32[Array, "*n"], shift: UInt32[Array, "*n"], ties: str) -> UInt32[Array, "*n"]:
    half = np.uint32(1) << (shift - np.uint32(1))
    if ties == "floor":
        return half & np.uint32(0)
    if ties == "away":
        return half
    return half - np.uint32(1) + (units >> shift & np.uint32(1) if ties == "even" else np.uint32(0))


def widen_e8m0(code: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    """2^(code - 127); 0 is a subnormal float32, 255 NaN."""
    lib = exact.library(code)
    wide = code.astype(np.uint32)
    u = lib.where(wide == 0, np.uint32(1 << 22), wide << np.uint32(23))
    return exact.from_bits(lib.where(wide == 255, np.uint32(0x7FC00000), u))
