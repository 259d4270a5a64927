"""Outliers of a block: choosing them, taking them out of a block, putting them or what was lost of them back.

Positions lie on the last axis, one a slot, in the order in which they were chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import bits, mul
from hifi_ref.formats import q8_k
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32, Integer, Shaped, UInt8

    from hifi_ref.exact import Array


# BYTES


def extended(
    base: Layout, name: str, type_id: int | None, *fields: Field, dot_with: str | None = "Q8_K"
) -> tuple[Layout, Layout]:
    """The layout of a format that is a base and an extension, and that of the extension alone."""
    extension = Layout(name, type_id, base.block_size, fields)
    return Layout(name, type_id, base.block_size, (*base.fields, *fields), dot_with=dot_with), extension


def cut(blocks: UInt8[Array, "*n bytes"], base: Layout, extension: Layout) -> tuple[Any, ...]:
    """The base's blocks, then the extension's fields."""
    return blocks[..., : base.type_size], *extension.unpack(blocks[..., base.type_size :])


def join(base: UInt8[Array, "*n bytes"], extension: UInt8[Array, "*n more"]) -> UInt8[Array, "*n all"]:
    """The inverse of cut, the extension packed."""
    return exact.library(base).concatenate([base, extension], axis=-1)


def zero_bytes(like: Array, count: int = 1) -> UInt8[Array, "*n count"]:
    """Padding for each block of ``like``, an array with one number per block."""
    shape = like.shape if count == 1 else (*like.shape, count)
    return exact.library(like).zeros(shape, np.uint8)


# CHOICE

# The rank of what must not be chosen.
_NEVER = np.int32(-(2**31))


def largest(score: Float32[Array, "*n 256"], count: int, once: bool = False) -> Int32[Array, "*n count"]:
    """The positions of the ``count`` largest scores, largest first; of equals the lowest position.

    A chosen score becomes -1, so that importance below zero can have a position chosen again; ``once``: only
    position 0 can.
    """
    lib = exact.library(score)
    places = lib.arange(256, dtype=np.int32)
    # Comparing with NaN is false: only at position 0, where the search begins, can one be chosen.
    rank = lib.where(score == score, _ordered(score), lib.where(places == 0, np.int32(2**31 - 1), _NEVER))
    again = int(_ordered(np.full(1, -1, np.float32))[0])

    def never_again(at: Array) -> Array:
        return lib.where(at > 0, _NEVER, np.int32(again)) if once else lib.full(at.shape, again, np.int32)

    def choose(k: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rank, chosen = state
        at = exact.i32(rank.argmax(axis=-1))
        return set_at(rank, at, never_again(at)), exact.with_row(chosen, k, at)

    def choose_in_columns(k: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rank, chosen = state
        top = exact.fold(256, lambda i, top: lib.maximum(top, rank[i]), rank[0], unroll=8)
        nowhere = lib.full(top.shape, 256, np.int32)
        at = exact.fold(256, lambda i, at: lib.where(rank[i] == top, lib.minimum(at, i), at), nowhere, unroll=8)
        rank = lib.where(places[:, None] == at, never_again(at), rank)
        return rank, exact.with_row(chosen, k, at)

    shape = score.shape[:-1]
    if exact.is_jax(rank):
        # XLA searches many blocks side by side faster than each along its weights.
        rank, choose = exact.columns(rank, 256), choose_in_columns
    else:
        rank = rank.reshape(-1, 256)
    nothing = lib.zeros((count, rank.size // 256), np.int32)
    return exact.fold(count, choose, (rank, nothing))[1].T.reshape(*shape, count)


def _ordered(score: Float32[Array, "*n"]) -> Int32[Array, "*n"]:
    """Integers in the order of finite or infinite floats, with one zero. Subnormal numbers count in both lanes."""
    u = bits(score)
    size = exact.i32(u & np.uint32(0x7FFFFFFF))
    return exact.library(score).where(u >> np.uint32(31) == 0, size, -size)


def score_of(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None
) -> Float32[Array, "rows blocks 256"]:
    """|x|, times the importance where there is one."""
    size = exact.library(x).abs(x)
    return size if weights is None else mul(size, weights)


def peak_of(values: Float32[Array, "*n slots"]) -> Float32[Array, "*n"]:
    """The largest magnitude; any NaN is passed over."""
    lib = exact.library(values)
    peak = lib.zeros(values.shape[:-1], np.float32)
    for r in range(values.shape[-1]):
        size = abs(values[..., r])
        peak = lib.where(size > peak, size, peak)
    return peak


# PLACES


def take(x: Shaped[Array, "*n 256"], at: Integer[Array, "*n count"]) -> Shaped[Array, "*n count"]:
    """The elements at those positions."""
    return exact.library(x).take_along_axis(x, exact.i32(at), axis=-1)


def set_at(x: Int32[Array, "*n k"], at: Int32[Array, "*n"], value: Int32[Array, "*n"]) -> Int32[Array, "*n k"]:
    """x with one element per block replaced. A NumPy array is changed in place."""
    lib = exact.library(x)
    if exact.is_jax(x):
        hit = lib.arange(x.shape[-1]) == at[..., None]
        return lib.where(hit, value[..., None], x)
    lib.put_along_axis(x, exact.i32(at)[..., None], value[..., None], axis=-1)
    return x


def _change(
    y: Float32[Array, "*n 256"],
    at: Integer[Array, "*n"],
    active: Bool[Array, "*n"] | None,
    new: Callable[[Array], Array],
) -> Float32[Array, "*n 256"]:
    """y with one element per block, where it is active, made new(old)."""
    lib = exact.library(y)
    at = exact.i32(at)[..., None]
    if exact.is_jax(y):
        hit = lib.arange(y.shape[-1]) == at
        return lib.where(hit if active is None else hit & active[..., None], new(y), y)
    old = lib.take_along_axis(y, at, axis=-1)
    value = new(old) if active is None else lib.where(active[..., None], new(old), old)
    lib.put_along_axis(y, at, value, axis=-1)
    return y


def without(x: Float32[Array, "*n 256"], at: Int32[Array, "*n count"], active: Bool[Array, "*n count"] | None = None
            ) -> Float32[Array, "*n 256"]:  # fmt: skip
    """x with zeros at those positions."""
    lib = exact.library(x)
    x = x if exact.is_jax(x) else x.copy()
    for r in range(at.shape[-1]):
        x = _change(x, at[..., r], None if active is None else active[..., r], lib.zeros_like)
    return x


def replace(
    y: Float32[Array, "*n 256"],
    at: UInt8[Array, "*n slots"],
    values: Float32[Array, "*n slots"],
    active: Bool[Array, "*n slots"] | None = None,
) -> Float32[Array, "*n 256"]:
    """y with those values at their positions, slot after slot: of equal positions the last slot stands."""
    y = y if exact.is_jax(y) else np.ascontiguousarray(y)

    def value(r: int) -> Callable[[Array], Array]:
        return lambda old: values[..., r, None]

    for r in range(at.shape[-1]):
        y = _change(y, at[..., r], None if active is None else active[..., r], value(r))
    return y


def add(
    y: Float32[Array, "*n 256"],
    at: UInt8[Array, "*n slots"],
    corrections: Float32[Array, "*n slots"],
    active: Bool[Array, "*n slots"] | None = None,
) -> Float32[Array, "*n 256"]:
    """y with the corrections added at their positions, slot after slot."""
    y = y if exact.is_jax(y) else np.ascontiguousarray(y)

    def corrected(r: int) -> Callable[[Array], Array]:
        return lambda old: old + corrections[..., r, None]

    for r in range(at.shape[-1]):
        y = _change(y, at[..., r], None if active is None else active[..., r], corrected(r))
    return y


def slots_in_use(count: UInt8[Array, "*n"], slots: int) -> Bool[Array, "*n slots"]:
    """The first ``count`` slots. A count beyond them is read as their number."""
    return exact.library(count).arange(slots, dtype=np.uint8) < count[..., None]


def first_of_each(at: UInt8[Array, "*n slots"]) -> Bool[Array, "*n slots"]:
    """Slots whose position no earlier slot has."""
    earlier = np.tril(np.ones((at.shape[-1],) * 2, bool), k=-1)
    return ~((at[..., :, None] == at[..., None, :]) & earlier).any(axis=-1)


# DOT


def activations_at(a: UInt8[Array, "blocks 292"], at: UInt8[Array, "rows blocks slots"]) -> tuple[Array, Array]:
    """The scales of the activations' blocks, as [blocks, 1], and their codes at those positions as float32."""
    lib = exact.library(a)
    d, q, _ = q8_k.unpack(a)
    return d[:, None], exact.f32(take(lib.broadcast_to(q, (len(at), *q.shape)), at))


def where_active(terms: Float32[Array, "*n slots"], active: Bool[Array, "*n slots"]) -> Float32[Array, "*n slots"]:
    """The terms of active slots, and 0 for the others: a sum that began with +0 does not see them."""
    return exact.library(terms).where(active, terms, np.float32(0))
