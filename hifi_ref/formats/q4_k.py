"""Q4_K: 256 weights in 144 bytes, 4.5 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-3     dmin    f16      scale of the mins
    4-15    scales  u8[12]   6-bit scales, mins: 0-3 in bytes 0-3, 4-7; 4-7 in nibbles of 8-11, top bits on bytes 0-7
    16-143  qs      u8[128]  codes, 32 bytes a pair of sub-blocks: the first in low nibbles, the second in high ones

    w[j] = (d * scale[s]) * q[j] - dmin * min[s]        s = j / 32, q[j] in 0..15

Each sub-block of 32 gets its scale and min from a weighted regression (least_error_with_min); scales and mins are then
rounded to 6 bits of the super-block's largest, and the codes are rounded anew with what is left of them. Without
importance the error of x counts with weight rms + |x|. With it, the weight is qw * sqrt(2 * mean square + x^2), and the
6-bit scales come from a search of their own.

Reference: quantize_q4_K, dequantize_row_q4_K, ggml_vec_dot_q4_K_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import k_scales, super_block
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q4_K",
    type_id=12,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("dmin", "f16", holds="scale of the mins"),
        Field(
            "scales", "u8", 12,
            holds="6-bit scales, mins: 0-3 in bytes 0-3, 4-7; 4-7 in nibbles of 8-11, top bits on bytes 0-7",
        ),  # fmt: skip
        Field(
            "qs", "u8", 128,
            holds="codes, 32 bytes a pair of sub-blocks: the first in low nibbles, the second in high ones",
        ),
    ),
)  # fmt: skip


def decode(blocks: UInt8[Array, "n 144"]) -> Float32[Array, "n 4 2 32"]:
    d, dmin, packed, qs = LAYOUT.unpack(blocks)
    # SCALES: exact, 11 bits times 6
    scales, mins = k_scales.unpack(packed)
    scale = (d[:, None] * exact.f32(scales)).reshape(-1, 4, 2, 1)
    minimum = (dmin[:, None] * exact.f32(mins)).reshape(-1, 4, 2, 1)
    # VALUES: the product is exact (17 bits times 4), so the subtraction is the only rounding
    return scale * exact.f32(spread(qs.reshape(-1, 4, 32), 4)) - minimum


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None, thorough: bool = False
) -> UInt8[Array, "rows blocks 144"]:
    """thorough: the searches of an encoding with importance also where there is none."""
    pack = k_scales.pack_capped if weights is None and not thorough else k_scales.pack
    fit = super_block.fit_with_mins(
        x, weights, 32, 15, 63, pack, k_scales.unpack, trials=(-1.0, 0.1, 20), thorough=thorough
    )
    # CODES: sub-blocks in pairs
    qs = gather(fit.codes.reshape(*x.shape[:2], 4, 2, 32), 4).reshape(*x.shape[:2], 128)
    return LAYOUT.pack(d=fit.d, dmin=fit.dmin, scales=fit.scales, qs=qs)


def dot(
    w: UInt8[Array, "rows blocks 144"],
    a: UInt8[Array, "blocks 292"],
    corrections: Float32[Array, "rows blocks n"] | None = None,
) -> Float32[Array, "rows"]:
    """Minus the mins' shares, super-block after super-block; then eight running sums, one a position modulo 8.

    corrections: terms that the final sum takes after the mins of their block.
    """
    d, dmin, packed, qs = LAYOUT.unpack(w)
    scales, mins = k_scales.unpack(packed)

    def codes(s: int) -> UInt8[Array, "rows blocks 32"]:
        return qs[..., 32 * (s // 2) :][..., :32] >> np.uint8(4 * (s % 2)) & np.uint8(15)

    return super_block.dot_with_mins(d, dmin, scales, mins, codes, a, corrections)
