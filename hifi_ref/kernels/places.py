"""Dot products without whole sums: Q3_K_HIFI and Q4_K_HIFI add 256 rounded products a block, place after place.

(weight q) d of every place, then the slots' terms, are a sum of their own in each block; the blocks' sums are added
after it. So all blocks go side by side: groups and rows are the last two axes here, and the places are a loop.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.experimental import pallas as pl

from hifi_ref import exact
from hifi_ref.exact import f32
from hifi_ref.kernels import backends, gemm, planes, slots
from hifi_ref.kernels.structures import Activations, Plan, Weights

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array

# Groups a program: the sublanes of a TPU's register.
GROUPS = 8


def product(plan: Plan, w: Weights, a: Activations) -> Float32[Array, "batch rows"]:
    """The defined bits on a CPU, where the format's dot makes no mark: one group after the other, decoded once."""
    batch, rows = a.q.shape[-1], w.d.shape[-1]
    _, mul = exact.sealed_by(w.d[0, :1])
    zeros = jnp.broadcast_to(exact.zeros_to_add_to(w.d[0, :1]), (batch, rows))

    def group(g, total):
        wg, ag = gemm.take((w, a), g)
        weights = slots.weights(plan, wg)
        q, d = f32(ag.q).reshape(256, batch, 1), ag.d[0][:, None]
        block = exact.fold(256, lambda j, block: block + mul(mul(weights[j], q[j]), d), zeros, unroll=8)
        return total + gemm.in_order(block, slots.terms(plan, wg, ag, mul))

    return lax.fori_loop(0, a.q.shape[0], group, zeros)


def kernel_product(plan: Plan, w: Weights, a: Activations, backend: str) -> Float32[Array, "batch rows"]:
    """The same in a Pallas kernel: a program takes a tile of rows, a few groups and one column."""
    groups, rows, batch, tile = a.q.shape[0], w.d.shape[-1], a.q.shape[-1], backends.TILE[backend]
    fields, column = operands(plan, w, a, tile)
    leaves, structure = jax.tree.flatten((fields, column))
    padded = fields["d"].shape[-2:]
    blocks = backends.call(
        functools.partial(_kernel, plan, structure),
        backend,
        grid=(padded[1] // tile, batch, padded[0] // GROUPS),
        in_specs=[_spec(x, tile) for x in leaves],
        out_specs=pl.BlockSpec((1, GROUPS, tile), lambda i, c, g: (c, g, i)),
        out_shape=jax.ShapeDtypeStruct((batch, *padded), np.float32),
    )(*leaves)
    return exact.sum_in_order(jnp.moveaxis(blocks[:, :groups, :rows], 1, 0))


def operands(plan: Plan, w: Weights, a: Activations, tile: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a kernel reads: of the matrix [n, groups, rows]; of the activations, a column first, [batch, n, groups, *].

    Groups and rows are filled up to what programs take.
    """

    def filled(x, rows_too=True):
        missing = [(0, -x.shape[-2] % GROUPS), (0, -x.shape[-1] % tile if rows_too else 0)]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + missing)

    def groups_inside(x):
        return filled(jnp.moveaxis(x, 0, 1))

    packed = planes.pack(plan.codes(*w.codes), plan.bits)
    fields = {"planes": tuple(groups_inside(plane) for plane in packed), "d": groups_inside(w.d)}
    fields["scales"] = groups_inside(planes.words(w.scales))
    if w.mins is not None:
        fields["mins"], fields["m"] = groups_inside(planes.words(w.mins)), groups_inside(w.m)
    _, mul = exact.sealed_by(w.d[0, :1])
    terms = jax.vmap(lambda w, a: slots.terms(plan, w, a, mul))(w, a)
    columns = {
        "q": filled(jnp.transpose(a.q.reshape(len(a.q), 256, -1), (2, 1, 0))[..., None], rows_too=False),
        "d": filled(jnp.transpose(a.d, (2, 1, 0))[..., None], rows_too=False),
        "terms": filled(jnp.transpose(terms, (2, 1, 0, 3))),
    }
    return fields, columns


def _spec(x: Any, tile: int) -> pl.BlockSpec:
    if x.ndim == 3:
        return pl.BlockSpec((x.shape[0], GROUPS, tile), lambda i, c, g: (0, g, i))
    if x.shape[-1] == 1:
        return pl.BlockSpec((1, x.shape[1], GROUPS, 1), lambda i, c, g: (c, 0, g, 0))
    return pl.BlockSpec((1, x.shape[1], GROUPS, tile), lambda i, c, g: (c, 0, g, i))


def _kernel(plan, structure, *refs):
    *inputs, out_ref = refs
    x, column = jax.tree.unflatten(structure, inputs)
    _, mul = exact.sealed_by(x["d"][0])
    d, da = x["d"][0], column["d"][0, 0]
    subs = 4 * x["scales"].shape[0]
    length = 256 // subs

    def sub_block(s, block):
        scale = d * f32(planes.scale_of(x["scales"][s >> 2], s))
        least = x["m"][0] * f32(planes.scale_of(x["mins"][s >> 2], s)) if "mins" in x else None

        def place(j, block):
            weight = scale * f32(plan.numbers(planes.code_at(x["planes"], plan.bits, j)))
            weight = weight if least is None else weight - least
            return block + mul(mul(weight, f32(column["q"][0, j])), da)

        return lax.fori_loop(s * length, s * length + length, place, block)

    block = lax.fori_loop(0, subs, sub_block, jnp.zeros(out_ref.shape[1:], np.float32))
    out_ref[0] = gemm.in_order(block, [column["terms"][0, k] for k in range(column["terms"].shape[1])])
