"""F32: IEEE 754 binary32, one weight per block of 4 bytes.

    bytes   field   type     holds
    0-3     w       f32      the weight

A dot product rounds each product to binary32, adds the products first to last in binary64, and rounds the sum once: the
scalar kernel of the release. Its SIMD kernels keep several float32 sums instead.

Reference: ggml_vec_dot_f32 of the x64 variant (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref import exact
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="F32",
    type_id=0,
    block_size=1,
    dot_with="F32",
    fields=(Field("w", "f32", holds="the weight"),),
)


def decode(blocks: UInt8[Array, "*n 4"]) -> Float32[Array, "*n"]:
    (w,) = LAYOUT.unpack(blocks)
    return w


def encode(
    x: Float32[Array, "rows blocks 1"], weights: Float32[Array, "blocks 1"] | None = None
) -> UInt8[Array, "rows blocks 4"]:
    # The bits themselves, subnormals among them.
    return LAYOUT.pack(w=x[..., 0])


def dot(w: UInt8[Array, "rows blocks 4"], a: UInt8[Array, "blocks 4"]) -> Float32[Array, "rows"]:
    """Products first to last, added in binary64; the sum is rounded once."""
    return exact.float_dot(exact.watched_input(decode(w)), exact.watched_input(decode(a)))
