"""IQ1_S: 256 weights in 50 bytes, 1.5625 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-33    qs      u8[32]   row numbers of 8 weights each, low 8 bits
    34-49   qh      u16[8]   3 high bits of four row numbers, the first lowest; scale in 12-14; 15: delta < 0

    w[8 g + j] = d * (2 scale[s] + 1) * (GRID[index[g]][j] + delta[s])        s = g / 4, scale in 0..7, delta +-1/8

The grid has 2048 rows of -1, 0 and 1. A shift of one eighth, up or down for 32 weights at a time, leaves no weight
exactly 0. It is kept as an integer here: eight times the row, plus or minus one.

Encoding requires importance. The encoder minimises the sum of squared errors over each 32 weights, one counting
importance * sqrt(2 * mean square of the super-block + x^2). It sorts the weights, tries each split in three for the
three steps with both shifts, moves the codes of every 8 to the nearest row of the grid, and fits the scale to the rows
(split_search). The largest scale becomes 15, the others the nearest odd share of it.

The d that is stored is 1.125 times the one found: an empirical factor that the release applies where it stores d, in
quantize_row_iq1_s_impl, and gives no reason for. It is no gain in squared error: for normally distributed weights and
lognormal importance the weighted rms error is 44.1 % of the weights' with it, and 40.9 % without.

Reference: quantize_iq1_s, dequantize_row_iq1_s, ggml_vec_dot_iq1_s_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, q8_k, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.search import grid_search, split_search

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt16

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ1_S",
    type_id=19,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("qs", "u8", 32, holds="row numbers of 8 weights each, low 8 bits"),
        Field("qh", "u16", 8, holds="3 high bits of four row numbers, the first lowest; scale in 12-14; 15: delta < 0"),
    ),
)

# Without importance the search would have no measure of error.
REQUIRES_WEIGHTS = True


def fields(
    qs: UInt8[Array, "*n 32"], qh: UInt16[Array, "*n 8"]
) -> tuple[UInt16[Array, "*n 8 4"], Int32[Array, "*n 8"], Int32[Array, "*n 8"]]:
    """Row numbers of the groups, 2 scale + 1, and 8 delta."""
    high = (qh[..., None] >> exact.library(qh).arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)
    index = qs.reshape(high.shape) | high << np.uint16(8)
    words = exact.i32(qh)
    return index, 2 * (words >> 12 & 7) + 1, 1 - 2 * (words >> 15)


def decode(blocks: UInt8[Array, "n 50"]) -> Float32[Array, "n 8 4 8"]:
    d, qs, qh = LAYOUT.unpack(blocks)
    index, scales, shift = fields(qs, qh)
    # Exact: 11 bits of scale, 4 of sub-block scale, 4 of shifted row
    scale = d[:, None] * exact.f32(scales)
    delta = exact.f32(shift) * np.float32(0.125)
    rows = codebooks.take(codebooks.grid("IQ1_S", np.float32), index)
    return scale[..., None, None] * (rows + delta[..., None, None])


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"]
) -> UInt8[Array, "rows blocks 50"]:
    lib = exact.library(x)
    shape = x.shape[:2]

    # SUB-BLOCKS
    columns, mean_square = grid_search.sub_columns(x, 32)
    w = grid_search.importance_columns(x.shape, columns, weights, mean_square)
    found = split_search.best_split(columns, w, 1e-12, halves=False)

    # SCALES OF THE SCALES, enlarged by the empirical factor
    d, scales, empty = grid_search.store_scales(found.scale.reshape(*shape, 8), 7)
    known = ~found.nothing.reshape(*shape, 8) | empty[..., None]
    grid_search.known_codes(known.reshape(-1), "the build keeps a chance shift where 32 weights are nearly 0")
    index = found.row_numbers.T.reshape(*shape, 8, 4)
    down = lib.where(empty[..., None], False, found.down[0].reshape(*shape, 8))
    high = sum((index[..., i] >> 8) << (3 * i) for i in range(4)) | scales << 12 | down.astype(np.int32) << 15
    qs = (index & 255).reshape(*shape, 32)
    return LAYOUT.pack(d=exact.mul(d, np.float32(1.125)), qs=qs, qh=high)


def dot(w: UInt8[Array, "rows blocks 50"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block (d * d_a) * sum."""
    d, qs, qh = LAYOUT.unpack(w)
    da, qa, bsums = q8_k.unpack(a)
    index, scales, shift = fields(qs, qh)
    # INTEGER PARTIAL SUMS: eight times rows, plus shifts, which take the stored sums; exact, below 2^24
    rows = codebooks.take(codebooks.grid("IQ1_S"), index).reshape(*d.shape, 8, 32)
    pairs = exact.i32(bsums).reshape(-1, 8, 2).sum(axis=-1)
    shifts = (scales * shift * pairs).sum(axis=-1, dtype=np.int32)
    total = exact.f32(8 * super_block.scaled_sum(scales, rows, qa) + shifts) * np.float32(0.125)
    # FLOAT
    return exact.sum_of_rows(exact.product(d * da, total))
