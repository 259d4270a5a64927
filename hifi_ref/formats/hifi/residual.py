"""Outliers kept as what the base lost of them: eight-bit multiples of one scale a block, added to the base's weights.

Reference: quantize_row_q6_k_hifi_res8_ref and its like (ggml-quants-hifi.c of the fork).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, product, round_half_away
from hifi_ref.formats.hifi import importance
from hifi_ref.formats.hifi import outliers as out

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32, UInt8

    from hifi_ref.exact import Array


class Residuals(NamedTuple):
    """What the base lost of the outliers at ``at``; ``counts`` slots are in use, ``active`` the same as a mask."""

    base: UInt8[Array, "rows blocks bytes"]
    at: Int32[Array, "rows blocks 8"]
    lost: Float32[Array, "rows blocks 8"]
    largest: Float32[Array, "rows blocks"]
    counts: Int32[Array, "rows blocks"]
    active: Bool[Array, "rows blocks 8"]


def of_outliers(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None,
    count: int,
    model_params: float,
    encode_base: Callable[[Array], Array],
    decode_base: Callable[[Array], Array],
) -> Residuals:
    """The base's blocks of x without its outliers, and what it lost of them.

    With importance the count depends on that of the block; model_params, in billions, says how much.
    """
    lib = exact.library(x)
    at = out.largest(out.score_of(x, weights), 8)
    counts = lib.full(x.shape[:2], count, np.int32)
    if weights is not None:
        own = importance.outlier_count(importance.of_block(weights), count, model_params)
        counts = lib.broadcast_to(own, counts.shape)
    active = out.slots_in_use(counts.astype(np.uint8), 8)
    base = encode_base(exact.wall(out.without(x, at, active)))
    decoded = decode_base(base.reshape(-1, base.shape[-1])).reshape(x.shape)
    lost = lib.where(active, out.take(x, at) - out.take(decoded, at), np.float32(0))
    at = lib.where(active, at, 0)
    largest = out.peak_of(lost)
    return Residuals(base, at, lost, largest, counts, active)


def multiples(lost: Float32[Array, "*n slots"], largest: Float32[Array, "*n"]) -> Int32[Array, "*n slots"]:
    """lost in units of largest / 127, halves away from zero."""
    return exact.as_int8(exact.truncate(round_half_away(product(div(lost, largest[..., None]), np.float32(127)))))


def dot_corrections(
    values: Array, factor: Float32[Array, "*n"], at: UInt8[Array, "rows blocks slots"], a: UInt8[Array, "blocks 292"],
    active: Bool[Array, "rows blocks slots"], least: int = 4,
) -> Float32[Array, "rows blocks slots"]:  # fmt: skip
    """(value (factor d)) q of each slot in use, but only where |q| > least: smaller activations go without."""
    d, q = out.activations_at(a, at)
    terms = product(product(f32(values), product(factor[..., None], d)), q)
    return out.where_active(terms, (exact.library(q).abs(q) > np.float32(least)) & active)
