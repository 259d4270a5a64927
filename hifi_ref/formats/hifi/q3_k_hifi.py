"""Q3_K_HIFI: 256 weights in 136 bytes, 4.25 bits per weight: Q3_K, and up to eight outliers as binary16.

    bytes   field   type     holds
    0-109   ...     Q3_K     the block without its outliers
    110-117 at      u8[8]    positions of the outliers, ascending; 255 in slots without one, 0 if there is none
    118-133 values  f16[8]   the outliers; 0 in slots without one
    134-135 pad     u8[2]    0

    w[j] = values[k] for the last slot k with at[k] = j, else Q3_K's weight

As Q4_K_HIFI, which see for what the fork does wrong: empty slots erase weight 255, or weight 0 in blocks without any
outlier; here too. Two later ports of the fork read byte 134 as a count and so ignore all outliers of these files:
``check`` can tell their files by a byte 134 that is not 0. Here it is padding, and ignored.

Reference: quantize_q3_k_hifi, dequantize_row_q3_k_hifi, vec_dot_q3_k_hifi_q8_K (HIFI fork, 1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.formats import q3_k
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.hifi import replaced
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q3_k.LAYOUT, "Q3_K_HIFI", 42,
    Field("at", "u8", 8, holds="positions of the outliers, ascending; 255 in slots without one, 0 if there is none"),
    Field("values", "f16", 8, holds="the outliers; 0 in slots without one"),
    Field("pad", "u8", 2, holds="0"),
)  # fmt: skip
OUTLIERS = range(0, 9)
BY_MODEL_SIZE = True


def outlier_count(model_params: float | None) -> int:
    """Outliers per block for a model of so many billion parameters; 8 where that is not known."""
    size = np.float32(model_params or 0)
    if size <= 0:
        return 8
    for most, count in ((0.8, 0), (1.7, 2), (5, 8), (10, 6)):
        if size <= np.float32(most):
            return count
    return 4 if size < 30 else 2


def decode(blocks: UInt8[Array, "n 136"]) -> Float32[Array, "n 256"]:
    base, at, values, _ = out.cut(blocks, q3_k.LAYOUT, EXTENSION)
    return out.replace(q3_k.decode(base).reshape(-1, 256), at, values)


def encode(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None = None,
    outliers: int | None = None,
    model_params: float | None = None,
) -> UInt8[Array, "rows blocks 136"]:
    count = outlier_count(model_params) if outliers is None else outliers
    thorough = weights is not None and count > 0
    base, at, values = replaced.encode(
        x, weights, count, lambda rest: q3_k.encode(rest, thorough=thorough), in_order=True
    )
    at = replaced.padded(at, 8, 255 if count else 0)
    extension = EXTENSION.pack(at=at, values=replaced.padded(values, 8, 0), pad=out.zero_bytes(x[..., 0], 2))
    return out.join(base, extension)


def dot(w: UInt8[Array, "rows blocks 136"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """A sum for each block, weight after weight and then slot after slot; these sums block after block."""
    base, at, values, _ = out.cut(w, q3_k.LAYOUT, EXTENSION)
    return replaced.dot_one_by_one(q3_k.decode, base, at, values, a)
