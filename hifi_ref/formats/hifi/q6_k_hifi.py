"""Q6_K_HIFI: 256 weights in 222 bytes, 6.9375 bits per weight: Q6_K, and four outliers as binary16.

    bytes   field   type     holds
    0-209   ...     Q6_K     the block without its outliers
    210-213 at      u8[4]    positions of the outliers, largest first
    214-221 values  f16[4]   the outliers

    w[j] = values[k] for the last slot k with at[k] = j, else Q6_K's weight

Importance only chooses the outliers. There are always four, so no slot is empty.

What the fork does wrong, and what holds here: its dot product is the kernel of Q6_K, which walks in steps of 210 bytes
instead of 222 and ignores the outliers, so that rows of more than one block give garbage. Here it is Q6_K's dot
product, whose final sum begins with value - weight for each outlier, times the activation.

Reference: quantize_q6_k_hifi, dequantize_row_q6_k_hifi (HIFI fork, 1de093b32); the dot product is defined here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref.formats import q6_k
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.hifi import replaced
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q6_k.LAYOUT, "Q6_K_HIFI", 43,
    Field("at", "u8", 4, holds="positions of the outliers, largest first"),
    Field("values", "f16", 4, holds="the outliers"),
)  # fmt: skip


def decode(blocks: UInt8[Array, "n 222"]) -> Float32[Array, "n 256"]:
    base, at, values = out.cut(blocks, q6_k.LAYOUT, EXTENSION)
    return out.replace(q6_k.decode(base).reshape(-1, 256), at, values)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 222"]:
    base, at, values = replaced.encode(x, weights, 4, q6_k.encode)
    return out.join(base, EXTENSION.pack(at=at, values=values))


def dot(w: UInt8[Array, "rows blocks 222"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Q6_K's order, beginning with the corrections, super-block after super-block, slot after slot."""
    base, at, values = out.cut(w, q6_k.LAYOUT, EXTENSION)
    return q6_k.dot(base, a, replaced.dot_true_corrections(q6_k.decode, base, at, values, a))
