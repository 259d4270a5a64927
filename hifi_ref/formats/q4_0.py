"""Q4_0: 32 weights in 18 bytes, 4.5 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-17    qs      u8[16]   codes, weights 0-15 in low nibbles, 16-31 in high nibbles

    w[j] = d * (q[j] - 8)        q[j] in 0..15

The weight of largest magnitude, sign kept, is divided by -8 to give the scale. It therefore lands on code 0 and is
never clipped; the opposite end of the range reaches only 7 d. With importance weights the scale is searched instead,
with weight * sqrt(mean square of the row + x^2) as the weight of each squared error.

Undefined in C: a scale below 2^-128 has an infinite inverse, and the products are converted to int8. Defined here as
the release computes it: conversion to int32 gives -2^31, whose low byte is 0.

Reference: quantize_q4_0, dequantize_row_q4_0, ggml_vec_dot_q4_0_q8_0_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import q8_0
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import join_nibbles, split_nibbles
from hifi_ref.formats.search import row_importance, scale_search

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q4_0",
    type_id=2,
    block_size=32,
    dot_with="Q8_0",
    fields=(
        Field("d", "f16", holds="scale"),
        Field("qs", "u8", 16, holds="codes, weights 0-15 in low nibbles, 16-31 in high nibbles"),
    ),
)
# The importance of an error is relative to the mean square of the row.
ROW_SCOPED = True


def decode(blocks: UInt8[Array, "n 18"]) -> Float32[Array, "n 2 16"]:
    d, qs = LAYOUT.unpack(blocks)
    # Exact: 11 bits of scale times 4 bits of code fit a binary32.
    return exact.f32(split_nibbles(qs).astype(np.int8) - np.int8(8)) * d[:, None, None]


def encode(
    x: Float32[Array, "rows blocks 32"], weights: Float32[Array, "blocks 32"] | None = None
) -> UInt8[Array, "rows blocks 18"]:
    if weights is not None:
        d, codes = row_importance.least_error_in_rows(x, weights, top=8)
        return LAYOUT.pack(d=d, qs=join_nibbles(codes))
    # SCALE: the first weight of largest magnitude decides, so the sign of a tie is that of the earlier one
    d = exact.div(scale_search.extreme(x, axis=-1), np.float32(-8))
    inverse = exact.reciprocal_or_zero(d)
    # CODES: shifted by 8.5 and truncated towards zero, which rounds halves up; the byte kept is the low one
    shifted = exact.madd(x, inverse[..., None], np.float32(8.5), "shifted")
    codes = exact.as_int8(exact.truncate(shifted))
    return LAYOUT.pack(d=d, qs=join_nibbles(exact.at_most(15, codes)))


def dot(w: UInt8[Array, "rows blocks 18"], a: UInt8[Array, "blocks 34"]) -> Float32[Array, "rows"]:
    """Block after block (sum * d_w) * d_a."""
    dw, qs = LAYOUT.unpack(w)
    da, qa = q8_0.LAYOUT.unpack(a)
    # INTEGER PARTIAL SUMS: exact, at most 32 * 8 * 128
    partial = exact.int_dot(split_nibbles(qs).astype(np.int8) - np.int8(8), qa.reshape(-1, 2, 16))
    # FLOAT
    return exact.sum_of_rows(exact.product(exact.product(dw, exact.f32(partial)), da))
