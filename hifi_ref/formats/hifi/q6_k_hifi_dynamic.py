"""Q6_K_HIFI_DYNAMIC: 256 weights in 236 bytes, 7.375 bits per weight: Q6_K, and two to eight outliers as binary16.

    bytes   field   type     holds
    0-209   ...     Q6_K     the block without its outliers
    210     count   u8       slots in use
    211-218 at      u8[8]    positions of the outliers, largest first; 0 in slots without one
    219     pad     u8       0
    220-235 values  f16[8]   the outliers; 0 in slots without one

    w[j] = values[k] for the last slot k < count with at[k] = j, else Q6_K's weight

Importance only chooses the outliers.

What the fork does wrong, and what holds here:

* A comment says that the layer's place decides the count, but it is always 6. Here it is ``outliers``, 6 by default.
* A count above 8 makes it read past the slots. Here such a count means 8, and ``check`` can report it.
* The dot product adds outliers to the base's weights where decoding replaces them, and leaves out those that meet an
  activation of |q| <= 4. It does here too; the base's weight is 0 in blocks that encoders write. See docs/hifi.md.

Reference: quantize_q6_k_hifi_dynamic, dequantize_row_q6_k_hifi_dynamic, vec_dot_q6_k_hifi_dynamic_q8_K (HIFI fork,
1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import q6_k
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.hifi import replaced
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q6_k.LAYOUT, "Q6_K_HIFI_DYNAMIC", 44,
    Field("count", "u8", holds="slots in use"),
    Field("at", "u8", 8, holds="positions of the outliers, largest first; 0 in slots without one"),
    Field("pad", "u8", holds="0"),
    Field("values", "f16", 8, holds="the outliers; 0 in slots without one"),
)  # fmt: skip
OUTLIERS = range(2, 9)


def decode(blocks: UInt8[Array, "n 236"]) -> Float32[Array, "n 256"]:
    base, count, at, _, values = out.cut(blocks, q6_k.LAYOUT, EXTENSION)
    return out.replace(q6_k.decode(base).reshape(-1, 256), at, values, out.slots_in_use(count, 8))


def encode(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None = None,
    outliers: int | None = None,
) -> UInt8[Array, "rows blocks 236"]:
    count = 6 if outliers is None else outliers
    base, at, values = replaced.encode(x, weights, count, q6_k.encode)
    extension = EXTENSION.pack(
        count=exact.library(x).full(x.shape[:2], count, np.uint8),
        at=replaced.padded(at, 8, 0), pad=out.zero_bytes(x[..., 0]), values=replaced.padded(values, 8, 0),
    )  # fmt: skip
    return out.join(base, extension)


def dot(w: UInt8[Array, "rows blocks 236"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Q6_K's order, beginning with the corrections, super-block after super-block, slot after slot."""
    base, count, at, _, values = out.cut(w, q6_k.LAYOUT, EXTENSION)
    return q6_k.dot(base, a, replaced.dot_corrections(values, at, a, out.slots_in_use(count, 8)))
