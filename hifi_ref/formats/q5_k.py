"""Q5_K: 256 weights in 176 bytes, 5.5 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale of the scales
    2-3     dmin    f16      scale of the mins
    4-15    scales  u8[12]   6-bit scales, mins: 0-3 in bytes 0-3, 4-7; 4-7 in nibbles of 8-11, top bits on bytes 0-7
    16-47   qh      u8[32]   high bit of the codes; bit s of byte j belongs to weight j of sub-block s
    48-175  qs      u8[128]  low four bits, 32 bytes a pair of sub-blocks: the first in low nibbles, the second in high

    w[j] = (d * scale[s]) * q[j] - dmin * min[s]        s = j / 32, q[j] in 0..31

Q4_K with one more bit: the same searches, with 31 steps instead of 15.

Reference: quantize_q5_K, dequantize_row_q5_K, ggml_vec_dot_q5_K_q8_K_generic (llama.cpp v0.5.0).
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
    name="Q5_K",
    type_id=13,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("d", "f16", holds="scale of the scales"),
        Field("dmin", "f16", holds="scale of the mins"),
        Field(
            "scales", "u8", 12,
            holds="6-bit scales, mins: 0-3 in bytes 0-3, 4-7; 4-7 in nibbles of 8-11, top bits on bytes 0-7",
        ),  # fmt: skip
        Field("qh", "u8", 32, holds="high bit of the codes; bit s of byte j belongs to weight j of sub-block s"),
        Field(
            "qs", "u8", 128,
            holds="low four bits, 32 bytes a pair of sub-blocks: the first in low nibbles, the second in high",
        ),
    ),
)  # fmt: skip


def split_codes(qs: UInt8[Array, "*n 128"], qh: UInt8[Array, "*n 32"]) -> UInt8[Array, "*n 4 2 32"]:
    low = spread(qs.reshape(*qs.shape[:-1], 4, 32), 4)
    high = spread(qh, 1).reshape(*qh.shape[:-1], 4, 2, 32)
    return low | high << np.uint8(4)


def decode(blocks: UInt8[Array, "n 176"]) -> Float32[Array, "n 4 2 32"]:
    d, dmin, packed, qh, qs = LAYOUT.unpack(blocks)
    # SCALES: exact, 11 bits times 6
    scales, mins = k_scales.unpack(packed)
    scale = (d[:, None] * exact.f32(scales)).reshape(-1, 4, 2, 1)
    minimum = (dmin[:, None] * exact.f32(mins)).reshape(-1, 4, 2, 1)
    # VALUES: the product is exact (17 bits times 5), so the subtraction is the only rounding
    return scale * exact.f32(split_codes(qs, qh)) - minimum


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 176"]:
    fit = super_block.fit_with_mins(
        x, weights, 32, 31, 63, k_scales.pack_capped, k_scales.unpack, trials=(-0.5, 0.1, 15)
    )
    # CODES: low nibbles in pairs of sub-blocks, high bits in one plane per sub-block
    shape = x.shape[:2]
    qs = gather((fit.codes & 15).reshape(*shape, 4, 2, 32), 4).reshape(*shape, 128)
    qh = gather(fit.codes >> 4, 1)
    return LAYOUT.pack(d=fit.d, dmin=fit.dmin, scales=fit.scales, qh=qh, qs=qs)


def dot(
    w: UInt8[Array, "rows blocks 176"],
    a: UInt8[Array, "blocks 292"],
    corrections: Float32[Array, "rows blocks n"] | None = None,
) -> Float32[Array, "rows"]:
    """Minus the mins' shares, super-block after super-block; then eight running sums, one a position modulo 8.

    corrections: terms that the final sum takes after the mins of their block.
    """
    d, dmin, packed, qh, qs = LAYOUT.unpack(w)
    scales, mins = k_scales.unpack(packed)

    def codes(s: int) -> UInt8[Array, "rows blocks 32"]:
        low = qs[..., 32 * (s // 2) :][..., :32] >> np.uint8(4 * (s % 2)) & np.uint8(15)
        high = qh >> np.uint8(s) & np.uint8(1)
        return low | high << np.uint8(4)

    return super_block.dot_with_mins(d, dmin, scales, mins, codes, a, corrections)
