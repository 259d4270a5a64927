"""Q3_K_HIFI_RES8: 256 weights in 132 bytes, 4.125 bits per weight: Q3_K, and what it loses of the eight worst weights.

    bytes   field   type     holds
    0-109   ...     Q3_K     the whole block
    110     count   u8       slots in use
    111     pad     u8       0
    112-119 at      u8[8]    positions of the corrections, largest first
    120-127 values  i8[8]    corrections in units of scale
    128-131 scale   f32      a 127th of the largest correction

    w[j] = Q3_K's weight + scale * values[k] for every slot k < count with at[k] = j, in order

No weight is taken out of the block, and importance is ignored.

What the fork does wrong, and what holds here:

* It has no dot product, though its matrix multiplication would call one. Here there is none.
* It limits a count to 8 when decoding, unlike its other formats. So does this.
* Where scale underflows to 0, it converts NaN and infinities to integers, which C leaves undefined: -127 on x86-64 and
  here.

Reference: quantize_q3_k_hifi_res8, dequantize_row_q3_k_hifi_res8 (HIFI fork, 1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, product, round_half_away
from hifi_ref.formats import q3_k
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q3_k.LAYOUT, "Q3_K_HIFI_RES8", 47,
    Field("count", "u8", holds="slots in use"),
    Field("pad", "u8", holds="0"),
    Field("at", "u8", 8, holds="positions of the corrections, largest first"),
    Field("values", "i8", 8, holds="corrections in units of scale"),
    Field("scale", "f32", holds="a 127th of the largest correction"),
    dot_with=None,
)  # fmt: skip


def decode(blocks: UInt8[Array, "n 132"]) -> Float32[Array, "n 256"]:
    base, count, _, at, values, scale = out.cut(blocks, q3_k.LAYOUT, EXTENSION)
    corrections = product(f32(values), exact.watched_input(scale)[..., None])
    return out.add(q3_k.decode(base).reshape(-1, 256), at, corrections, out.slots_in_use(count, 8))


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 132"]:
    lib = exact.library(x)
    base = q3_k.encode(x)
    lost = x - q3_k.decode(base.reshape(-1, base.shape[-1])).reshape(x.shape)
    at = out.largest(lib.abs(lost), 8)
    lost = out.take(lost, at)
    largest = out.peak_of(lost)
    some = (largest > 0)[..., None]
    scale = div(largest, np.float32(127))
    units = div(lost, lib.where(some, scale[..., None], np.float32(1)))
    values = lib.clip(exact.truncate(round_half_away(units)), -127, 127)
    extension = EXTENSION.pack(
        count=lib.full(x.shape[:2], 8, np.uint8), pad=out.zero_bytes(scale), at=lib.where(some, at, 0),
        values=lib.where(some, values, 0), scale=scale,
    )  # fmt: skip
    return out.join(base, extension)
