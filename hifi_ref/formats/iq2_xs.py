"""IQ2_XS: 256 weights in 74 bytes, 2.3125 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-65    qs      u16[32]  a word for 8 weights: row number in the low 9 bits, sign code in the high 7
    66-73   scales  u8[8]    scales of 32 weights: the first 16 in the low nibble, the others in the high

    w[8 g + j] = d * (2 scale[s] + 1) / 8 * sign[g, j] * GRID[index[g]][j]        s = g / 2, scale in 0..15

Against IQ2_XXS the grid is doubled to 512 rows and a scale serves 16 weights, so every group of 8 has a word of its
own and the scales follow apart.

Encoding requires importance. The encoder minimises the sum of squared errors over each 16 weights, one counting
importance * sqrt(mean square of the super-block + x^2). Signs are those of IQ2_XXS. It tries 19 scales around the one
that puts the largest magnitude on the largest step, each with the nearest rows of the grid; for the best of them the
groups that were not on the grid choose anew (grid_search). The largest scale becomes 31, the others the nearest odd
share of it.

Reference: quantize_iq2_xs, dequantize_row_iq2_xs, ggml_vec_dot_iq2_xs_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread
from hifi_ref.formats.search import grid_search, scale_search
from hifi_ref.formats.search.grid_lists import Lists

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt16

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ2_XS",
    type_id=17,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("qs", "u16", 32, holds="a word for 8 weights: row number in the low 9 bits, sign code in the high 7"),
        Field("scales", "u8", 8, holds="scales of 32 weights: the first 16 in the low nibble, the others in the high"),
    ),
)

# Without importance the search would have no measure of error.
REQUIRES_WEIGHTS = True

SEARCH = grid_search.Search(Lists("IQ2_XS", 2), 9, 0.1, again="strays")


def fields(
    qs: UInt16[Array, "*n 32"], scales: UInt8[Array, "*n 8"]
) -> tuple[UInt16[Array, "*n 16 2"], UInt8[Array, "*n 16 2"], Int32[Array, "*n 16"]]:
    """Row numbers and sign bytes of the groups, and 2 scale + 1."""
    words = qs.reshape(*qs.shape[:-1], 16, 2)
    nibbles = spread(scales[..., None], 4).reshape(*scales.shape[:-1], 16)
    return words & np.uint16(511), codebooks.complete_signs(words >> np.uint16(9)), 2 * exact.i32(nibbles) + 1


def decode(blocks: UInt8[Array, "n 74"]) -> Float32[Array, "n 16 2 8"]:
    d, qs, scales = LAYOUT.unpack(blocks)
    index, signs, scales = fields(qs, scales)
    # Exact: 11 bits of scale, 5 of sub-block scale, 6 of magnitude
    scale = d[:, None] * exact.f32(scales) * np.float32(0.125)
    return scale[..., None, None] * codebooks.signed_rows("IQ2_XS", index, signs)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"]
) -> UInt8[Array, "rows blocks 74"]:
    lib = exact.library(x)
    shape = x.shape[:2]

    # SUB-BLOCKS
    columns, mean_square = grid_search.sub_columns(x, 16, doubled=False)
    w = grid_search.importance_columns(x.shape, columns, weights, mean_square)
    size, signs = grid_search.split_signs(columns, w, even=True)
    nothing = lib.max(size, axis=0) < scale_search.NOTHING
    fit = grid_search.fit_from_peak(SEARCH, size, w, nothing)
    found = grid_search.choose(SEARCH, fit, signs, nothing, shape)

    # SCALES OF THE SCALES, and all bytes 0 where there are none
    d, scales, empty = grid_search.store_scales(found.scale, 15)
    words = lib.where(empty[..., None], 0, found.row_numbers | (found.signs & 127) << 9)
    nibbles = gather(scales.reshape(*shape, 8, 2, 1), 4)[..., 0]
    return LAYOUT.pack(d=d, qs=words, scales=nibbles)


def dot(w: UInt8[Array, "rows blocks 74"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block (d * d_a) * sum; an eighth of the result."""
    d, qs, scales = LAYOUT.unpack(w)
    index, signs, scales = fields(qs, scales)
    codes = codebooks.signed_codes("IQ2_XS", index, signs).reshape(*d.shape, 16, 16)
    return super_block.dot_with_q8_k(d, scales, codes, a) * np.float32(0.125)
