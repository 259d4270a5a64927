"""Q2_K: 256 weights in 84 bytes, 2.625 bits per weight.

    bytes   field   type     holds
    0-15    scales  u8[16]   a byte a sub-block of 16: scale in the low nibble, min in the high one
    16-79   qs      u8[64]   codes, 32 bytes a half: bits 2p and 2p+1 of byte j: weight 32 p + j of the half
    80-81   d       f16      scale of the scales
    82-83   dmin    f16      scale of the mins

    w[j] = (d * scale[s]) * q[j] - dmin * min[s]        s = j / 16, q[j] in 0..3

The search minimises sum |x| |error|, not squares: with four codes the large weights must not decide alone. With
importance it minimises squares weighted by qw * sqrt(mean square + x^2).

Reference: quantize_q2_K, dequantize_row_q2_K, ggml_vec_dot_q2_K_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import f32, product
from hifi_ref.formats import q8_k, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q2_K",
    type_id=10,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("scales", "u8", 16, holds="a byte a sub-block of 16: scale in the low nibble, min in the high one"),
        Field(
            "qs", "u8", 64,
            holds="codes, 32 bytes a half: bits 2p and 2p+1 of byte j: weight 32 p + j of the half",
        ),
        Field("d", "f16", holds="scale of the scales"),
        Field("dmin", "f16", holds="scale of the mins"),
    ),
)  # fmt: skip


def unpack_scales(packed: UInt8[Array, "*n 16"]) -> tuple[UInt8[Array, "*n 16"], UInt8[Array, "*n 16"]]:
    return packed & np.uint8(15), packed >> np.uint8(4)


def _pack_scales(scales: Int32[Array, "*n 16"], mins: Int32[Array, "*n 16"]) -> UInt8[Array, "*n 16"]:
    return (scales | mins << 4).astype(np.uint8)


def decode(blocks: UInt8[Array, "n 84"]) -> Float32[Array, "n 2 4 2 16"]:
    packed, qs, d, dmin = LAYOUT.unpack(blocks)
    # SCALES: exact, 11 bits times 4
    scales, mins = unpack_scales(packed)
    scale = (d[:, None] * f32(scales)).reshape(-1, 2, 4, 2, 1)
    minimum = (dmin[:, None] * f32(mins)).reshape(-1, 2, 4, 2, 1)
    # VALUES: the product is exact (15 bits times 2), so the subtraction is the only rounding
    codes = spread(qs.reshape(-1, 2, 32), 2).reshape(-1, 2, 4, 2, 16)
    return scale * f32(codes) - minimum


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 84"]:
    fit = super_block.fit_with_mins(x, weights, 16, 3, 15, _pack_scales, unpack_scales, trials=(-0.5, 0.1, 15))
    qs = gather(fit.codes.reshape(*x.shape[:2], 2, 4, 32), 2).reshape(*x.shape[:2], 64)
    return LAYOUT.pack(scales=fit.scales, qs=qs, d=fit.d, dmin=fit.dmin)


def dot(
    w: UInt8[Array, "rows blocks 84"],
    a: UInt8[Array, "blocks 292"],
    corrections: Float32[Array, "rows blocks n"] | None = None,
) -> Float32[Array, "rows"]:
    """Super-block after super-block (d d_a) * sum - (dmin d_a) * share of the mins.

    corrections: terms that the sum takes after that of their block.
    """
    packed, qs, d, dmin = LAYOUT.unpack(w)
    da, qa, bsums = q8_k.unpack(a)
    scales, mins = unpack_scales(packed)

    def codes(s: int) -> UInt8[Array, "rows blocks 16"]:
        half, plane, first = s // 8, s % 8 // 2, 16 * (s % 2)
        return qs[..., 32 * half + first :][..., :16] >> np.uint8(2 * plane) & np.uint8(3)

    # INTEGER PARTIAL SUMS: at most 256 * 15 * 3 * 128
    partial = super_block.int_sixteenths(scales, codes, qa).sum(axis=-1)
    share = super_block.sums_of_mins(mins, bsums)
    # FLOAT
    terms = product(d * da, f32(partial)) - product(dmin * da, f32(share))
    return exact.sum_of_rows(super_block.followed_by(terms, corrections))
