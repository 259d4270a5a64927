"""Q5_1: 32 weights in 24 bytes, 6 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-3     m       f16      min
    4-7     qh      u8[4]    fifth bits, weight j in bit j of the little-endian word
    8-23    qs      u8[16]   low four bits, weights 0-15 in low nibbles, 16-31 in high nibbles

    w[j] = d * q[j] + m        q[j] in 0..31

As Q4_1, with 31 parts: the range gives the scale, the smallest weight is the min, halves round up. With importance
weights, scale and min come from a weighted regression.

Undefined in C: where the range overflows, or is below 31 * 2^-128 so that its inverse does, products are infinite or no
number, and these are converted to uint8. Defined here as the release computes it: conversion to int32 gives -2^31,
whose low byte is 0.

Reference: quantize_q5_1, dequantize_row_q5_1, ggml_vec_dot_q5_1_q8_1_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref import exact
from hifi_ref.formats import q4_1, q8_1
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import join_five_bits, split_five_bits
from hifi_ref.formats.search import row_importance

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q5_1",
    type_id=7,
    block_size=32,
    dot_with="Q8_1",
    fields=(
        Field("d", "f16", holds="scale"),
        Field("m", "f16", holds="min"),
        Field("qh", "u8", 4, holds="fifth bits, weight j in bit j of the little-endian word"),
        Field("qs", "u8", 16, holds="low four bits, weights 0-15 in low nibbles, 16-31 in high nibbles"),
    ),
)
# The importance of an error is relative to the mean square of the row.
ROW_SCOPED = True


def decode(blocks: UInt8[Array, "n 24"]) -> Float32[Array, "n 2 16"]:
    d, m, qh, qs = LAYOUT.unpack(blocks)
    # The product is exact, 11 bits of scale times 5 bits of code, so the sum is the only rounding.
    return exact.madd(d[:, None, None], exact.f32(split_five_bits(qh, qs)), m[:, None, None])


def encode(
    x: Float32[Array, "rows blocks 32"], weights: Float32[Array, "blocks 32"] | None = None
) -> UInt8[Array, "rows blocks 24"]:
    if weights is not None:
        d, minus_m, codes = row_importance.least_error_with_min_in_rows(x, weights, top=31)
        m = -minus_m
    else:
        d, m, codes = q4_1.scale_min_and_codes(x, top=31)
    qh, qs = join_five_bits(codes)
    return LAYOUT.pack(d=d, m=m, qh=qh, qs=qs)


def dot(w: UInt8[Array, "rows blocks 24"], a: UInt8[Array, "blocks 36"]) -> Float32[Array, "rows"]:
    """Block after block (d_w * d_a) * sum + m * s."""
    dw, m, qh, qs = LAYOUT.unpack(w)
    da, s, qa = q8_1.LAYOUT.unpack(a)
    # INTEGER PARTIAL SUMS: exact, at most 32 * 31 * 128
    partial = exact.f32(exact.int_dot(split_five_bits(qh, qs), qa.reshape(-1, 2, 16)))
    # FLOAT
    return exact.sum_of_rows(exact.madd(partial, exact.product(dw, da), exact.product(m, s)))
