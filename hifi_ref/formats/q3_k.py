"""Q3_K: 256 weights in 110 bytes, 3.4375 bits per weight.

    bytes   field   type     holds
    0-31    hmask   u8[32]   high bit of the codes; bit p of byte j belongs to weight 32 p + j
    32-95   qs      u8[64]   low two bits, 32 bytes a half: bits 2p and 2p+1 of byte j: weight 32 p + j of the half
    96-107  scales  u8[12]   6-bit scales of 16 sub-blocks, each kept plus 32
    108-109 d       f16      scale of the scales

    w[j] = (d * (scale[s] - 32)) * (q[j] - 4)        s = j / 16, q[j] in 0..7

Scale s keeps its low four bits in nibble s / 8 of byte s % 8 and its high two bits in bits 2(s / 4), 2(s / 4) + 1 of
byte 8 + s % 4. A high bit of 1 means that 4 is *not* subtracted, which is why the C code reads it as a mask.

The encoder minimises the sum of weighted squared errors over each 16 weights. Without importance an error counts x^2:
the extreme goes to code 0, and then one code at a time takes the step that lessens the error, in five passes at most
(single_steps); the sub-block scale of largest magnitude, sign kept, becomes -32, and the others their share of it. With
importance an error counts importance * sqrt(2 * mean square of the super-block + x^2): it takes the best of 19 scales
around the one that puts the extreme on code 0 (scale_search), and finds the super-block's scale by the same search, in
which each sub-block scale counts as much as its weights together. Codes are rounded anew for the scales stored.

Reference: quantize_q3_K, dequantize_row_q3_K, ggml_vec_dot_q3_K_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, mul, nearest_int, product
from hifi_ref.formats import super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread
from hifi_ref.formats.search import scale_search, single_steps

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8, Int32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q3_K",
    type_id=11,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("hmask", "u8", 32, holds="high bit of the codes; bit p of byte j belongs to weight 32 p + j"),
        Field(
            "qs", "u8", 64,
            holds="low two bits, 32 bytes a half: bits 2p and 2p+1 of byte j: weight 32 p + j of the half",
        ),
        Field("scales", "u8", 12, holds="6-bit scales of 16 sub-blocks, each kept plus 32"),
        Field("d", "f16", holds="scale of the scales"),
    ),
)  # fmt: skip


def unpack_scales(packed: UInt8[Array, "*n 12"]) -> Int32[Array, "*n 16"]:
    """-32..31"""
    shape = packed.shape[:-1]
    low = spread(packed[..., :8], 4).reshape(*shape, 16)
    high = spread(packed[..., 8:], 2).reshape(*shape, 16)
    return exact.i32(low | high << np.uint8(4)) - 32


def _pack_scales(scales: Int32[Array, "*n 16"]) -> UInt8[Array, "*n 12"]:
    """From 0..63."""
    shape = scales.shape[:-1]
    low = gather((scales & 15).reshape(*shape, 2, 8), 4)
    high = gather((scales >> 4).reshape(*shape, 4, 4), 2)
    return exact.library(scales).concatenate([low, high], axis=-1)


def _split_codes(qs: UInt8[Array, "*n 64"], hmask: UInt8[Array, "*n 32"]) -> Int8[Array, "*n 2 4 32"]:
    """-4..3"""
    low = spread(qs.reshape(*qs.shape[:-1], 2, 32), 2)
    high = spread(hmask, 1).reshape(*hmask.shape[:-1], 2, 4, 32)
    return (low | high << np.uint8(2)).astype(np.int8) - np.int8(4)


def decode(blocks: UInt8[Array, "n 110"]) -> Float32[Array, "n 2 4 2 16"]:
    hmask, qs, packed, d = LAYOUT.unpack(blocks)
    # Exact: 11 bits times 6 times 3
    scale = (d[:, None] * f32(unpack_scales(packed))).reshape(-1, 2, 4, 2, 1)
    return scale * f32(_split_codes(qs, hmask).reshape(-1, 2, 4, 2, 16))


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None, thorough: bool = False
) -> UInt8[Array, "rows blocks 110"]:
    """thorough: the searches of an encoding with importance also where there is none; x^2 then stands for it."""
    lib = exact.library(x)
    shape = x.shape[:2]
    columns = exact.columns(x, 16)

    # SUB-BLOCKS, then the scale of the scales and their codes 0..63
    if weights is None and not thorough:
        fit = single_steps.least_square_error_by_single_steps(columns, top=4)
        sub_scales = fit.scale.reshape(-1, 16).T
        peak = scale_search.extreme(sub_scales)
        some = peak != 0
        inverse = div(np.float32(-32), lib.where(some, peak, np.float32(1)))
        nearest = exact.as_int8(nearest_int(product(sub_scales, inverse)))
        scales = lib.where(some, lib.clip(nearest, -32, 31) + 32, 0)
        d = lib.where(some, div(np.float32(1), inverse), np.float32(0))
    else:
        if weights is None:
            w = exact.held(lambda: mul(columns, columns))
        else:
            mean_square = super_block.super_block_mean_square(x, times=2)
            w = super_block.importance_columns(x, weights, 16, mean_square)
        fit = scale_search.least_weighted_square_error(columns, w.__getitem__, top=4)
        sub_scales = fit.scale.reshape(-1, 16).T
        sums = exact.sum_in_order(w).reshape(-1, 16).T
        d, scales = scale_search.least_weighted_square_error(sub_scales, sums.__getitem__, top=32)

    # CODES anew, for the scales that are stored
    packed = _pack_scales(scales.T)
    scale = (exact.round_f16(d)[:, None] * f32(unpack_scales(packed))).reshape(-1)
    codes = super_block.codes_for_scale(columns, scale, -4, 3, otherwise=fit.codes, shape=(*shape, 2, 4, 32))
    qs = gather(codes & 3, 2).reshape(*shape, 64)
    hmask = gather((codes >> 2).reshape(*shape, 8, 32), 1)
    return LAYOUT.pack(hmask=hmask, qs=qs, scales=packed.reshape(*shape, 12), d=d.reshape(shape))


def dot(
    w: UInt8[Array, "rows blocks 110"],
    a: UInt8[Array, "blocks 292"],
    corrections: Float32[Array, "rows blocks n"] | None = None,
) -> Float32[Array, "rows"]:
    """Eight running sums over the super-blocks, one a position modulo 8; then these eight, first to last.

    corrections: terms that the final sum begins with.
    """
    hmask, qs, packed, d = LAYOUT.unpack(w)

    def codes(s: int) -> Int8[Array, "rows blocks 16"]:
        half, plane, first = s // 8, s % 8 // 2, 16 * (s % 2)
        low = qs[..., 32 * half + first :][..., :16] >> np.uint8(2 * plane) & np.uint8(3)
        high = hmask[..., first : first + 16] >> np.uint8(4 * half + plane) & np.uint8(1)
        return (low | high << np.uint8(2)).astype(np.int8) - np.int8(4)

    return super_block.dot_symmetric(d, unpack_scales(packed), codes, a, corrections)
