"""The dot products in a Pallas kernel: one text for every format that has a plan, on TPU and GPU.

Outside the kernel the fields are split and the rows put last. A program takes a tile of rows and one column: group
after group it unpacks codes, forms whole sums in int32, and adds floats in the format's order (order.py). Sums over the
eight lanes of a super-block leave the kernel as they are and are added outside, since a kernel has no way to take one
row out of a register array that every compiler knows.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.experimental import pallas as pl

from hifi_ref import exact
from hifi_ref.exact import f32, i32
from hifi_ref.kernels import backends, gemm, order, places, planes, slots
from hifi_ref.kernels.order import Floats, Sums
from hifi_ref.kernels.structures import Activations, Plan, Weights

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array


class Operands(NamedTuple):
    """What a kernel reads; None where the format has no such field. Rows last; of the activations, a column first."""

    planes: tuple[Any, ...]
    d: Any
    scales: Any
    mins: Any
    m: Any
    q: Any
    da: Any
    s: Any
    sums: Any
    """The stored sums of activation codes, one for each min."""
    terms: Any
    """What the slots of formats with outliers add."""


def product(plan: Plan, w: Weights, a: Activations, backend: str) -> Float32[Array, "batch rows"]:
    """The defined bits, where the format's dot makes no mark."""
    if plan.sums == "places":
        return places.kernel_product(plan, w, a, backend)
    batch, rows = a.q.shape[-1], w.d.shape[-1]
    tile = backends.TILE[backend]
    given = operands(plan, w, a, tile)
    padded = given.d.shape[-1]
    lanes = 8 if plan.sums == "lanes" else 1
    leaves = [x for x in _leaves(given) if x is not None]
    shapes = [(batch, lanes, padded), (batch, 1, padded)]
    total, start = backends.call(
        functools.partial(_kernel, plan, _leaves(given)),
        backend,
        grid=(padded // tile, batch),
        in_specs=[_spec(x, tile, padded) for x in leaves],
        out_specs=[pl.BlockSpec((1, shape[1], tile), lambda i, c: (c, 0, i)) for shape in shapes],
        out_shape=[jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes],
    )(*leaves)
    return gemm.finish(plan, jnp.moveaxis(total, 1, 0) if lanes == 8 else total[:, 0], start[:, 0])[:, :rows]


def operands(plan: Plan, w: Weights, a: Activations, tile: int) -> Operands:
    """The fields as a kernel takes them, the rows filled up to whole tiles."""

    def filled(x):
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % tile)])

    def column_first(x):
        return jnp.moveaxis(x, -1, 0)[..., None]

    codes = plan.codes(*w.codes)
    packed = (codes.reshape(len(codes), 256, -1),) if codes.dtype == np.int8 else planes.pack(codes, plan.bits)
    sums = None
    if w.mins is not None:
        subs = w.mins.shape[1]
        sums = column_first(i32(a.bsums).reshape(len(a.bsums), subs, -1, a.bsums.shape[-1]).sum(axis=2, dtype=np.int32))
    terms = None
    if w.slots is not None:
        _, mul = exact.sealed_by(w.d[0, :1])
        terms = filled(jnp.moveaxis(jax.vmap(lambda w, a: slots.terms(plan, w, a, mul))(w, a), 2, 0))
    return Operands(
        tuple(filled(plane) for plane in packed),
        filled(w.d),
        None if w.scales is None else filled(planes.words(w.scales)),
        None if w.mins is None else filled(planes.words(w.mins)),
        None if w.m is None else filled(w.m),
        column_first(a.q.reshape(len(a.q), 256, -1)),
        column_first(a.d),
        None if a.s is None else column_first(a.s),
        sums,
        terms,
    )


def _leaves(x: Operands) -> list[Any]:
    return [*x.planes, *x[1:]]


def _spec(x: Any, tile: int, padded: int) -> pl.BlockSpec:
    if x.shape[-1] == padded and x.ndim == 4:
        return pl.BlockSpec((1, *x.shape[1:-1], tile), lambda i, c: (c, 0, 0, i))
    if x.shape[-1] == padded:
        return pl.BlockSpec((*x.shape[:-1], tile), lambda i, c: (0, 0, i))
    return pl.BlockSpec((1, *x.shape[1:]), lambda i, c: (c, 0, 0, 0))


def _kernel(plan: Plan, leaves: list[Any], *refs: Any) -> None:
    *inputs, total_ref, start_ref = refs
    remaining = iter(inputs)
    taken = [None if leaf is None else next(remaining) for leaf in leaves]
    count = len(plan.bits)
    x = Operands(tuple(taken[:count]), *taken[count:])
    _, mul = exact.sealed_by(x.d[0, 0:1, :])
    lanes = plan.sums == "lanes"

    def group(g, state):
        total, start = state
        w = Floats(*(None if r is None else [r[g, i : i + 1, :] for i in range(r.shape[1])] for r in (x.d, x.m)))
        if plan.add is order.sub_scales:
            w = w._replace(scales=[f32(planes.scale_at(x.scales, g, s)) for s in range(8)])
        a = Floats(*(None if r is None else [r[0, g, i : i + 1, :] for i in range(r.shape[2])] for r in (x.da, x.s)))
        share = None
        if x.mins is not None:
            share = sum(planes.scale_at(x.mins, g, s) * x.sums[0, g, s : s + 1, :] for s in range(x.sums.shape[2]))
        total = plan.add(total, w, a, Sums(_parts(plan, x, g), share), mul)
        if lanes and share is not None:
            start = start - mul(mul(w.m[0], a.d[0]), f32(share))
        if x.terms is not None:
            terms = [x.terms[0, g, k : k + 1, :] for k in range(x.terms.shape[2])]
            total, start = (total, gemm.in_order(start, terms)) if lanes else (gemm.in_order(total, terms), start)
        return total, start

    zeros = jnp.zeros(total_ref.shape[1:], np.float32), jnp.zeros(start_ref.shape[1:], np.float32)
    total, start = lax.fori_loop(0, x.d.shape[0], group, zeros)
    total_ref[0] = total
    start_ref[0] = start


def _parts(plan: Plan, x: Operands, g: Any) -> list[Any]:
    """The whole sums of group g: int32, [1, rows] each, or [8, rows] for lanes."""
    subs = 8 if x.scales is None else 4 * x.scales.shape[1]
    length = 16 if plan.sums == "halves" or subs == 16 else 32
    scaled = x.scales is not None and plan.add is not order.sub_scales
    parts = []
    for unit in range(256 // length):
        first = unit * length
        codes = plan.numbers(planes.unpack(x.planes, plan.bits, g, first, length))
        products = codes * x.q[0, g, first : first + length, :].astype(np.int32)
        if plan.sums == "lanes":
            share = products.reshape(length // 8, 8, -1).sum(axis=0, dtype=np.int32)
        else:
            share = products.sum(axis=0, keepdims=True, dtype=np.int32)
        parts.append(share * planes.scale_at(x.scales, g, unit) if scaled else share)
    return parts if plan.sums in ("runs", "halves") else [sum(parts[1:], parts[0])]
