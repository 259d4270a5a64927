"""Q4_K_HIFI: 256 weights in 168 bytes, 5.25 bits per weight: Q4_K, and up to eight outliers as binary16.

    bytes   field   type     holds
    0-143   ...     Q4_K     the block without its outliers
    144-151 at      u8[8]    positions of the outliers, ascending; 255 in slots without one
    152-167 values  f16[8]   the outliers; 0 in slots without one

    w[j] = values[k] for the last slot k with at[k] = j, else Q4_K's weight

The outliers have the largest |x|, or |x| times importance; they are 0 for Q4_K, whose scales need not cover them. The
importance has no other part: where there is one, Q4_K runs the searches of an encoding with importance, without it.

What the fork does wrong, and what holds here:

* A slot without an outlier is a slot all the same: it sets weight 255 to 0, whatever it was. So do both operations
  here, since there is no count to tell such slots from others: a file with them is sound to ``check``, and reproducible
  with the count it was made with. Eight outliers, the default, leave no empty slot.
- With importance the count is a property of the thread, set in one thread only, so bytes depend on scheduling. Here it
  is the argument ``outliers``; else it follows from ``model_params``; else it is 8.
* The dot product adds value - weight for each slot, so that positions which occur twice are subtracted twice. Encoders
  write none but 255; see docs/hifi.md.

Reference: quantize_q4_k_hifi, dequantize_row_q4_k_hifi, vec_dot_q4_k_hifi_q8_K (HIFI fork, 1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.formats import q4_k
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.hifi import replaced
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q4_k.LAYOUT, "Q4_K_HIFI", 48,
    Field("at", "u8", 8, holds="positions of the outliers, ascending; 255 in slots without one"),
    Field("values", "f16", 8, holds="the outliers; 0 in slots without one"),
)  # fmt: skip
OUTLIERS = range(0, 9)
BY_MODEL_SIZE = True


def outlier_count(model_params: float | None) -> int:
    """Outliers per block for a model of so many billion parameters; 8 where that is not known."""
    size = np.float32(model_params or 0)
    return 8 if size <= 0 else 4 if size <= 3 else 6 if size <= 30 else 8


def decode(blocks: UInt8[Array, "n 168"]) -> Float32[Array, "n 256"]:
    base, at, values = out.cut(blocks, q4_k.LAYOUT, EXTENSION)
    return out.replace(q4_k.decode(base).reshape(-1, 256), at, values)


def encode(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None = None,
    outliers: int | None = None,
    model_params: float | None = None,
) -> UInt8[Array, "rows blocks 168"]:
    count = outlier_count(model_params) if outliers is None else outliers
    thorough = weights is not None and count > 0
    base, at, values = replaced.encode(
        x, weights, count, lambda rest: q4_k.encode(rest, thorough=thorough), in_order=True
    )
    extension = EXTENSION.pack(at=replaced.padded(at, 8, 255), values=replaced.padded(values, 8, 0))
    return out.join(base, extension)


def dot(w: UInt8[Array, "rows blocks 168"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """A sum for each block, weight after weight and then slot after slot; these sums block after block."""
    base, at, values = out.cut(w, q4_k.LAYOUT, EXTENSION)
    return replaced.dot_one_by_one(q4_k.decode, base, at, values, a)
