"""What formats with outliers add to their base's dot product: one float32 term for each slot of a block.

One function a format, which plans.py names, takes the extension apart, as fields.py does with its base. A term needs
the activation at a slot's position, and no kernel can look that up on every back end: terms are made outside, and added
inside, slot after slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jax import numpy as jnp

from hifi_ref.exact import f32, i32, mul
from hifi_ref.formats.hifi import e4m3
from hifi_ref.formats.hifi.outliers import slots_in_use
from hifi_ref.kernels.structures import Activations, Plan, Slots, Weights

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from hifi_ref.exact import Array

_127TH = np.float32(1) / np.float32(127)


def terms(plan: Plan, w: Weights, a: Activations, multiply: Callable) -> Float32[Array, "slots batch rows"]:
    """What each slot of one group adds: (value q) d, or (value (unit d)) q; 0 where it is not in use."""
    assert w.slots is not None
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
        heard = jnp.abs(q) > np.float32(plan.least)
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


def of_q2_k_hifi(count, at, values, pad):
    return Slots(at, values, slots_in_use(count & np.uint8(127), 3))


def of_q3_k_hifi(at, values, pad):
    return Slots(at, values)


def of_q4_k_hifi(at, values):
    return Slots(at, values)


def of_q6_k_hifi(at, values):
    return Slots(at, values, _last_of_each(at, True))


def of_q6_k_hifi_l(count, at, values):
    """And Q4_HIFI."""
    return Slots(at, values, _last_of_each(at, slots_in_use(count, at.shape[-1])))


def of_q6_k_hifi_dynamic(count, at, pad, values):
    return Slots(at, values, slots_in_use(count, 8))


def of_q6_k_hifi_res8(count, at, values, pad, scale):
    return Slots(at, f32(values), slots_in_use(count, 8), mul(scale, _127TH))


def of_q5_k_hifi_res8(count, at, values, scale, pad):
    return Slots(at, f32(values), slots_in_use(count, 8), mul(e4m3.widen(scale), _127TH))


def of_lite(count, at, values, pad, scale):
    """Q2_K_LITE to Q6_K_LITE"""
    return Slots(at, f32(values), slots_in_use(count, at.shape[-1]), scale)


def _last_of_each(at, active):
    """Active slots whose position no later active slot has."""
    active = jnp.broadcast_to(active, at.shape)
    later = np.triu(np.ones((at.shape[-1],) * 2, bool), k=1)
    return active & ~((at[..., :, None] == at[..., None, :]) & active[..., None, :] & later).any(axis=-1)
