"""Q4_1: 32 weights in 20 bytes, 5 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-3     m       f16      min
    4-19    qs      u8[16]   codes, weights 0-15 in low nibbles, 16-31 in high nibbles

    w[j] = d * q[j] + m        q[j] in 0..15

The range from the smallest to the largest weight, divided into 15 parts, gives the scale; the smallest weight is the
min. Codes are rounded with both before they are narrowed to f16, halves up. With importance weights, scale and min come
from a weighted regression, with weight * sqrt(mean square of the row + x^2) as the weight of each squared error.

Undefined in C: where the range overflows, or is below 15 * 2^-128 so that its inverse does, products are infinite or no
number, and these are converted to int8. Defined here as the release computes it: conversion to int32 gives -2^31, whose
low byte is 0.

Reference: quantize_q4_1, dequantize_row_q4_1, ggml_vec_dot_q4_1_q8_1_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import q8_1
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import join_nibbles, split_nibbles
from hifi_ref.formats.search import row_importance

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8

    from hifi_ref.exact import Array

LAYOUT = Layout(
    name="Q4_1",
    type_id=3,
    block_size=32,
    dot_with="Q8_1",
    fields=(
        Field("d", "f16", holds="scale"),
        Field("m", "f16", holds="min"),
        Field("qs", "u8", 16, holds="codes, weights 0-15 in low nibbles, 16-31 in high nibbles"),
    ),
)
# The importance of an error is relative to the mean square of the row.
ROW_SCOPED = True


def decode(blocks: UInt8[Array, "n 20"]) -> Float32[Array, "n 2 16"]:
    d, m, qs = LAYOUT.unpack(blocks)
    # The product is exact, 11 bits of scale times 4 bits of code, so the sum is the only rounding.
    return exact.madd(d[:, None, None], exact.f32(split_nibbles(qs)), m[:, None, None])


def encode(
    x: Float32[Array, "rows blocks 32"], weights: Float32[Array, "blocks 32"] | None = None
) -> UInt8[Array, "rows blocks 20"]:
    if weights is not None:
        d, minus_m, codes = row_importance.least_error_with_min_in_rows(x, weights, top=15)
        return LAYOUT.pack(d=d, m=-minus_m, qs=join_nibbles(codes))
    d, m, codes = scale_min_and_codes(x, top=15)
    return LAYOUT.pack(d=d, m=m, qs=join_nibbles(exact.at_most(15, exact.as_int8(codes))))


def scale_min_and_codes(
    x: Float32[Array, "*n 32"], top: int
) -> tuple[Float32[Array, "*n"], Float32[Array, "*n"], Int32[Array, "*n 32"]]:
    """Scale and min before narrowing, and the codes; Q5_1 shares them."""
    m = first_smallest(x)
    # The magnitude, because zeros of both signs may differ by -0.
    d = exact.div(abs(x.max(axis=-1) - m), np.float32(top))
    inverse = exact.reciprocal_or_zero(d)
    shifted = exact.madd(x - m[..., None], inverse[..., None], np.float32(0.5), "shifted")
    return d, m, exact.truncate(shifted)


def first_smallest(x: Float32[Array, "*n 32"]) -> Float32[Array, "*n"]:
    """The smallest element along the last axis; of equals the first, which decides the sign of a zero."""
    lib = exact.library(x)
    x = lib.moveaxis(x, -1, 0)
    return exact.fold(x.shape[0], lambda i, least: lib.where(x[i] < least, x[i], least), x[0], unroll=8)


def dot(w: UInt8[Array, "rows blocks 20"], a: UInt8[Array, "blocks 36"]) -> Float32[Array, "rows"]:
    """Block after block (d_w * d_a) * sum + m * s."""
    dw, m, qs = LAYOUT.unpack(w)
    da, s, qa = q8_1.LAYOUT.unpack(a)
    # INTEGER PARTIAL SUMS: exact, at most 32 * 15 * 128
    partial = exact.f32(exact.int_dot(split_nibbles(qs), qa.reshape(-1, 2, 16)))
    # FLOAT
    return exact.sum_of_rows(exact.madd(partial, exact.product(dw, da), exact.product(m, s)))
