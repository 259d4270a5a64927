"""Q6_K_HIFI_RES8: 256 weights in 232 bytes, 7.25 bits per weight: Q6_K, and what it loses of up to eight outliers.

    bytes   field   type     holds
    0-209   ...     Q6_K     the block without its outliers
    210     count   u8       slots in use
    211-218 at      u8[8]    positions of the outliers, largest first; 0 in slots without one
    219-226 values  i8[8]    corrections in units of scale / 127; 0 in slots without one
    227     pad     u8       0
    228-231 scale   f32      the largest correction

    w[j] = Q6_K's weight + scale * (values[k] / 127) for every slot k < count with at[k] = j, in order

Without importance there are ``outliers`` of them, 8 by default; with it, fewer in blocks whose importance is even and
more in blocks where it is not, and ``model_params`` (1 by default) counts.

What the fork does wrong, and what holds here:

* Count and model size come from a context that the thread may have; here they are arguments.
* A count above 8 makes it read past the slots. Here such a count means 8, and ``check`` can report it.
* The dot product multiplies by a rounded 1/127, and leaves out outliers that meet an activation of |q| <= 4. It does
  here too. See docs/hifi.md.

Reference: quantize_q6_k_hifi_res8, dequantize_row_q6_k_hifi_res8, vec_dot_q6_k_hifi_res8_q8_K (HIFI fork, 1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, mul, product
from hifi_ref.formats import q6_k
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.hifi import residual
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q6_k.LAYOUT, "Q6_K_HIFI_RES8", 45,
    Field("count", "u8", holds="slots in use"),
    Field("at", "u8", 8, holds="positions of the outliers, largest first; 0 in slots without one"),
    Field("values", "i8", 8, holds="corrections in units of scale / 127; 0 in slots without one"),
    Field("pad", "u8", holds="0"),
    Field("scale", "f32", holds="the largest correction"),
)  # fmt: skip
OUTLIERS = range(1, 9)
BY_MODEL_SIZE = True


def decode(blocks: UInt8[Array, "n 232"]) -> Float32[Array, "n 256"]:
    base, count, at, values, _, scale = out.cut(blocks, q6_k.LAYOUT, EXTENSION)
    corrections = mul(div(f32(values), np.float32(127)), scale[..., None])
    return out.add(q6_k.decode(base).reshape(-1, 256), at, corrections, out.slots_in_use(count, 8))


def encode(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None = None,
    outliers: int | None = None,
    model_params: float | None = None,
) -> UInt8[Array, "rows blocks 232"]:
    fit = residual.of_outliers(
        x, weights, outliers or 8, 1.0 if model_params is None else model_params, q6_k.encode, q6_k.decode
    )
    scale = exact.library(x).where(fit.largest < np.float32(1e-10), np.float32(1e-10), fit.largest)
    extension = EXTENSION.pack(
        count=fit.counts, at=fit.at, values=residual.multiples(fit.lost, scale), pad=out.zero_bytes(scale), scale=scale
    )
    return out.join(fit.base, extension)


def dot(w: UInt8[Array, "rows blocks 232"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Q6_K's order, beginning with the corrections, super-block after super-block, slot after slot."""
    base, count, at, values, _, scale = out.cut(w, q6_k.LAYOUT, EXTENSION)
    unit = product(exact.watched_input(scale), np.float32(1) / np.float32(127))
    return q6_k.dot(base, a, residual.dot_corrections(values, unit, at, a, out.slots_in_use(count, 8)))
