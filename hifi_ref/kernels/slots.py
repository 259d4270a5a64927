"""What formats with outliers add to their base's dot product: one float32 term for each slot of a block.

A function a format takes the extension apart, as fields.py does with its base. A term needs the activation at a slot's
position, and no kernel can look that up on every back end: terms are made outside, and added inside, slot after slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jax import numpy as jnp

from hifi_ref.exact import f32, i32, mul
from hifi_ref.formats import Format
from hifi_ref.formats.hifi import e4m3
from hifi_ref.formats.hifi.outliers import slots_in_use

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32, Int32, UInt8

    from hifi_ref.kernels.fields import Activations, Weights
    from hifi_ref.kernels.plans import Plan

_127TH = np.float32(1) / np.float32(127)


class Slots(NamedTuple):
    """Of the matrix, in the order of its blocks; ``split`` has the rows first and the slots last."""

    at: UInt8[Array, "groups slots rows"]
    """Positions in the group."""
    values: Float32[Array, "groups slots rows"]
    active: Bool[Array, "groups slots rows"] | None = None
    """Those in use; None: all."""
    unit: Float32[Array, "groups 1 rows"] | None = None
    """What a value of 1 is worth, where values are whole numbers."""


def split(f: Format, extension: tuple[Array, ...]) -> Slots:
    """The fields behind those of the base, each [rows, blocks, ...] -> Slots, [rows, blocks, slots]."""
    return globals()[f"_{f.name.lower()}"](*extension)


def terms(plan: Plan, w: Weights, a: Activations, multiply: Callable) -> Float32[Array, "slots batch rows"]:
    """What each slot of one group adds: (value q) d, or (value (unit d)) q; 0 where it is not in use."""
    at, values, active, unit = w.slots
    at = i32(at)
    q = f32(jnp.take(a.q.reshape(256, -1).T, at, axis=1, mode="clip"))
    d = a.d[0][:, None, None]
    if plan.replaces:
        values = values - weights(plan, w, at)
    if unit is None:
        found = multiply(multiply(values, q), d)
    else:
        found = multiply(multiply(values, multiply(unit, d)), q)
    if plan.least is not None:
        heard = abs(q) > np.float32(plan.least)
        active = heard if active is None else active & heard
    found = found if active is None else jnp.where(active, found, np.float32(0))
    return jnp.moveaxis(found, 1, 0)


def weights(plan: Plan, w: Weights, at: Int32[Array, "places rows"] | None = None) -> Float32[Array, "places rows"]:
    """The weights of one group of the base, as decoding gives them: all 256, or those at some positions.

    Products are exact, and so the same where a compiler fuses them with the subtraction.
    """
    codes = plan.numbers(plan.codes(*(c[None] for c in w.codes))[0].astype(np.int8)).reshape(256, -1)

    def there(x):
        if at is None:
            return f32(jnp.repeat(x, 256 // len(x), axis=0))
        return f32(jnp.take_along_axis(x, at // np.int32(256 // len(x)), axis=0, mode="clip"))

    found = (w.d * there(w.scales)) * there(codes)
    return found if w.mins is None else found - w.m * there(w.mins)


# ONE FUNCTION A FORMAT: the fields of its extension -> Slots


def _q2_k_hifi(count, at, values, pad):
    return Slots(at, values, slots_in_use(count & np.uint8(127), 3))


def _q3_k_hifi(at, values, pad):
    return Slots(at, values)


def _q4_k_hifi(at, values):
    return Slots(at, values)


def _q6_k_hifi(at, values):
    return Slots(at, values, _last_of_each(at, True))


def _q6_k_hifi_l(count, at, values):
    return Slots(at, values, _last_of_each(at, slots_in_use(count, at.shape[-1])))


_q4_hifi = _q6_k_hifi_l


def _q6_k_hifi_dynamic(count, at, pad, values):
    return Slots(at, values, slots_in_use(count, 8))


def _q6_k_hifi_res8(count, at, values, pad, scale):
    return Slots(at, f32(values), slots_in_use(count, 8), mul(scale, _127TH))


def _q5_k_hifi_res8(count, at, values, scale, pad):
    return Slots(at, f32(values), slots_in_use(count, 8), mul(e4m3.widen(scale), _127TH))


def _lite(count, at, values, pad, scale):
    return Slots(at, f32(values), slots_in_use(count, at.shape[-1]), scale)


_q2_k_lite = _q3_k_lite = _q4_k_lite = _q5_k_lite = _q6_k_lite = _lite


def _last_of_each(at, active):
    """Active slots whose position no later active slot has."""
    active = jnp.broadcast_to(active, at.shape)
    later = np.triu(np.ones((at.shape[-1],) * 2, bool), k=1)
    return active & ~((at[..., :, None] == at[..., None, :]) & active[..., None, :] & later).any(axis=-1)
