"""Q1_0: 128 weights in 18 bytes, 1.125 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-17    qs      u8[16]   signs, eight weights a byte, the first in the lowest bit; 1 is plus

    w[j] = d if bit[j] else -d

The scale is the mean magnitude, summed first to last in float32. A zero of either sign takes a 1. Importance weights
are not used.

Reference: quantize_row_q1_0_ref, dequantize_row_q1_0, ggml_vec_dot_q1_0_q8_0_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import q8_0
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather_stream, spread_stream

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q1_0",
    type_id=41,
    block_size=128,
    dot_with="Q8_0",
    fields=(
        Field("d", "f16", holds="scale"),
        Field("qs", "u8", 16, holds="signs, eight weights a byte, the first in the lowest bit; 1 is plus"),
    ),
)


def decode(blocks: UInt8[Array, "n 18"]) -> Float32[Array, "n 4 32"]:
    d, qs = LAYOUT.unpack(blocks)
    # A minus is a sign bit flipped, also that of a scale that is no number.
    minus = (spread_stream(qs, 1, word=4) ^ np.uint32(1)) << np.uint32(31)
    return exact.from_bits(exact.bits(d)[:, None, None] ^ minus)


def encode(
    x: Float32[Array, "rows blocks 128"], weights: Float32[Array, "blocks 128"] | None = None
) -> UInt8[Array, "rows blocks 18"]:
    # SCALE
    d = exact.div(exact.sum_in_order(exact.library(x).moveaxis(abs(x), -1, 0)), np.float32(128))
    # CODES: x >= 0, read from the bits so that -0 and subnormals are what they are
    plus = exact.bits(x) <= np.uint32(0x80000000)
    return LAYOUT.pack(d=d, qs=gather_stream(exact.i32(plus), 1))


def dot(w: UInt8[Array, "rows blocks 18"], a: UInt8[Array, "blocks*4 34"]) -> Float32[Array, "rows"]:
    """Block after block d_w * (the sum of its four quarters' sum * d_a, first to last)."""
    dw, qs = LAYOUT.unpack(w)
    da, qa = q8_0.LAYOUT.unpack(a)
    rows, blocks = dw.shape
    # INTEGER PARTIAL SUMS: one for each block of activations, at most 32 * 128
    signs = exact.i32(spread_stream(qs, 1, word=4)) * 2 - 1
    partial = exact.f32(exact.int_dot(signs.reshape(rows, blocks * 4, 32), qa))
    # FLOAT
    quarters = exact.product(partial, da).reshape(rows, blocks, 4)
    inner = exact.sum_in_order(exact.library(quarters).moveaxis(quarters, -1, 0))
    return exact.sum_of_rows(exact.product(dw, inner))
