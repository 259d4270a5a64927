"""Q6_K: 256 weights in 210 bytes, 6.5625 bits per weight.

    bytes   field   type     holds
    0-127   ql      u8[128]  low four bits, 64 bytes a half: its weights 0-63 in low nibbles, 64-127 in high ones
    128-191 qh      u8[64]   high two bits, 32 bytes a half: bits 2p and 2p+1 of byte j: weight 32 p + j of the half
    192-207 scales  i8[16]   scales of 16 sub-blocks
    208-209 d       f16      scale of the scales

    w[j] = (d * scale[s]) * (q[j] - 32)        s = j / 16, q[j] in 0..63

The sub-block scale of largest magnitude, sign kept, becomes -128. Squared errors count x^2, or the importance alone.

Reference: quantize_q6_K, dequantize_row_q6_K, ggml_vec_dot_q6_K_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, mul, nearest_int, product
from hifi_ref.formats import super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread
from hifi_ref.formats.search import scale_search

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q6_K",
    type_id=14,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field(
            "ql", "u8", 128,
            holds="low four bits, 64 bytes a half: its weights 0-63 in low nibbles, 64-127 in high ones",
        ),
        Field(
            "qh", "u8", 64,
            holds="high two bits, 32 bytes a half: bits 2p and 2p+1 of byte j: weight 32 p + j of the half",
        ),
        Field("scales", "i8", 16, holds="scales of 16 sub-blocks"),
        Field("d", "f16", holds="scale of the scales"),
    ),
)  # fmt: skip


def _split_codes(ql: UInt8[Array, "*n 128"], qh: UInt8[Array, "*n 64"]) -> UInt8[Array, "*n 2 2 2 32"]:
    """0..63, by half, nibble and 32-byte run."""
    shape = ql.shape[:-1]
    low = spread(ql.reshape(*shape, 2, 64), 4).reshape(*shape, 2, 2, 2, 32)
    high = spread(qh.reshape(*shape, 2, 32), 2).reshape(*shape, 2, 2, 2, 32)
    return low | high << np.uint8(4)


def decode(blocks: UInt8[Array, "n 210"]) -> Float32[Array, "n 2 2 2 2 16"]:
    ql, qh, scales, d = LAYOUT.unpack(blocks)
    # Exact: 11 bits times 7 times 6
    scale = (d[:, None] * f32(scales)).reshape(-1, 2, 2, 2, 2, 1)
    codes = _split_codes(ql, qh).astype(np.int8) - np.int8(32)
    return scale * f32(codes).reshape(-1, 2, 2, 2, 2, 16)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 210"]:
    lib = exact.library(x)
    shape = x.shape[:2]
    columns = exact.columns(x, 16)

    # SUB-BLOCKS
    if weights is None:
        fit = scale_search.least_weighted_square_error(columns, lambda i: mul(columns[i], columns[i]), top=32)
    else:
        importance = exact.columns(lib.broadcast_to(weights, x.shape), 16)
        fit = scale_search.least_weighted_square_error(columns, importance.__getitem__, top=32)

    # SCALES OF THE SCALES: a super-block without any keeps all its bytes 0
    sub_scales = fit.scale.reshape(-1, 16).T
    peak = scale_search.extreme(sub_scales)
    some = lib.abs(peak) >= scale_search.NOTHING
    inverse = div(np.float32(-128), lib.where(some, peak, np.float32(1)))
    scales = lib.where(some, exact.as_int8(exact.at_most(127, nearest_int(product(sub_scales, inverse)))), 0).T
    d = lib.where(some, div(np.float32(1), inverse), np.float32(0))

    # CODES anew, for the scales that are stored
    scale = (exact.round_f16(d)[:, None] * f32(scales)).reshape(-1)
    kept = lib.where(lib.repeat(some, 16), fit.codes, 0)
    codes = super_block.codes_for_scale(columns, scale, -32, 31, otherwise=kept, shape=(*shape, 2, 4, 32))
    ql = gather((codes & 15).reshape(*shape, 2, 2, 64), 4).reshape(*shape, 128)
    qh = gather(codes >> 4, 2).reshape(*shape, 64)
    return LAYOUT.pack(ql=ql, qh=qh, scales=scales.reshape(*shape, 16), d=d.reshape(shape))


def dot(
    w: UInt8[Array, "rows blocks 210"],
    a: UInt8[Array, "blocks 292"],
    corrections: Float32[Array, "rows blocks n"] | None = None,
) -> Float32[Array, "rows"]:
    """Eight running sums over the super-blocks, one a position modulo 8; then these eight, first to last.

    corrections: terms that the final sum begins with.
    """
    ql, qh, scales, d = LAYOUT.unpack(w)

    def codes(s: int) -> Int8[Array, "rows blocks 16"]:
        half, quarter, first = s // 8, s % 8 // 2, 16 * (s % 2)
        low = ql[..., 64 * half + 32 * (quarter % 2) + first :][..., :16] >> np.uint8(4 * (quarter // 2)) & np.uint8(15)
        high = qh[..., 32 * half + first :][..., :16] >> np.uint8(2 * quarter) & np.uint8(3)
        return (low | high << np.uint8(4)).astype(np.int8) - np.int8(32)

    return super_block.dot_symmetric(d, scales, codes, a, corrections)
