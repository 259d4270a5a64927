"""IQ1_M: 256 weights in 56 bytes, 1.75 bits per weight.

    bytes   field   type     holds
    0-31    qs      u8[32]   row numbers of 8 weights each, low 8 bits
    32-47   qh      u8[16]   a nibble a row number, the first low: its 3 high bits, then a bit for delta < 0
    48-55   scales  u8[8]    four 16-bit words: four 3-bit scales, lowest first, and a nibble of d on top

    w[8 g + j] = d * (2 scale[s] + 1) * (GRID[index[g]][j] + delta[g])        s = g / 2, scale in 0..7, delta +-1/8

The grid of IQ1_S, but a scale for every 16 weights and a shift for every 8. The f16 scale d has no bytes of its own:
cut into four nibbles, it stands in the top nibbles of the four 16-bit words of scales, its lowest nibble in the first.

The encoder minimises the sum of squared errors over each 16 weights, one counting x^2, or with importance
importance * sqrt(2 * mean square of the super-block + x^2). It searches as IQ1_S does, but with the four pairs of
shifts that the two halves can have. When all sub-block scales are rounded, d is fitted once more to all 256 weights.

The d that is stored is 1.1125 times that: an empirical factor, applied where quantize_row_iq1_m_impl stores d. It is no
gain in squared error: for normally distributed weights and lognormal importance the weighted rms error is 38.9 % of the
weights' with it, and 36.4 % without.

Reference: quantize_iq1_m, dequantize_row_iq1_m, ggml_vec_dot_iq1_m_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, q8_k, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread
from hifi_ref.formats.search import grid_search, split_search

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt16

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ1_M",
    type_id=29,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("qs", "u8", 32, holds="row numbers of 8 weights each, low 8 bits"),
        Field("qh", "u8", 16, holds="a nibble a row number, the first low: its 3 high bits, then a bit for delta < 0"),
        Field("scales", "u8", 8, holds="four 16-bit words: four 3-bit scales, lowest first, and a nibble of d on top"),
    ),
)


def fields(
    qs: UInt8[Array, "*n 32"], qh: UInt8[Array, "*n 16"], scales: UInt8[Array, "*n 8"]
) -> tuple[Float32[Array, "*n"], UInt16[Array, "*n 16 2"], Int32[Array, "*n 16"], Int32[Array, "*n 16 2"]]:
    """d, row numbers of the groups, 2 scale + 1, and 8 delta."""
    lib = exact.library(qs)
    shape = qs.shape[:-1]
    words = scales[..., 0::2].astype(np.uint16) | scales[..., 1::2].astype(np.uint16) << np.uint16(8)
    nibbles = words >> np.uint16(12)
    half = nibbles[..., 0]
    for i in range(1, 4):
        half = half | nibbles[..., i] << np.uint16(4 * i)
    threes = (words[..., None] >> lib.arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)
    high = spread(qh[..., None], 4).reshape(*shape, 16, 2).astype(np.uint16)
    index = qs.reshape(high.shape) | (high & np.uint16(7)) << np.uint16(8)
    shift = 1 - 2 * exact.i32(high >> np.uint16(3))
    return exact.widen_f16(half), index, 2 * exact.i32(threes).reshape(*shape, 16) + 1, shift


def decode(blocks: UInt8[Array, "n 56"]) -> Float32[Array, "n 16 2 8"]:
    d, index, scales, shift = fields(*LAYOUT.unpack(blocks))
    # Exact: 11 bits of scale, 4 of sub-block scale, 4 of shifted row
    scale = d[:, None] * exact.f32(scales)
    delta = exact.f32(shift) * np.float32(0.125)
    rows = codebooks.take(codebooks.grid("IQ1_S", np.float32), index)
    return scale[..., None, None] * (rows + delta[..., None])


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 56"]:
    lib = exact.library(x)
    shape = x.shape[:2]

    # SUB-BLOCKS
    columns, mean_square = grid_search.sub_columns(x, 16)
    if weights is None:
        w = exact.rounded(exact.mul(columns, columns))
    else:
        w = grid_search.importance_columns(x.shape, columns, weights, mean_square)
    found = split_search.best_split(columns, w, 1e-7, halves=True)
    index = found.row_numbers.T.reshape(*shape, 16, 2)

    # SCALES OF THE SCALES: their own scale is fitted to all weights, and enlarged by the empirical factor
    d, scales, empty = grid_search.store_scales(found.scale.reshape(*shape, 16), 7)
    down = found.down.T.reshape(*shape, 16, 2) & ~empty[..., None, None]
    delta = lib.where(down, np.float32(-0.125), np.float32(0.125))
    steps = codebooks.take(codebooks.grid("IQ1_S", np.float32), index) + delta[..., None]
    q = exact.rounded(exact.product(steps, exact.f32(2 * scales + 1)[..., None, None]))
    qx, q2 = split_search.sums_of(*(a.reshape(-1, 256).T for a in (x, w.T, q)))
    qx, q2 = qx.reshape(shape), q2.reshape(shape)
    d = lib.where(q2 > 0, exact.div(qx, lib.where(q2 > 0, q2, np.float32(1))), d)
    d = lib.where(empty, np.float32(0), exact.rounded(exact.mul(d, np.float32(1.1125))))

    # BYTES: the nibbles of d on top of the scales
    half = exact.narrow_f16(d).astype(np.int32)
    quads = scales.reshape(*shape, 4, 4)
    words = [
        sum(quads[..., k, i] << (3 * i) for i in range(4)) | (half >> (4 * k) & 15) << 12 for k in range(4)
    ]  # fmt: skip
    stored = lib.stack([word >> shift & 255 for word in words for shift in (0, 8)], axis=-1)
    nibbles = index >> 8 | down.astype(np.int32) << 3
    qh = gather(nibbles[..., None], 4)[..., 0]
    return LAYOUT.pack(qs=(index & 255).reshape(*shape, 32), qh=qh, scales=stored)


def dot(w: UInt8[Array, "rows blocks 56"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block (d * d_a) * sum."""
    d, index, scales, shift = fields(*LAYOUT.unpack(w))
    da, qa, _ = q8_k.unpack(a)
    # INTEGER PARTIAL SUMS of eight times the shifted rows: exact, below 2^24, and so is an eighth of them
    rows = codebooks.take(codebooks.grid("IQ1_S"), index)
    shifted = np.int8(8) * rows + shift[..., None].astype(np.int8)
    total = super_block.scaled_sum(scales, shifted.reshape(*d.shape, 16, 16), qa)
    # FLOAT
    return exact.sum_of_rows(exact.product(d * da, exact.f32(total) * np.float32(0.125)))
