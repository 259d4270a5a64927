"""Q8_1: 32 activations in 36 bytes; the partner of Q4_1 and Q5_1 in dot products, never stored in files.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-3     s       f16      d times the sum of the codes
    4-35    qs      i8[32]   codes

    a[j] = d * q[j]        q[j] in -127..127

Scale and codes are those of Q8_0. The sum serves the formats with a min: its share of a dot product is m * s. It is
multiplied by the scale before either is narrowed to f16.

Undefined in C: as in Q8_0; the sum takes the codes that are stored. The release has no decoder and no dot product of
its own for this format; decoding is defined here as the formula above.

Reference: quantize_row_q8_1_ref (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref import exact
from hifi_ref.formats import q8_0
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q8_1",
    type_id=9,
    block_size=32,
    fields=(
        Field("d", "f16", holds="scale"),
        Field("s", "f16", holds="d times the sum of the codes"),
        Field("qs", "i8", 32, holds="codes"),
    ),
)


def decode(blocks: UInt8[Array, "n 36"]) -> Float32[Array, "n 32"]:
    d, _, qs = LAYOUT.unpack(blocks)
    # Exact: 11 bits of scale times 8 bits of code fit a binary32.
    return exact.f32(qs) * d[:, None]


def encode(
    x: Float32[Array, "rows blocks 32"], weights: Float32[Array, "blocks 32"] | None = None
) -> UInt8[Array, "rows blocks 36"]:
    d, codes = q8_0.scale_and_codes(x)
    codes = exact.as_int8(codes)
    # SUM
    s = exact.product(exact.f32(codes.sum(axis=-1)), d)
    return LAYOUT.pack(d=d, s=s, qs=codes)
