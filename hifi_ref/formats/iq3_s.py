"""IQ3_S: 256 weights in 110 bytes, 3.4375 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-65    qs      u8[64]   row numbers of 4 weights each, low 8 bits
    66-73   qh      u8[8]    top bit of eight row numbers, the first lowest
    74-105  signs   u8[32]   sign bytes
    106-109 scales  u8[4]    scales of 64 weights: the first 32 in the low nibble, the others in the high

    w[8 g + j] = d * (2 scale[s] + 1) * sign[g, j] * magnitude[g, j]        s = g / 4, scale in 0..15
    magnitude[g] = GRID[index[2 g]] followed by GRID[index[2 g + 1]]

Against IQ3_XXS the grid is doubled to 512 rows of 4, now of the odd magnitudes 1 to 15, and all signs are stored.

The encoder minimises the sum of squared errors over each 32 weights, one counting x^2, or with importance
importance * sqrt(2 * mean square of the super-block + x^2). It tries 19 scales around the one that puts the largest
magnitude on the largest step, each with the nearest rows of the grid; if some group was not on the grid for the best of
them, all groups of the sub-block choose anew (grid_search). The largest scale becomes 31, the others the nearest odd
share of it.

The d that is stored is 1.033 times the one found: an empirical factor, applied where quantize_row_iq3_s_impl stores d.
It is no gain in squared error: for normally distributed weights and lognormal importance the weighted rms error is
12.0 % of the weights' with it, and 11.4 % without.

The release has an oversight that this definition keeps: where all weights of a sub-block are zero, its encoder does not
step over the sub-block's row numbers and signs, so those of the later ones land one sub-block early, while their scales
and the top bits of their row numbers do not. Such a super-block does not decode to what was encoded.

Reference: quantize_iq3_s, dequantize_row_iq3_s, ggml_vec_dot_iq3_s_q8_K_generic (llama.cpp v0.5.0).
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
    name="IQ3_S",
    type_id=21,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("qs", "u8", 64, holds="row numbers of 4 weights each, low 8 bits"),
        Field("qh", "u8", 8, holds="top bit of eight row numbers, the first lowest"),
        Field("signs", "u8", 32, holds="sign bytes"),
        Field("scales", "u8", 4, holds="scales of 64 weights: the first 32 in the low nibble, the others in the high"),
    ),
)

SEARCH = grid_search.Search(Lists("IQ3_S", 3), 9, 0.2, again="all if strays")


def fields(
    qs: UInt8[Array, "*n 64"], qh: UInt8[Array, "*n 8"], signs: UInt8[Array, "*n 32"], scales: UInt8[Array, "*n 4"]
) -> tuple[UInt16[Array, "*n 8 4 2"], UInt8[Array, "*n 8 4"], Int32[Array, "*n 8"]]:
    """Row numbers and sign bytes of the groups, and 2 scale + 1."""
    shape = qs.shape[:-1]
    top = spread(qh[..., None], 1).reshape(*shape, 64).astype(np.uint16)
    index = (qs | top << np.uint16(8)).reshape(*shape, 8, 4, 2)
    nibbles = spread(scales[..., None], 4).reshape(*shape, 8)
    return index, signs.reshape(*shape, 8, 4), 2 * exact.i32(nibbles) + 1


def decode(blocks: UInt8[Array, "n 110"]) -> Float32[Array, "n 8 4 8"]:
    d, *packed = LAYOUT.unpack(blocks)
    index, signs, scales = fields(*packed)
    # Exact: 11 bits of scale, 5 of sub-block scale, 4 of magnitude
    scale = d[:, None] * exact.f32(scales)
    return scale[..., None, None] * codebooks.signed_rows("IQ3_S", index, signs)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 110"]:
    lib = exact.library(x)
    shape = x.shape[:2]

    # SUB-BLOCKS
    columns, mean_square = grid_search.sub_columns(x, 32)
    if weights is None:
        w = exact.rounded(exact.mul(columns, columns))
    else:
        w = grid_search.importance_columns(x.shape, columns, weights, mean_square)
    size, signs = grid_search.split_signs(columns, w, even=False)
    nothing = exact.bits(lib.max(size, axis=0)) & np.uint32(0x7FFFFFFF) == 0
    fit = grid_search.fit_from_peak(SEARCH, size, w, nothing)
    found = grid_search.choose(SEARCH, fit, signs, nothing, shape)

    # A sub-block of zeros takes no room: those after it move up, with their row numbers' low bits and signs
    order = lib.argsort(nothing.reshape(*shape, 8), axis=-1, stable=True)[..., None]
    qs = lib.take_along_axis((found.row_numbers & 255).reshape(*shape, 8, 8), order, axis=-2).reshape(*shape, 64)
    signs = lib.take_along_axis(found.signs.reshape(*shape, 8, 4), order, axis=-2).reshape(*shape, 32)

    # SCALES OF THE SCALES, enlarged by the empirical factor
    d, scales, _ = grid_search.store_scales(found.scale, 15)
    qh = gather((found.row_numbers >> 8).reshape(*shape, 8, 8, 1), 1)[..., 0]
    nibbles = gather(scales.reshape(*shape, 4, 2, 1), 4)[..., 0]
    d = exact.mul(d, np.float32(1.033))
    return LAYOUT.pack(d=d, qs=qs, qh=qh, signs=signs, scales=nibbles)


def dot(w: UInt8[Array, "rows blocks 110"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block (d * d_a) * sum."""
    d, *packed = LAYOUT.unpack(w)
    index, signs, scales = fields(*packed)
    codes = codebooks.signed_codes("IQ3_S", index, signs).reshape(*d.shape, 8, 32)
    return super_block.dot_with_q8_k(d, scales, codes, a)
