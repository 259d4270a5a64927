"""IQ2_XXS: 256 weights in 66 bytes, 2.0625 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-65    qs      u16[32]  8 runs of 4: two words of row numbers, two of sign codes and the scale

    w[8 g + j] = d * (2 scale[s] + 1) / 8 * sign[g, j] * GRID[index[g]][j]        s = g / 4, scale in 0..15

Four groups of 8 weights share a scale and 8 bytes: four row numbers, a byte each, then a 32-bit word of four 7-bit
sign codes, lowest first, and the scale in its top four bits. The grid has 256 rows of magnitudes 8, 25 and 43.

Encoding requires importance. The encoder minimises the sum of squared errors over each 32 weights, one counting
importance * sqrt(mean square of the super-block + x^2). Where 8 weights have an odd number of minus signs, the weight
with the least importance times x^2 gives up its own. Magnitudes are taken for 1, 3 or 5 times the scale. The scale of
equal steps 0 to 4 is found first (single_steps). Of 13 scales around the one that makes three such steps the largest
magnitude, 5, each is tried with the nearest rows of the grid, and the rows are chosen anew for the best (grid_search).
The largest scale becomes 31, the others the nearest odd share of it.

Reference: quantize_iq2_xxs, dequantize_row_iq2_xxs, ggml_vec_dot_iq2_xxs_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.search import grid_search, scale_search, single_steps
from hifi_ref.formats.search.grid_lists import Lists

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8, UInt16, UInt32

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ2_XXS",
    type_id=16,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("qs", "u16", 32, holds="8 runs of 4: two words of row numbers, two of sign codes and the scale"),
    ),
)

# Without importance the search would have no measure of error.
REQUIRES_WEIGHTS = True

SEARCH = grid_search.Search(Lists("IQ2_XXS", 2), 6, 0.1, again="all")


def fields(
    qs: UInt16[Array, "*n 32"],
) -> tuple[UInt16[Array, "*n 8 4"], UInt8[Array, "*n 8 4"], Int32[Array, "*n 8"]]:
    """Row numbers and sign bytes of the groups, and 2 scale + 1."""
    lib = exact.library(qs)
    runs = qs.reshape(*qs.shape[:-1], 8, 4)
    index = (runs[..., :2, None] >> lib.arange(0, 16, 8, dtype=np.uint16)) & np.uint16(255)
    word: UInt32[Array, "*n 8"] = runs[..., 2].astype(np.uint32) | runs[..., 3].astype(np.uint32) << np.uint32(16)
    code = (word[..., None] >> lib.arange(0, 28, 7, dtype=np.uint32)) & np.uint32(127)
    return index.reshape(runs.shape), codebooks.complete_signs(code), 2 * exact.i32(word >> np.uint32(28)) + 1


def decode(blocks: UInt8[Array, "n 66"]) -> Float32[Array, "n 8 4 8"]:
    d, qs = LAYOUT.unpack(blocks)
    index, signs, scales = fields(qs)
    # Exact: 11 bits of scale, 5 of sub-block scale, 6 of magnitude
    scale = d[:, None] * exact.f32(scales) * np.float32(0.125)
    return scale[..., None, None] * codebooks.signed_rows("IQ2_XXS", index, signs)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"]
) -> UInt8[Array, "rows blocks 66"]:
    lib = exact.library(x)
    shape = x.shape[:2]

    # SUB-BLOCKS: the trials surround the scale that codes 0 to 4 of equal steps would take
    columns, mean_square = grid_search.sub_columns(x, 32, doubled=False)
    w = grid_search.importance_columns(x.shape, columns, weights, mean_square)
    size, signs = grid_search.split_signs(columns, w, even=True)
    equal = single_steps.least_weighted_square_error_from_zero(size, w, 4)
    peak = exact.rounded(exact.mul(equal.scale, np.float32(3)))
    small = lib.max(size, axis=0) < scale_search.NOTHING
    grid_search.known_codes(small | (peak > 0))
    nothing = small | (peak <= 0)
    peak = lib.where(nothing, np.float32(1), peak)
    fit = grid_search.fit(SEARCH, size, w, equal.scale, peak)
    found = grid_search.choose(SEARCH, fit, signs, nothing, shape)

    # SCALES OF THE SCALES, and all bytes 0 where there are none
    d, scales, empty = grid_search.store_scales(found.scale, 15)
    rows = found.row_numbers.reshape(*shape, 8, 4).astype(np.uint32)
    codes = (found.signs & 127).reshape(*shape, 8, 4).astype(np.uint32)
    low = sum(rows[..., i] << np.uint32(8 * i) for i in range(4))
    high = sum(codes[..., i] << np.uint32(7 * i) for i in range(4)) | scales.astype(np.uint32) << np.uint32(28)
    words = lib.stack([low & 0xFFFF, low >> 16, high & 0xFFFF, high >> 16], axis=-1).reshape(*shape, 32)
    return LAYOUT.pack(d=d, qs=lib.where(empty[..., None], np.uint32(0), words))


def dot(w: UInt8[Array, "rows blocks 66"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block (d * d_a) * sum; an eighth of the result."""
    d, qs = LAYOUT.unpack(w)
    index, signs, scales = fields(qs)
    codes = codebooks.signed_codes("IQ2_XXS", index, signs).reshape(*d.shape, 8, 32)
    return super_block.dot_with_q8_k(d, scales, codes, a) * np.float32(0.125)
