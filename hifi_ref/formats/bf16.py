"""BF16: bfloat16, the upper half of a binary32, one weight per block of 2 bytes.

    bytes   field   type     holds
    0-1     w       u16      the upper 16 bits of the weight as a binary32

Encoding rounds to the nearest, halves to even, in integer arithmetic on the bits; subnormals are kept.

A dot product rounds each product to binary32, adds the products first to last in binary64, and rounds the sum once: the
scalar kernel of the release. Its SIMD kernels keep several float32 sums instead.

Reference: ggml_fp32_to_bf16_row_ref, ggml_bf16_to_fp32_row, ggml_vec_dot_bf16 of the x64 variant (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref import exact
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="BF16",
    type_id=30,
    block_size=1,
    dot_with="BF16",
    fields=(Field("w", "u16", holds="the upper 16 bits of the weight as a binary32"),),
)


def decode(blocks: UInt8[Array, "*n 2"]) -> Float32[Array, "*n"]:
    (w,) = LAYOUT.unpack(blocks)
    return exact.widen_bf16(w)


def encode(
    x: Float32[Array, "rows blocks 1"], weights: Float32[Array, "blocks 1"] | None = None
) -> UInt8[Array, "rows blocks 2"]:
    return LAYOUT.pack(w=exact.narrow_bf16(x[..., 0]))


def dot(w: UInt8[Array, "rows blocks 2"], a: UInt8[Array, "blocks 2"]) -> Float32[Array, "rows"]:
    """Products first to last, added in binary64; the sum is rounded once."""
    return exact.float_dot(exact.watched_input(decode(w)), exact.watched_input(decode(a)))
