"""Outliers kept as binary16 values that replace the base's weight: how such a block is encoded.

The largest weights are taken out of the block, so that the base has a smaller range to cover, and stored beside it.

Reference: quantize_row_q3_k_hifi_impl and its like (ggml-quants-hifi.c of the fork).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import product
from hifi_ref.formats import q8_k
from hifi_ref.formats.hifi import outliers
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32, UInt8

    from hifi_ref.exact import Array


def encode(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None,
    count: int,
    encode_base: Callable[[Array], Array],
    in_order: bool = False,
) -> tuple[UInt8[Array, "rows blocks bytes"], Int32[Array, "..."], Float32[Array, "..."]]:
    """The base's blocks of x without its ``count`` outliers, their positions and values.

    in_order: by position, not by size.
    """
    score = outliers.score_of(x, weights)
    at = outliers.largest(score, count, once=in_order) if count else exact.i32(x[..., :0])
    if in_order and count:
        at = exact.library(x).sort(at, axis=-1)
    base = encode_base(exact.wall(outliers.without(x, at)))
    return base, at, outliers.take(x, at)


def padded(values: Array, slots: int, filler: int) -> Array:
    """[..., count] filled up to [..., slots]."""
    missing = [(0, 0)] * (values.ndim - 1) + [(0, slots - values.shape[-1])]
    return exact.library(values).pad(values, missing, constant_values=filler)


def dot_one_by_one(
    decode_base: Callable[[Array], Array],
    base: UInt8[Array, "rows blocks bytes"],
    at: UInt8[Array, "rows blocks slots"],
    values: Float32[Array, "rows blocks slots"],
    a: UInt8[Array, "blocks 292"],
) -> Float32[Array, "rows"]:
    """A sum of its own for each block: all 256 products of the base, then value - weight of the base, slot after slot.

    Where two slots share a position the base's weight is subtracted twice, which decoding does not do.
    """
    lib = exact.library(base)
    d, q, _ = q8_k.unpack(a)
    w = decode_base(base.reshape(-1, base.shape[-1])).reshape(*base.shape[:2], 256)
    products = product(product(w, exact.f32(q)), d[:, None])
    dd, qa = outliers.activations_at(a, at)
    corrections = product(product(values - outliers.take(w, at), qa), dd)
    terms = lib.concatenate([products, corrections], axis=-1)
    return exact.sum_of_rows(exact.sum_in_order(lib.moveaxis(terms, -1, 0)))


def dot_corrections(
    values: Float32[Array, "rows blocks slots"],
    at: UInt8[Array, "rows blocks slots"],
    a: UInt8[Array, "blocks 292"],
    active: Bool[Array, "rows blocks slots"],
) -> Float32[Array, "rows blocks slots"]:
    """(value q) d of each slot in use, but only where |q| > 4: smaller activations see no outlier."""
    d, q = outliers.activations_at(a, at)
    return outliers.where_active(product(product(values, q), d), (exact.library(q).abs(q) > np.float32(4)) & active)


def dot_true_corrections(
    decode_base: Callable[[Array], Array],
    base: UInt8[Array, "rows blocks bytes"],
    at: UInt8[Array, "rows blocks slots"],
    values: Float32[Array, "rows blocks slots"],
    a: UInt8[Array, "blocks 292"],
    active: Bool[Array, "rows blocks slots"] | None = None,
) -> Float32[Array, "rows blocks slots"]:
    """((value - weight of the base) q) d for the slots that decoding uses: the last one of each position."""
    lib = exact.library(base)
    active = lib.ones(at.shape, bool) if active is None else active
    later = np.triu(np.ones((at.shape[-1],) * 2, bool), k=1)
    again = ((at[..., :, None] == at[..., None, :]) & active[..., None, :] & later).any(axis=-1)
    w = decode_base(base.reshape(-1, base.shape[-1])).reshape(*base.shape[:2], 256)
    d, q = outliers.activations_at(a, at)
    return outliers.where_active(product(product(values - outliers.take(w, at), q), d), active & ~again)


class Counted(NamedTuple):
    """What a file of a format with a count, positions and values defines."""

    layout: Layout
    outliers: range
    decode: Callable[..., Array]
    encode: Callable[..., Array]
    dot: Callable[..., Array]


def over(base: ModuleType, name: str, slots: int, default: Callable[[float | None], int]) -> Counted:
    """The format over that base with so many slots; default: the number of outliers for a model's size."""
    layout, extension = outliers.extended(
        base.LAYOUT, name, None,
        Field("count", "u8", holds="slots in use"),
        Field("at", "u8", slots, holds="positions of the outliers, largest first; 0 in slots without one"),
        Field("values", "f16", slots, holds="the outliers; 0 in slots without one"),
    )  # fmt: skip

    def decode(blocks: UInt8[Array, "n bytes"]) -> Float32[Array, "n 256"]:
        own, count, at, values = outliers.cut(blocks, base.LAYOUT, extension)
        return outliers.replace(base.decode(own).reshape(-1, 256), at, values, outliers.slots_in_use(count, slots))

    def encode_with(
        x: Float32[Array, "rows blocks 256"],
        weights: Float32[Array, "blocks 256"] | None = None,
        outliers: int | None = None,
        model_params: float | None = None,
    ) -> UInt8[Array, "rows blocks bytes"]:
        count = default(model_params) if outliers is None else outliers
        own, at, values = encode(x, weights, count, lambda rest: base.encode(rest, weights))
        packed = extension.pack(
            count=exact.library(x).full(x.shape[:2], count, np.uint8),
            at=padded(at, slots, 0), values=padded(values, slots, 0),
        )  # fmt: skip
        return exact.library(x).concatenate([own, packed], axis=-1)

    def dot(w: UInt8[Array, "rows blocks bytes"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
        """The base's order, with each block's corrections where it takes them, slot after slot."""
        own, count, at, values = outliers.cut(w, base.LAYOUT, extension)
        active = outliers.slots_in_use(count, slots)
        return base.dot(own, a, dot_true_corrections(base.decode, own, at, values, a, active))

    return Counted(layout, range(0, slots + 1), decode, encode_with, dot)
