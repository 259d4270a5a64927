"""Q8_0: 32 weights in 34 bytes, 8.5 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-33    qs      i8[32]   codes

    w[j] = d * q[j]        q[j] in -127..127

The largest magnitude divided by 127 gives the scale. Codes are rounded with the scale before it is narrowed to f16,
halves away from zero.

Undefined in C: where the largest magnitude is below 127 * 2^-128, the inverse scale overflows and infinite products are
converted to int8. Defined here as the release computes it: conversion to int32 gives -2^31, whose low byte is 0.

Reference: quantize_row_q8_0_ref, dequantize_row_q8_0, ggml_vec_dot_q8_0_q8_0_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q8_0",
    type_id=8,
    block_size=32,
    dot_with="Q8_0",
    fields=(
        Field("d", "f16", holds="scale"),
        Field("qs", "i8", 32, holds="codes"),
    ),
)


def decode(blocks: UInt8[Array, "n 34"]) -> Float32[Array, "n 32"]:
    d, qs = LAYOUT.unpack(blocks)
    # Exact: 11 bits of scale times 8 bits of code fit a binary32.
    return exact.f32(qs) * d[:, None]


def encode(
    x: Float32[Array, "rows blocks 32"], weights: Float32[Array, "blocks 32"] | None = None
) -> UInt8[Array, "rows blocks 34"]:
    d, codes = scale_and_codes(x)
    return LAYOUT.pack(d=d, qs=codes)


def scale_and_codes(x: Float32[Array, "*n 32"]) -> tuple[Float32[Array, "*n"], Int32[Array, "*n 32"]]:
    """The scale before narrowing, and the codes; Q8_1 shares them."""
    d = exact.div(exact.largest(x), np.float32(127))
    inverse = exact.reciprocal_or_zero(d)
    rounded = exact.round_half_away(exact.product(x, inverse[..., None]))
    return d, exact.truncate(rounded)


def dot(w: UInt8[Array, "rows blocks 34"], a: UInt8[Array, "blocks 34"]) -> Float32[Array, "rows"]:
    """Block after block sum * (d_w * d_a)."""
    dw, qw = LAYOUT.unpack(w)
    da, qa = LAYOUT.unpack(a)
    # INTEGER PARTIAL SUMS: exact, at most 32 * 128 * 128
    partial = exact.int_dot(qw, qa)
    # FLOAT
    return exact.sum_of_rows(exact.product(exact.product(dw, da), exact.f32(partial)))
