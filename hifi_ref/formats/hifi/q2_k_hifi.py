"""Q2_K_HIFI: 256 weights in 96 bytes, 3 bits per weight: Q2_K, and three outliers, or corrections, as binary16.

    bytes   field   type     holds
    0-83    ...     Q2_K     the block without its outliers, or the whole block
    84      count   u8       slots in use in the low seven bits; the high bit is set where values are corrections
    85-87   at      u8[3]    positions, largest first
    88-93   values  f16[3]   outliers or corrections
    94-95   pad     u8[2]    0

    w[j] = values[k] for the last slot k < count with at[k] = j, else Q2_K's weight         high bit clear
    w[j] = Q2_K's weight + values[k] for every slot k < count with at[k] = j, in order      high bit set

Without importance the largest weights are taken out of the block and kept. With it, Q2_K encodes the whole block with
importance, and what it loses most of, by |loss| times importance, is kept.

What the fork does wrong, and what holds here: its dot product adds outliers also where decoding replaces the base's
weight with them, which is off by the min of their sub-block. It does here too; docs/hifi.md says by how much. A count
above 3 means 3, in both.

Reference: quantize_q2_k_hifi, dequantize_row_q2_k_hifi, vec_dot_q2_k_hifi_q8_K (HIFI fork, 1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import product
from hifi_ref.formats import q2_k
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.hifi import replaced
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q2_k.LAYOUT, "Q2_K_HIFI", 49,
    Field("count", "u8", holds="slots in use in the low seven bits; the high bit is set where values are corrections"),
    Field("at", "u8", 3, holds="positions, largest first"),
    Field("values", "f16", 3, holds="outliers or corrections"),
    Field("pad", "u8", 2, holds="0"),
)  # fmt: skip


def decode(blocks: UInt8[Array, "n 96"]) -> Float32[Array, "n 256"]:
    base, count, at, values, _ = out.cut(blocks, q2_k.LAYOUT, EXTENSION)
    active = out.slots_in_use(count & np.uint8(127), 3)
    adds = (count >= 128)[..., None]
    y = out.replace(q2_k.decode(base).reshape(-1, 256), at, values, active & ~adds)
    return out.add(y, at, values, active & adds)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 96"]:
    if weights is None:
        base, at, values = replaced.encode(x, None, 3, q2_k.encode)
    else:
        base = q2_k.encode(x, weights)
        lost = x - q2_k.decode(base.reshape(-1, base.shape[-1])).reshape(x.shape)
        at = out.largest(out.score_of(lost, weights), 3)
        values = out.take(lost, at)
    count = exact.library(x).full(x.shape[:2], 0x03 if weights is None else 0x83, np.uint8)
    return out.join(base, EXTENSION.pack(count=count, at=at, values=values, pad=out.zero_bytes(count, 2)))


def dot(w: UInt8[Array, "rows blocks 96"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Q2_K's order, each super-block's outliers after its own term, slot after slot."""
    base, count, at, values, _ = out.cut(w, q2_k.LAYOUT, EXTENSION)
    d, q = out.activations_at(a, at)
    corrections = out.where_active(product(product(values, q), d), out.slots_in_use(count & np.uint8(127), 3))
    return q2_k.dot(base, a, corrections)
