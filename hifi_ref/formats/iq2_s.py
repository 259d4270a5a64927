"""IQ2_S: 256 weights in 82 bytes, 2.5625 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-65    qs      u8[64]   32 row numbers, low 8 bits; then 32 sign bytes
    66-73   qh      u8[8]    high 2 bits of four row numbers, the first lowest
    74-81   scales  u8[8]    scales of 32 weights: the first 16 in the low nibble, the others in the high

    w[8 g + j] = d * (2 scale[s] + 1) / 8 * sign[g, j] * GRID[index[g]][j]        s = g / 2, scale in 0..15

Against IQ2_XS the grid is doubled again, to 1024 rows, and all eight signs of a group are stored, so that a group with
an odd number of minus signs need not give up one of them.

The encoder minimises the sum of squared errors over each 16 weights, one counting (mean square of the super-block) / 2
+ x^2, or with importance importance * sqrt(2 * mean square + x^2). It searches as IQ2_XS does, without giving up signs,
and only among the rows at the smallest distance from a group.

The d that is stored is 0.9875 times the one found: an empirical factor, applied where quantize_row_iq2_s_impl stores d.
The search takes magnitudes for 1, 3 and 5, but they are decoded as 8, 25 and 43 eighths, a little more. For normally
distributed weights and lognormal importance the weighted rms error is 22.5 % of the weights' with it, and 22.9 %
without.

Reference: quantize_iq2_s, dequantize_row_iq2_s, ggml_vec_dot_iq2_s_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread
from hifi_ref.formats.search import grid_search
from hifi_ref.formats.search.grid_lists import Lists

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt16

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ2_S",
    type_id=22,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("qs", "u8", 64, holds="32 row numbers, low 8 bits; then 32 sign bytes"),
        Field("qh", "u8", 8, holds="high 2 bits of four row numbers, the first lowest"),
        Field("scales", "u8", 8, holds="scales of 32 weights: the first 16 in the low nibble, the others in the high"),
    ),
)

SEARCH = grid_search.Search(Lists("IQ2_S", 1), 9, 0.1, again="strays")


def fields(
    qs: UInt8[Array, "*n 64"], qh: UInt8[Array, "*n 8"], scales: UInt8[Array, "*n 8"]
) -> tuple[UInt16[Array, "*n 16 2"], UInt8[Array, "*n 16 2"], Int32[Array, "*n 16"]]:
    """Row numbers and sign bytes of the groups, and 2 scale + 1."""
    pairs = (*qs.shape[:-1], 16, 2)
    high = spread(qh[..., None], 2).reshape(pairs).astype(np.uint16)
    index = qs[..., :32].reshape(pairs) | high << np.uint16(8)
    nibbles = spread(scales[..., None], 4).reshape(pairs[:-1])
    return index, qs[..., 32:].reshape(pairs), 2 * exact.i32(nibbles) + 1


def decode(blocks: UInt8[Array, "n 82"]) -> Float32[Array, "n 16 2 8"]:
    d, qs, qh, scales = LAYOUT.unpack(blocks)
    index, signs, scales = fields(qs, qh, scales)
    # Exact: 11 bits of scale, 5 of sub-block scale, 6 of magnitude
    scale = d[:, None] * exact.f32(scales) * np.float32(0.125)
    return scale[..., None, None] * codebooks.signed_rows("IQ2_S", index, signs)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 82"]:
    lib = exact.library(x)
    shape = x.shape[:2]

    # SUB-BLOCKS
    columns, mean_square = grid_search.sub_columns(x, 16)
    if weights is None:
        w = exact.mul(mean_square, np.float32(0.25), "spread, left") + exact.mul(columns, columns, "spread")
    else:
        w = grid_search.importance_columns(x.shape, columns, weights, mean_square)
    size, signs = grid_search.split_signs(columns, w, even=False)
    nothing = lib.max(size, axis=0) < np.float32(1e-8)
    fit = grid_search.fit_from_peak(SEARCH, size, w, nothing)
    found = grid_search.choose(SEARCH, fit, signs, nothing, shape)

    # SCALES OF THE SCALES, reduced by the empirical factor
    d, scales, _ = grid_search.store_scales(found.scale, 15)
    qs = lib.concatenate([found.row_numbers & 255, found.signs], axis=-1)
    qh = gather((found.row_numbers >> 8).reshape(*shape, 8, 4, 1), 2)[..., 0]
    nibbles = gather(scales.reshape(*shape, 8, 2, 1), 4)[..., 0]
    return LAYOUT.pack(d=exact.mul(d, np.float32(0.9875)), qs=qs, qh=qh, scales=nibbles)


def dot(w: UInt8[Array, "rows blocks 82"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block (d * d_a) * sum; an eighth of the result."""
    d, qs, qh, scales = LAYOUT.unpack(w)
    index, signs, scales = fields(qs, qh, scales)
    codes = codebooks.signed_codes("IQ2_S", index, signs).reshape(*d.shape, 16, 16)
    return super_block.dot_with_q8_k(d, scales, codes, a) * np.float32(0.125)
