"""F16: IEEE 754 binary16, one weight per block of 2 bytes.

    bytes   field   type     holds
    0-1     w       f16      the weight

Encoding rounds to the nearest, halves to even; a magnitude of 65520 or more becomes an infinity.

A dot product takes each product as a binary32 (exact), adds the products first to last in binary64, and rounds the sum
once: the scalar kernel of the release. Its SIMD kernels keep several float32 sums instead.

Reference: ggml_fp32_to_fp16_row, ggml_fp16_to_fp32_row, ggml_vec_dot_f16 of the x64 variant (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref import exact
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="F16",
    type_id=1,
    block_size=1,
    dot_with="F16",
    fields=(Field("w", "f16", holds="the weight"),),
)


def decode(blocks: UInt8[Array, "*n 2"]) -> Float32[Array, "*n"]:
    (w,) = LAYOUT.unpack(blocks)
    return w


def encode(
    x: Float32[Array, "rows blocks 1"], weights: Float32[Array, "blocks 1"] | None = None
) -> UInt8[Array, "rows blocks 2"]:
    # Subnormal float32 numbers round to a zero of their sign, as do those that were flushed to one.
    return LAYOUT.pack(w=x[..., 0])


def dot(w: UInt8[Array, "rows blocks 2"], a: UInt8[Array, "blocks 2"]) -> Float32[Array, "rows"]:
    """Products first to last, added in binary64; the sum is rounded once."""
    return exact.float_dot(decode(w), decode(a))
