"""Between float32 and the bits of the narrow floats: binary16, bfloat16, E8M0 and UE4M3."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.exact import long_arithmetic
from hifi_ref.exact.bit_patterns import ALIEN_NAN, bits, f32, from_bits
from hifi_ref.exact.corrections import is_by_hand
from hifi_ref.exact.fusing import is_arm64
from hifi_ref.exact.lanes import is_jax, library
from hifi_ref.exact.profiles import rounded

if TYPE_CHECKING:
    from jaxtyping import Float32, Shaped, UInt8, UInt16, UInt32

    from hifi_ref.exact.lanes import Array


# In both binary16 and bfloat16.
NARROW_NAN = np.uint16(0x7FFF)


def widen_f16(h: UInt16[Array, "*n"]) -> Float32[Array, "*n"]:
    """uint16 bits of binary16 -> float32, exact."""
    if is_jax(h) and is_by_hand("conversion"):
        return long_arithmetic.widen_f16(h)
    if is_jax(h):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(h, jax.numpy.float16).astype(np.float32)
    return h.view(np.float16).astype(np.float32)


def _widened_f16(h: UInt16[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """widen_f16, faster where all are finite: the fields in the places of float32's, then the other bias made good."""
    if (h & np.uint16(0x7FFF) >= np.uint16(0x7C00)).any():
        return np.asarray(widen_f16(h))
    wide = h.view(np.int16).astype(np.int32)
    wide <<= 13
    # Without the bits between the sign and the exponent, which are the sign's too
    wide &= np.int32(-0x70002000)
    result = wide.view(np.float32)
    result *= np.float32(2.0**112)
    return result


def narrow_f16(x: Float32[Array, "*n"]) -> UInt16[Array, "*n"]:
    """float32 -> uint16 bits of binary16, nearest even, overflow to infinity; any NaN becomes 0x7E00 with its sign."""
    x = rounded(x)
    numpy_like = library(x)
    if is_jax(x) and is_by_hand("conversion"):
        half = long_arithmetic.narrow_f16(x)
    elif is_jax(x):
        jax = sys.modules["jax"]
        half = jax.lax.bitcast_convert_type(x.astype(np.float16), jax.numpy.uint16)
    else:
        half = np.asarray(x, np.float32).astype(np.float16).view(np.uint16)
    quiet = np.uint16(0x7E00) if is_arm64() else (half & np.uint16(0x8000)) | np.uint16(0x7E00)
    return numpy_like.where((half & np.uint16(0x7FFF)) > np.uint16(0x7C00), quiet, half)


def round_f16(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """float32 -> the float32 value that binary16 keeps of it."""
    return widen_f16(narrow_f16(x))


def widen_bf16(h: UInt16[Array, "*n"]) -> Float32[Array, "*n"]:
    """uint16 bits of bfloat16 -> float32, exact."""
    return from_bits(h.astype(np.uint32) << np.uint32(16))


def narrow_bf16(x: Float32[Array, "*n"]) -> UInt16[Array, "*n"]:
    """float32 -> uint16 bits of bfloat16, nearest even, NaN made quiet. Source: ggml_compute_fp32_to_bf16."""
    u = bits(x)
    nearest = (u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet = (u >> np.uint32(16)) | np.uint32(64)
    is_nan = (u & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return library(x).where(is_nan, quiet, nearest).astype(np.uint16)


def widened(stored: Shaped[Array, "*n"], kind: str) -> Float32[Array, "*n"]:
    """float32 of what a file stores as ``kind``: "F32" as it is, or the bits of finite "F16" or "BF16" as uint16."""
    if kind == "F32":
        return stored
    if kind == "F16" and not is_jax(stored):
        return _widened_f16(np.asarray(stored))
    wide = {"F16": widen_f16, "BF16": widen_bf16}[kind](stored)
    if not is_jax(stored):
        return wide
    # Seals ask for a NaN that no narrow float widens to: a compiler that sees so must find one that does.
    return from_bits(library(stored).where(stored == NARROW_NAN, ALIEN_NAN, bits(wide)))


def widen_e8m0_half(e: UInt8[Array, "*n"]) -> UInt32[Array, "*n"]:
    """uint8 E8M0 exponent -> float32 bits (uint32) of 2^(e-128), half the scale; 0 and 1 are subnormal numbers.

    Bits, not a float, because a back end that flushes subnormals must not touch it. 255 is not treated as NaN.
    Source: ggml_e8m0_to_fp32_half.
    """
    e = e.astype(np.uint32)
    return library(e).where(e < 2, np.uint32(0x00200000) << e, (e - np.uint32(1)) << np.uint32(23))


def widen_ue4m3_half(e: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    """uint8 UE4M3 scale -> float32, halved; bytes 0 and 0x7F give 0, bit 7 is ignored. Source: ggml_ue4m3_to_fp32."""
    numpy_like = library(e)
    wide = e.astype(np.uint32)
    mantissa, biased = wide & np.uint32(7), (wide >> np.uint32(3)) & np.uint32(15)
    normal = from_bits((biased + np.uint32(119)) << np.uint32(23) | mantissa << np.uint32(20))
    subnormal = f32(mantissa) * np.float32(2.0**-10)
    value = numpy_like.where(biased == 0, subnormal, normal)
    return numpy_like.where((e == 0) | (e == 0x7F), np.float32(0), value)
