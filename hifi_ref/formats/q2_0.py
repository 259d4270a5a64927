"""Q2_0: 64 weights in 18 bytes, 2.25 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-17    qs      u8[16]   codes, four weights a byte, the first in the lowest bits

    w[j] = d * (q[j] - 1)        q[j] in 0..3

The largest magnitude is the scale. Each weight divided by it is rounded to -1, 0 or 1, halves away from zero, so the
encoder never writes code 3, which decodes to 2 d. Importance weights are not used.

Undefined in C: a largest magnitude of 2^-128 or less has an infinite inverse, and products that are infinite or no
number are converted to int. Defined here as the release computes it: conversion to int32 gives -2^31, which is clamped
to code 0.

Reference: quantize_row_q2_0_ref, dequantize_row_q2_0, ggml_vec_dot_q2_0_q8_0 (llama.cpp v0.5.0).
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
    name="Q2_0",
    type_id=42,
    block_size=64,
    dot_with="Q8_0",
    fields=(
        Field("d", "f16", holds="scale"),
        Field("qs", "u8", 16, holds="codes, four weights a byte, the first in the lowest bits"),
    ),
)


def decode(blocks: UInt8[Array, "n 18"]) -> Float32[Array, "n 4 16"]:
    d, qs = LAYOUT.unpack(blocks)
    # Exact: -1, 0, 1 or 2 times the scale.
    return exact.f32(spread_stream(qs, 2, word=4).astype(np.int8) - np.int8(1)) * d[:, None, None]


def encode(
    x: Float32[Array, "rows blocks 64"], weights: Float32[Array, "blocks 64"] | None = None
) -> UInt8[Array, "rows blocks 18"]:
    # SCALE
    lib = exact.library(x)
    d = exact.largest(x)
    inverse = exact.reciprocal_or_zero(d)
    # CODES
    rounded = exact.round_half_away(exact.product(x, inverse[..., None]))
    codes = lib.clip(exact.truncate(rounded), -1, 2) + 1
    return LAYOUT.pack(d=d, qs=gather_stream(codes, 2))


def dot(w: UInt8[Array, "rows blocks 18"], a: UInt8[Array, "blocks*2 34"]) -> Float32[Array, "rows"]:
    """Block after block d_w * (the sum of its two halves' sum * d_a, first to last)."""
    dw, qs = LAYOUT.unpack(w)
    da, qa = q8_0.LAYOUT.unpack(a)
    rows, blocks = dw.shape
    # INTEGER PARTIAL SUMS: one for each block of activations, at most 32 * 2 * 128
    codes = exact.i32(spread_stream(qs, 2, word=4)) - 1
    partial = exact.f32(exact.int_dot(codes.reshape(rows, blocks * 2, 32), qa))
    # FLOAT
    halves = exact.product(partial, da).reshape(rows, blocks, 2)
    inner = exact.sum_in_order(exact.library(halves).moveaxis(halves, -1, 0))
    return exact.sum_of_rows(exact.product(dw, inner))
