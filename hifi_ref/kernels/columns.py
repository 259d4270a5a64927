"""Which structure takes a product of blocks: one dot after the other, a GEMM, or a kernel. Traceable by jax."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import numpy as jnp

from hifi_ref import exact
from hifi_ref.formats import Format
from hifi_ref.kernels import backends, canary, gemm, places, split, unpack, vec_dot
from hifi_ref.kernels.plans import PLANS
from hifi_ref.lanes.choose import FEW_COLUMNS
from hifi_ref.lanes.jax_lane import watched

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, UInt8

    from hifi_ref.exact import Array


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
    if f.name not in PLANS and mode == "fast" and partner.block_size == 1:
        return jnp.matmul(_values(partner, a), _values(f, w).T, precision="highest")
    if f.name not in PLANS or one_by_one(f, platform, len(a)):
        return _one_by_one(f, w, a)
    plan = PLANS[f.name]
    if platform == "cpu":
        if plan.codes is unpack.whole and plan.sums == "runs":
            return gemm.product_in_place(plan, f, partner, w, a)
        exactly = places.product if plan.sums == "places" else gemm.product
        run = exactly if mode == "exact" else gemm.fast_product
        return run(plan, split.matrix(f, w), split.activations(partner.name, a))
    if mode == "fast":
        return gemm.fast_product(plan, split.matrix(f, w), split.activations(partner.name, a))
    if why := refusal(f, mode, platform):
        raise RuntimeError(f"{why}: use lane numpy's dot")
    backend = backends.OF_PLATFORM[platform]
    return vec_dot.product(plan, split.matrix(f, w), split.activations(partner.name, a), backend)


def _one_by_one(f: Format, w: Array, a: Array) -> Array:
    assert f.dot is not None
    dot = functools.partial(f.dot, w)
    return jnp.stack([dot(column) for column in a]) if len(a) <= FEW_COLUMNS else jax.lax.map(dot, a)


def one_by_one(f: Format, platform: str, count: int) -> bool:
    """Whether so many columns are quicker as matrix-vector products, by the format's dot, than as one product."""
    return platform == "cpu" and count <= FEW_COLUMNS and f.name in PLANS and PLANS[f.name].sums != "places"


def refusal(f: Format, mode: str, platform: str) -> str | None:
    """Why a product needs a kernel that is not exact there, or does not exist; None where all is well."""
    if platform == "cpu" or mode == "fast" or f.name not in PLANS:
        return None
    if platform not in backends.OF_PLATFORM:
        return f"there are no kernels for the {platform} back end"
    backend = backends.OF_PLATFORM[platform]
    return None if canary.is_exact(f.name, backend) else f"the {backend} kernel of {f.name} gives other bits"


def marked(
    f: Format, partner: Format, w: UInt8[Array, "rows row_bytes"], a: UInt8[Array, "batch a_bytes"]
) -> Bool[Array, "batch"]:
    """Which columns underflow may have touched. Of the format's dot, which marks them, nothing else is computed."""
    if not watched.may_multiply_again(f, partner):
        return jnp.zeros(len(a), bool)
    w = w.reshape(len(w), -1, f.type_size)
    a = a.reshape(len(a), -1, partner.type_size)
    marks: Any = jax.vmap(lambda column: watched.dot(f, w, column)[1])(a)
    return marks


def _values(f, blocks):
    return exact.f32(f.decode(blocks.reshape(-1, f.type_size)).reshape(len(blocks), -1)).astype(np.float32)
