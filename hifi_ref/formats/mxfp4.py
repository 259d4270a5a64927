"""MXFP4: 32 weights in 17 bytes, 4.25 bits per weight.

    bytes   field   type     holds
    0       e       u8       biased exponent of the scale
    1-16    qs      u8[16]   codes, weights 0-15 in low nibbles, 16-31 in high nibbles

    w[j] = 2^(e - 128) * STEPS[q[j]]        STEPS = 0 1 2 3 4 6 8 12 0 -1 -2 -3 -4 -6 -8 -12

The microscaling format of the Open Compute Project: 4-bit floats (2 exponent bits, 1 mantissa bit; the steps are twice
their values) that share a power of two. Code 8, the float's -0, gives +0. The standard reserves e = 255 for NaN; the
reference takes it as one more power of two, so that steps above 1 overflow to infinity.

The encoder takes e from floorf(log2f(largest magnitude)), so that the largest magnitude is 4 to 8 times the scale,
2^(e - 127), of which the largest float is 6. The logarithm is a binary32: just below a power of two it is rounded up to
that of the power, which makes e larger by one. Defined here as the correctly rounded logarithm, with which the release
agrees. Each weight takes the nearest step, the first of equals. Importance weights are not used.

Undefined in C: for a largest magnitude below 2^-125 the biased exponent is negative, and is converted to uint8. Defined
here as the release computes it: the low byte. The scale is then so large that all codes are 0.

Reference: quantize_row_mxfp4_ref, dequantize_row_mxfp4, ggml_vec_dot_mxfp4_q8_0_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, q8_0
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import join_nibbles, split_nibbles

if TYPE_CHECKING:
    from jaxtyping import Float32, Int, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="MXFP4",
    type_id=39,
    block_size=32,
    dot_with="Q8_0",
    fields=(
        Field("e", "u8", holds="biased exponent of the scale"),
        Field("qs", "u8", 16, holds="codes, weights 0-15 in low nibbles, 16-31 in high nibbles"),
    ),
)


def decode(blocks: UInt8[Array, "n 17"]) -> Float32[Array, "n 2 16"]:
    e, qs = LAYOUT.unpack(blocks)
    steps = codebooks.take_step(codebooks.STEPS_FP4, split_nibbles(qs))
    # Exact, but subnormal where e is small: mul_int keeps those
    half = exact.from_bits(exact.widen_e8m0_half(e))
    return exact.mul_int(half[:, None, None], steps)


def encode(
    x: Float32[Array, "rows blocks 32"], weights: Float32[Array, "blocks 32"] | None = None
) -> UInt8[Array, "rows blocks 17"]:
    # SCALE: two below the exponent of the largest magnitude, since the largest step stands for 6
    lib = exact.library(x)
    largest = exact.largest(x)
    e = lib.where(largest > 0, floor_log2(largest) - 2 + 127, 0).astype(np.uint8)
    # CODES
    half = exact.from_bits(exact.widen_e8m0_half(e))
    codes = codebooks.nearest_step_fp4(x, half)
    return LAYOUT.pack(e=e, qs=join_nibbles(codes))


def floor_log2(x: Float32[Array, "*n"]) -> Int[Array, "*n"]:
    """floor of the logarithm of x > 0 after it was rounded to binary32.

    Just below 2^k that rounding reaches k: where k - log2(x) is less than half the distance of floats next to k. With
    x = 2^k (1 - j / 2^24) and floats next to k that are 2^(p-23) apart, this is so for j below 2^p ln 2.
    """
    lib = exact.library(x)
    # Subnormals first become normal numbers; 2^e <= x < 2^(e+1)
    small = x < exact.SMALLEST_NORMAL
    x = lib.where(small, x * np.float32(2.0**24), x)
    e = exact.exponent(x) - lib.where(small, 24, 0)
    j = np.int32(1 << 23) - exact.i32(exact.bits(x) & np.uint32(0x007FFFFF))
    # Between k = e + 1 and its neighbour towards e, magnitudes lie from that of e or ~e on
    magnitude = exact.f32(lib.where(e >= 0, e, ~e))
    power = exact.from_bits(exact.bits(magnitude) & np.uint32(0x7F800000))
    # Powers of two from 1 on, or 0
    with exact.unwatched():
        return e + (exact.f32(j) < exact.mul(power, np.float32(np.log(2))))


def dot(w: UInt8[Array, "rows blocks 17"], a: UInt8[Array, "blocks 34"]) -> Float32[Array, "rows"]:
    """Block after block (d_a * scale) * sum."""
    e, qs = LAYOUT.unpack(w)
    da, qa = q8_0.LAYOUT.unpack(a)
    half = exact.from_bits(exact.widen_e8m0_half(e))
    # Beside codes that are all 0 no scale matters
    some = (qs & np.uint8(0x77) != 0).any(axis=-1)
    half = exact.watched_input(exact.library(half).where(some, half, np.float32(0)))
    # INTEGER PARTIAL SUMS: exact, at most 32 * 12 * 128
    partial = exact.int_dot(codebooks.take_step(codebooks.STEPS_FP4, split_nibbles(qs)), qa.reshape(-1, 2, 16))
    # FLOAT
    return exact.sum_of_rows(exact.product(exact.product(half, da), exact.f32(partial)))
