"""Which structure takes a product of blocks: one dot after the other, a GEMM, or a kernel. Traceable by jax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import numpy as jnp

from hifi_ref import exact
from hifi_ref.formats import Format
from hifi_ref.kernels import backends, canary, fields, gemm, vec_dot
from hifi_ref.kernels.matmul import FEW_COLUMNS
from hifi_ref.kernels.plans import PLANS

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32, UInt8


def product(
    f: Format,
    partner: Format,
    w: UInt8[Array, "rows row_bytes"],
    a: UInt8[Array, "batch a_bytes"],
    mode: str,
    platform: str,
) -> Float32[Array, "batch rows"]:
    w = w.reshape(len(w), -1, f.type_size)
    a = a.reshape(len(a), -1, partner.type_size)
    if f.name not in PLANS:
        if mode == "fast" and partner.block_size == 1:
            return jnp.matmul(_values(partner, a), _values(f, w).T, precision="highest")
        return _one_by_one(f, w, a)
    plan = PLANS[f.name]
    if platform == "cpu":
        if len(a) <= FEW_COLUMNS:
            return _one_by_one(f, w, a)
        run = gemm.product if mode == "exact" else gemm.fast_product
        return run(plan, fields.split(f, w), fields.split_activations(partner.name, a))
    if mode == "fast":
        return gemm.fast_product(plan, fields.split(f, w), fields.split_activations(partner.name, a))
    backend = backends.OF_PLATFORM[platform]
    if canary.failures(backend):
        raise RuntimeError(f"the kernels of the {platform} back end do not give the defined bits: use lane numpy's dot")
    return vec_dot.product(plan, fields.split(f, w), fields.split_activations(partner.name, a), backend)


def clear(
    f: Format, partner: Format, w: UInt8[Array, "rows row_bytes"], a: UInt8[Array, "batch a_bytes"]
) -> Bool[Array, "batch"]:
    """Which columns no underflow can have touched."""
    if f.dot_clear is None:
        return jnp.ones(len(a), bool)
    w = w.reshape(len(w), -1, f.type_size)
    a = a.reshape(len(a), -1, partner.type_size)
    return jax.vmap(lambda column: jnp.all(f.dot_clear(w, column)))(a)


def _one_by_one(f, w, a):
    if len(a) == 1:
        return f.dot(w, a[0])[None]
    return jax.lax.map(lambda column: f.dot(w, column), a)


def _values(f, blocks):
    return exact.f32(f.decode(blocks.reshape(-1, f.type_size)).reshape(len(blocks), -1)).astype(np.float32)
