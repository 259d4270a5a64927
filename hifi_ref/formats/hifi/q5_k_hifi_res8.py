"""Q5_K_HIFI_RES8: 256 weights in 196 bytes, 6.125 bits per weight: Q5_K, and what it loses of up to eight outliers.

    bytes   field   type     holds
    0-175   ...     Q5_K     the block without its outliers
    176     count   u8       slots in use
    177-184 at      u8[8]    positions of the outliers, largest first; 0 in slots without one
    185-192 values  i8[8]    corrections in units of scale / 127; 0 in slots without one
    193     scale   u8       the largest correction, as e4m3
    194-195 pad     u8[2]    0

    w[j] = Q5_K's weight + values[k] * (scale * 1/127) for the first slot k < count with at[k] = j, 1/127 being rounded

The corrections are divided by the largest of them itself, not by the scale that is stored. With importance, outliers
are dropped from blocks where the largest correction is small beside the block's standard deviation, or where fewer than
three are large. Otherwise as Q6_K_HIFI_RES8, with ``model_params`` 4 by default.

What the fork does wrong, and what holds here:

* Its decoder breaks C's aliasing rules: as built it loses the 6th correction of 6, and the 6th and 7th of 7. Here all
  count, as in its builds without that optimisation.
* Outliers were taken out of the block before it decides to drop them, or before the scale underflows (below 0.0083) or
  saturates (at 480): such weights come back near 0. Here too; ``check`` can report a count above 0 with a scale of 0.
* It never writes the padding, so files hold what lay in memory. Here it is 0 and ignored; ``check`` can report it.
* A count above 8 makes it read past the slots. Here such a count means 8, and ``check`` can report it.
* The dot product leaves out outliers that meet an activation of |q| <= 4, and adds at every slot of a position.

Reference: quantize_q5_k_hifi_res8, dequantize_row_q5_k_hifi_res8, vec_dot_q5_k_hifi_res8_q8_K (HIFI fork, 1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, mul, product
from hifi_ref.formats import q5_k
from hifi_ref.formats.hifi import e4m3, residual
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.layout import Field

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT, EXTENSION = out.extended(
    q5_k.LAYOUT, "Q5_K_HIFI_RES8", 46,
    Field("count", "u8", holds="slots in use"),
    Field("at", "u8", 8, holds="positions of the outliers, largest first; 0 in slots without one"),
    Field("values", "i8", 8, holds="corrections in units of scale / 127; 0 in slots without one"),
    Field("scale", "u8", holds="the largest correction, as e4m3"),
    Field("pad", "u8", 2, holds="0"),
)  # fmt: skip
OUTLIERS = range(1, 9)
BY_MODEL_SIZE = True
_UNIT = np.float32(1) / np.float32(127)


def decode(blocks: UInt8[Array, "n 196"]) -> Float32[Array, "n 256"]:
    base, count, at, values, scale, _ = out.cut(blocks, q5_k.LAYOUT, EXTENSION)
    corrections = product(f32(values), product(e4m3.widen(scale), _UNIT)[..., None])
    active = out.slots_in_use(count, 8) & out.first_of_each(at)
    return out.add(q5_k.decode(base).reshape(-1, 256), at, corrections, active)


def encode(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None = None,
    outliers: int | None = None,
    model_params: float | None = None,
) -> UInt8[Array, "rows blocks 196"]:
    lib = exact.library(x)
    model_params = 4.0 if model_params is None else model_params
    fit = residual.of_outliers(x, weights, outliers or 8, model_params, q5_k.encode, q5_k.decode)
    largest = lib.where(fit.largest == 0, np.float32(1e-8), fit.largest)
    kept = lib.ones(x.shape[:2], bool)
    if weights is not None:
        deviation = _deviation(x)
        size = np.float32(model_params)
        share = np.float32(0.22 if size < 2 else 0.18 if size < 8 else 0.15)
        many = (fit.active & (lib.abs(fit.lost) > mul(largest, np.float32(0.1))[..., None])).sum(axis=-1) >= 3
        kept = many & (largest >= mul(deviation, share))
    values = residual.multiples(fit.lost, largest)
    extension = EXTENSION.pack(
        count=lib.where(kept, fit.counts, 0), at=lib.where(kept[..., None], fit.at, 0),
        values=lib.where(kept[..., None], values, 0), scale=lib.where(kept, e4m3.narrow(largest), np.uint8(0)),
        pad=out.zero_bytes(kept, 2),
    )  # fmt: skip
    return out.join(fit.base, extension)


def _deviation(x: Float32[Array, "rows blocks 256"]) -> Float32[Array, "rows blocks"]:
    """The standard deviation of each block, sums first to last."""
    columns = exact.columns(x, 256)
    mean = div(exact.sum_in_order(columns), np.float32(256))
    away = columns - mean
    return exact.sqrt(div(exact.sum_in_order(mul(away, away)), np.float32(256))).reshape(x.shape[:2])


def dot(w: UInt8[Array, "rows blocks 196"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Q5_K's order, each super-block's corrections after its mins' share, slot after slot."""
    base, count, at, values, scale, _ = out.cut(w, q5_k.LAYOUT, EXTENSION)
    unit = product(e4m3.widen(scale), _UNIT)
    return q5_k.dot(base, a, residual.dot_corrections(values, unit, at, a, out.slots_in_use(count, 8)))
