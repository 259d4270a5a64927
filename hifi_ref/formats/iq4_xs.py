"""IQ4_XS: 256 weights in 136 bytes, 4.25 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-3     scales_h u16      high 2 bits of the eight scales, the first lowest
    4-7     scales_l u8[4]    low 4 bits of the scales, two a byte, the first in the low nibble
    8-135   qs      u8[128]  codes, 16 bytes a sub-block: weights 0-15 in low nibbles, 16-31 in high nibbles

    w[j] = d * (scale[s] - 32) * STEPS[q[j]]        s = j / 32, scale in 0..63, q[j] in 0..15

The steps of IQ4_NL in a super-block: one f16 scale, and 6-bit scales with sign for eight sub-blocks of 32.

The encoder minimises the sum of squared errors over each 32 weights, one counting x^2, or with importance
importance * sqrt(2 * mean square of the super-block + x^2), by IQ4_NL's search (step_search). The sub-block scale of
largest magnitude, sign kept, becomes -32, and the others the nearest share of it. Codes are rounded anew for these.

Reference: quantize_iq4_xs, dequantize_row_iq4_xs, ggml_vec_dot_iq4_xs_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, q8_k
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread
from hifi_ref.formats.search import scale_search, step_search

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt16

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ4_XS",
    type_id=23,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("scales_h", "u16", holds="high 2 bits of the eight scales, the first lowest"),
        Field("scales_l", "u8", 4, holds="low 4 bits of the scales, two a byte, the first in the low nibble"),
        Field("qs", "u8", 128, holds="codes, 16 bytes a sub-block: weights 0-15 in low nibbles, 16-31 in high nibbles"),
    ),
)


def unpack_scales(high: UInt16[Array, "*n"], low: UInt8[Array, "*n 4"]) -> Int32[Array, "*n 8"]:
    """The sub-block scales, sign included."""
    pairs = (high[..., None] >> exact.library(high).arange(0, 16, 2, dtype=np.uint16)) & np.uint16(3)
    return (exact.i32(pairs) << 4 | exact.i32(spread(low[..., None], 4).reshape(pairs.shape))) - 32


def decode(blocks: UInt8[Array, "n 136"]) -> Float32[Array, "n 8 2 16"]:
    d, high, low, qs = LAYOUT.unpack(blocks)
    # Exact: 11 bits of scale, 6 of sub-block scale, 7 of step
    scale = d[:, None] * exact.f32(unpack_scales(high, low))
    steps = codebooks.take_step(codebooks.STEPS_IQ4, spread(qs.reshape(-1, 8, 16), 4))
    return scale[..., None, None] * exact.f32(steps)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 136"]:
    lib = exact.library(x)
    shape = x.shape[:-1]
    sub_scales = step_search.scales_of_least_error(x, weights)

    # SCALES OF THE SCALES: the one of largest magnitude, sign kept, becomes -32
    peak = scale_search.extreme(sub_scales, axis=-1)
    d = exact.rounded(exact.mul(-peak, np.float32(1 / 32)))
    shares = exact.product(sub_scales, exact.reciprocal_or_zero(d)[..., None])
    scales = lib.clip(exact.nearest_int(shares), -32, 31)

    # CODES anew, for the scales that are stored, but with d before it is narrowed
    inverse = exact.reciprocal_or_zero(exact.product(d[..., None], exact.f32(scales)))
    codes = codebooks.nearest_step_iq4(exact.product(x.reshape(*shape, 8, 32), inverse[..., None]))

    stored = scales + 32
    high = (stored >> 4 << np.arange(0, 16, 2, dtype=np.int32)).sum(axis=-1)
    low = gather((stored & 15).reshape(*shape, 4, 2, 1), 4)[..., 0]
    qs = gather(codes.reshape(*shape, 8, 2, 16), 4).reshape(*shape, 128)
    return LAYOUT.pack(d=d, scales_h=high, scales_l=low, qs=qs)


def dot(w: UInt8[Array, "rows blocks 136"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Sub-block after sub-block ((d * d_a) * scale) * sum."""
    d, high, low, qs = LAYOUT.unpack(w)
    da, qa, _ = q8_k.unpack(a)
    rows, blocks = d.shape
    # INTEGER PARTIAL SUMS: exact, at most 32 * 127 * 128
    steps = codebooks.take_step(codebooks.STEPS_IQ4, spread(qs.reshape(rows, blocks * 8, 16), 4))
    partial = exact.int_dot(steps, qa.reshape(-1, 2, 16))
    # FLOAT
    scale = (d * da)[..., None] * exact.f32(unpack_scales(high, low))
    return exact.sum_of_rows(exact.product(scale, exact.f32(partial.reshape(rows, blocks, 8))))
