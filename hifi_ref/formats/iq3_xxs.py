"""IQ3_XXS: 256 weights in 98 bytes, 3.0625 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-97    qs      u8[96]   64 row numbers; then 8 words of 4 bytes: sign codes and the scale

    w[8 g + j] = d * (2 scale[s] + 1) / 4 * sign[g, j] * magnitude[g, j]        s = g / 4, scale in 0..15
    magnitude[g] = GRID[index[2 g]] followed by GRID[index[2 g + 1]]

The rows of this grid are only 4 long, 256 of them, of eight magnitudes from 4 to 62. Signs and scales are those of
IQ2_XXS: a 32-bit word for 32 weights, with four 7-bit sign codes, lowest first, and the scale in its top four bits.

The encoder minimises the sum of squared errors over each 32 weights, one counting x^2, or with importance
importance * sqrt(2 * mean square of the super-block + x^2). Signs are those of IQ2_XXS. It tries 31 scales around the
one that puts the largest magnitude on the largest step, each with the nearest rows of the grid; for the best of them
the groups that were not on the grid choose anew (grid_search). The largest scale becomes 31, the others the nearest odd
share of it.

The d that is stored is 1.0125 times the one found: an empirical factor, applied where quantize_row_iq3_xxs_impl stores
d. It is no gain in squared error: for normally distributed weights and lognormal importance the weighted rms error is
15.3 % of the weights' with it, and 15.2 % without.

Reference: quantize_iq3_xxs, dequantize_row_iq3_xxs, ggml_vec_dot_iq3_xxs_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.search import grid_search
from hifi_ref.formats.search.grid_lists import Lists

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ3_XXS",
    type_id=18,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("qs", "u8", 96, holds="64 row numbers; then 8 words of 4 bytes: sign codes and the scale"),
    ),
)

SEARCH = grid_search.Search(Lists("IQ3_XXS", 2), 15, 0.2, again="strays")


def fields(
    qs: UInt8[Array, "*n 96"],
) -> tuple[UInt8[Array, "*n 8 4 2"], UInt8[Array, "*n 8 4"], Int32[Array, "*n 8"]]:
    """Row numbers and sign bytes of the groups, and 2 scale + 1."""
    lib = exact.library(qs)
    shape = qs.shape[:-1]
    quads = qs[..., 64:].reshape(*shape, 8, 4).astype(np.uint32)
    word = quads[..., 0]
    for i in range(1, 4):
        word = word | quads[..., i] << np.uint32(8 * i)
    code = (word[..., None] >> lib.arange(0, 28, 7, dtype=np.uint32)) & np.uint32(127)
    index = qs[..., :64].reshape(*shape, 8, 4, 2)
    return index, codebooks.complete_signs(code), 2 * exact.i32(word >> np.uint32(28)) + 1


def decode(blocks: UInt8[Array, "n 98"]) -> Float32[Array, "n 8 4 8"]:
    d, qs = LAYOUT.unpack(blocks)
    index, signs, scales = fields(qs)
    # Exact: 11 bits of scale, 5 of sub-block scale, 5 of magnitude
    scale = d[:, None] * exact.f32(scales) * np.float32(0.25)
    return scale[..., None, None] * codebooks.signed_rows("IQ3_XXS", index, signs)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 98"]:
    lib = exact.library(x)
    shape = x.shape[:2]

    # SUB-BLOCKS
    columns, mean_square = grid_search.sub_columns(x, 32)
    if weights is None:
        w = exact.rounded(exact.mul(columns, columns))
    else:
        w = grid_search.importance_columns(x.shape, columns, weights, mean_square)
    size, signs = grid_search.split_signs(columns, w, even=True)
    nothing = lib.max(size, axis=0) < np.float32(1e-8)
    fit = grid_search.fit_from_peak(SEARCH, size, w, nothing)
    found = grid_search.choose(SEARCH, fit, signs, nothing, shape)

    # SCALES OF THE SCALES, enlarged by the empirical factor; all bytes 0 where there are none
    d, scales, empty = grid_search.store_scales(found.scale, 15)
    codes = (found.signs & 127).reshape(*shape, 8, 4).astype(np.uint32)
    words = sum(codes[..., i] << np.uint32(7 * i) for i in range(4)) | scales.astype(np.uint32) << np.uint32(28)
    quads = lib.stack([words >> np.uint32(8 * i) & np.uint32(255) for i in range(4)], axis=-1).reshape(*shape, 32)
    qs = lib.concatenate([found.row_numbers, quads.astype(np.int32)], axis=-1)
    qs = lib.where(empty[..., None], 0, qs)
    return LAYOUT.pack(d=exact.mul(d, np.float32(1.0125)), qs=qs)


def dot(w: UInt8[Array, "rows blocks 98"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block (d * d_a) * sum; a quarter of the result."""
    d, qs = LAYOUT.unpack(w)
    index, signs, scales = fields(qs)
    codes = codebooks.signed_codes("IQ3_XXS", index, signs).reshape(*d.shape, 8, 32)
    return super_block.dot_with_q8_k(d, scales, codes, a) * np.float32(0.25)
