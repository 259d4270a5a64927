"""LITE: a plain K format of a lower number, and what it loses of a few weights as eight-bit multiples of one scale.

    bytes       field   type    holds
    0-          ...     base    the whole block, encoded without importance
    then        count   u8      slots in use
                at      u8[M]   positions, largest first
                values  i8[M]   corrections in units of scale
                pad     u8      0
                scale   f16     a 127th of the largest correction

    w[j] = the base's weight + scale * values[k] for every slot k < count with at[k] = j, in order

Without importance all M slots are used. With it, the weights with the largest |loss| times importance are chosen, and a
tensor whose importance is even gets half the slots, or none: ``outliers`` says how many, else it follows from the row's
importance and ``model_params`` (4 by default).

What the fork does wrong, and what holds here:

* For a tensor of several rows it reads the importance of one row as if there were one for each, past its end. Here
  every row, and the budget, see the one row that there is.
* Its decoder does not limit the count, and reads past the slots. Here a larger count means M; ``check`` can report it.
* It never writes the padding, so files hold what lay in memory. Here it is 0 and ignored; ``check`` can report it.

Reference: the LITE section of ggml-quants-hifi.c, a later state of the HIFI fork.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, product
from hifi_ref.formats.hifi import importance, residual
from hifi_ref.formats.hifi import outliers as out
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Float32, Int, UInt8

    from hifi_ref.exact import Array


class Lite(NamedTuple):
    """What a file of a LITE format defines."""

    layout: Layout
    outliers: range
    decode: Callable[..., Array]
    encode: Callable[..., Array]
    dot: Callable[..., Array]


def outlier_count(importance: Float32[Array, "*n"], slots: int, model_params: float) -> Int[Array, "*n"]:
    """Slots that a tensor of this importance uses: all, half of them rounded up, or none."""
    lib = exact.library(importance)
    size = np.float32(model_params)
    all_from, half_from = (0.90, 0.75) if size <= 1 else (0.80, 0.60) if size <= 7 else (0.75, 0.55)
    half = lib.where(importance >= np.float32(half_from), (slots + 1) // 2, 0)
    return lib.where(importance >= np.float32(all_from), slots, half)


def over(base: ModuleType, name: str, type_id: int, slots: int) -> Lite:
    """The LITE format over that base with so many slots."""
    layout, extension = out.extended(
        base.LAYOUT, name, type_id,
        Field("count", "u8", holds="slots in use"),
        Field("at", "u8", slots, holds="positions, largest first"),
        Field("values", "i8", slots, holds="corrections in units of scale"),
        Field("pad", "u8", holds="0"),
        Field("scale", "f16", holds="a 127th of the largest correction"),
    )  # fmt: skip

    def decode(blocks: UInt8[Array, "n bytes"]) -> Float32[Array, "n 256"]:
        own, count, at, values, _, scale = out.cut(blocks, base.LAYOUT, extension)
        corrections = product(f32(values), scale[..., None])
        return out.add(base.decode(own).reshape(-1, 256), at, corrections, out.slots_in_use(count, slots))

    def encode(
        x: Float32[Array, "rows blocks 256"],
        weights: Float32[Array, "blocks 256"] | None = None,
        outliers: int | None = None,
        model_params: float | None = None,
    ) -> UInt8[Array, "rows blocks bytes"]:
        lib = exact.library(x)
        own = base.encode(x)
        lost = x - base.decode(own.reshape(-1, own.shape[-1])).reshape(x.shape)
        score = out.score_of(lost, weights)
        if outliers is not None or weights is None:
            budget = lib.asarray(slots if outliers is None else outliers)
        else:
            row = weights.reshape(1, -1)
            budget = outlier_count(importance.of_tensor(row), slots, 4.0 if model_params is None else model_params)
        at = out.largest(score, slots)
        active = out.slots_in_use(lib.broadcast_to(budget, x.shape[:2]).astype(np.uint8), slots)
        lost = lib.where(active, out.take(lost, at), np.float32(0))
        largest = out.peak_of(lost)
        some = largest > 0
        values = residual.multiples(lost, lib.where(some, largest, np.float32(1)))
        packed = extension.pack(
            count=lib.where(some, budget, 0), at=lib.where(active & some[..., None], at, 0), values=values,
            pad=out.zero_bytes(largest), scale=div(largest, np.float32(127)),
        )  # fmt: skip
        return out.join(own, packed)

    def dot(w: UInt8[Array, "rows blocks bytes"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
        """The base's order, with each block's corrections where it takes them, slot after slot."""
        own, count, at, values, _, scale = out.cut(w, base.LAYOUT, extension)
        d, q = out.activations_at(a, at)
        terms = product(product(product(scale[..., None], d), f32(values)), q)
        return base.dot(own, a, out.where_active(terms, out.slots_in_use(count, slots)))

    return Lite(layout, range(0, slots + 1), decode, encode, dot)
