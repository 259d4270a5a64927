"""The whole sums on a CPU: float32 adds small integers exactly, below 2^24 and in any order, so a GEMM may do it.

One group after the other: its codes are unpacked, multiplied by the whole scales of their sub-blocks, and go through
one batched GEMM; the float additions follow in the format's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from hifi_ref import exact
from hifi_ref.exact import f32, i32
from hifi_ref.formats import Format
from hifi_ref.kernels import order, slots
from hifi_ref.kernels.order import Floats, Sums
from hifi_ref.kernels.structures import Activations, Plan, Weights

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from hifi_ref.exact import Array

EXACT = 2**24


def product(plan: Plan, w: Weights, a: Activations) -> Float32[Array, "batch rows"]:
    """The defined bits, where the format's dot makes no mark."""
    batch, rows = a.q.shape[-1], w.d.shape[-1]
    _, mul = exact.sealed_by(w.d[0, :1])
    zeros = jnp.broadcast_to(exact.zeros_to_add_to(w.d[0, :1]), (batch, rows))
    lanes = plan.sums == "lanes"

    def group(g, state):
        total, start = state
        wg, ag = take((w, a), g)
        sums = whole_sums(plan, wg, ag)
        floats_w, floats_a = floats(wg, ag)
        total = plan.add(total, floats_w, floats_a, sums, mul)
        if lanes and wg.mins is not None:
            start = start - mul(mul(floats_w.m[0], floats_a.d[0]), f32(sums.share))
        if wg.slots is not None:
            terms = slots.terms(plan, wg, ag, mul)
            total, start = (total, in_order(start, terms)) if lanes else (in_order(total, terms), start)
        return total, start

    total = jnp.broadcast_to(zeros, (8, *zeros.shape)) if lanes else zeros
    total, start = lax.fori_loop(0, a.q.shape[0], group, (total, zeros))
    return finish(plan, total, start)


def product_in_place(plan: Plan, f: Format, partner: Format, w: Array, a: Array) -> Float32[Array, "batch rows"]:
    """The same for codes of a byte each: read where they lie, since turning w takes as long as the GEMMs.

    w: uint8[rows, blocks, type_size] and a: uint8[batch, blocks, type_size], both of blocks of 32. A bfloat16 holds
    whole numbers up to 256, so that processors which multiply these may do so; sums are float32 even then.
    """
    d, (da, q) = f.layout.unpack(w)[0].T, partner.layout.unpack(a)
    q, da = jnp.swapaxes(q, 0, 1).astype(jnp.bfloat16), da.T[..., None]
    _, mul = exact.sealed_by(d[:1, :1])
    flat, first = w.reshape(len(w), -1), f.layout.offset("qs")

    def block(b, total):
        codes = lax.dynamic_slice(flat, (0, b * f.type_size + first), (len(w), 32)).view(np.int8).astype(jnp.bfloat16)
        sums = lax.dot_general(q[b], codes, (((1,), (1,)), ((), ())), preferred_element_type=np.float32)
        return plan.add(total, Floats([d[b]]), Floats([da[b]]), Sums([sums]), mul)

    zeros = jnp.broadcast_to(exact.zeros_to_add_to(d[:1, :1]), (len(a), len(w)))
    return lax.fori_loop(0, len(d), block, zeros)


def fast_product(plan: Plan, w: Weights, a: Activations) -> Float32[Array, "batch rows"]:
    """The same whole sums, over whole groups where the format has whole scales; their shares added in any order."""
    if plan.sums in ("lanes", "places"):
        plan = plan._replace(sums="whole")
    batch, rows = a.q.shape[-1], w.d.shape[-1]

    def group(g, total):
        wg, ag = take((w, a), g)
        sums = whole_sums(plan, wg, ag)
        floats_w, floats_a = floats(wg, ag)
        if wg.slots is not None:
            total = in_order(total, slots.terms(plan, wg, ag, jnp.multiply))
        if plan.add is order.scales_first and wg.mins is not None:
            return order.minus_share(total, floats_w, floats_a, sums, jnp.multiply)
        return plan.add(total, floats_w, floats_a, sums, jnp.multiply)

    total = lax.fori_loop(0, a.q.shape[0], group, jnp.zeros((batch, rows), np.float32))
    return total * np.float32(plan.final)


def take(fields, g):
    """Group g of every array."""
    return jax.tree.map(lambda x: x[g], fields)


def in_order(total, terms):
    """((total + terms[0]) + terms[1]) + ..."""
    for term in terms:
        total = total + term
    return total


def finish(plan, total, start):
    """The eight lanes added in order, behind the mins' share; the last factor."""
    if plan.sums == "lanes":
        for lane in total:
            start = start + lane
        total = start
    return total if plan.final == 1 else total * np.float32(plan.final)


def floats(w: Weights, a: Activations) -> tuple[Floats, Floats]:
    """The floats of a group, as the orders take them: rows across, batch down."""
    d, m = w.d[:, None], None if w.m is None else w.m[:, None]
    scales = None if w.scales is None else f32(w.scales)[:, None]
    return Floats(d, m, scales), Floats(a.d[..., None], None if a.s is None else a.s[..., None])


def whole_sums(plan: Plan, w: Weights, a: Activations) -> Sums:
    """Of one group, each [batch, rows], or [8, batch, rows] for lanes."""
    rows, batch = w.d.shape[-1], a.q.shape[-1]
    raw = plan.codes(*(c[None] for c in w.codes))[0]
    codes = f32(plan.numbers(raw.astype(np.int8))).reshape(256, rows)
    q = f32(a.q).reshape(256, batch)
    share = None if w.mins is None else share_of_sums(w.mins, a.bsums)
    if plan.sums in ("runs", "halves"):
        return Sums(_gemms(codes, q, 32 if plan.sums == "runs" else 16), share)
    if w.scales is not None:
        subs = len(w.scales)
        codes = (codes.reshape(subs, -1, rows) * f32(w.scales)[:, None]).reshape(256, rows)
    if plan.sums == "lanes":
        by_lane = jnp.swapaxes(codes.reshape(32, 8, rows), 0, 1).reshape(256, rows)
        return Sums([_gemms(by_lane, jnp.swapaxes(q.reshape(32, 8, batch), 0, 1).reshape(256, batch), 32)], share)
    return Sums([total_of_parts(plan, codes, q)], share)


def total_of_parts(plan, codes, q) -> Int32[Array, "batch rows"]:
    """The sum over a group, from parts so short that each is exact."""
    length = 256
    while plan.largest * 128 * length > EXACT:
        length //= 2
    parts = _gemms(codes, q, length)
    return i32(parts[0]) if len(parts) == 1 else i32(parts).sum(axis=0, dtype=np.int32)


def share_of_sums(mins, bsums) -> Int32[Array, "batch rows"]:
    """sum of min * (sum of the codes it applies to): at most 16 * 63 * 2^15, exact in int32."""
    sums = i32(bsums).reshape(len(mins), -1, bsums.shape[-1]).sum(axis=1, dtype=np.int32)
    total: Any = sum(i32(mins[s])[None] * sums[s][:, None] for s in range(len(mins)))
    return total


def _gemms(codes: Float32[Array, "256 rows"], q: Float32[Array, "256 batch"], length: int) -> Array:
    """[256 / length, batch, rows]"""
    codes, q = codes.reshape(-1, length, codes.shape[-1]), q.reshape(-1, length, q.shape[-1])
    return jnp.einsum("pkr,pkc->pcr", codes, q, precision="highest")
