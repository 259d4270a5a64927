"""The mode "fast": the same formulas compiled by JAX, with sums in any order.

Activations are encoded as the release encodes them, and decoded again; each matrix is decoded where it is met, and one
float32 GEMM multiplies both. What differs from the release is the order of additions, and codes that this flips.
Matrices stay packed in the file: in memory there is one decoded at a time. Where JAX has several devices each decodes
and multiplies its share of a matrix's rows.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hifi_ref.formats import FORMATS, Format
from hifi_ref.models import exact_mode, rope
from hifi_ref.models.arithmetic import Arithmetic, Matrix

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array

# Products of float32 in full, also where a back end has quicker ones of less.
PRECISION = "highest"


def product(weight: Matrix, x: Float32[jax.Array, "tokens columns"]) -> Float32[jax.Array, "tokens rows"]:
    """One matrix. Tokens are padded, so that those of experts, of any number, are compiled for few."""
    tokens = len(x)
    x = jnp.pad(x, ((0, _padded(tokens) - tokens), (0, 0)))
    partner = FORMATS[weight.kind].dot_with or "F32"
    if partner != "F32":
        x = _rounded(FORMATS[partner], x)
    return _multiplied(FORMATS[weight.kind], _split(weight.blocks), x)[:tokens]


@functools.cache
def _mesh() -> Mesh | None:
    """All devices of this process in a line; None where there is one."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), ("rows",)) if len(devices) > 1 else None


def _split(blocks: UInt8[Array, "rows row_bytes"]) -> UInt8[Array, "rows row_bytes"]:
    """Rows over all devices; whole on each where they do not share them evenly."""
    mesh = _mesh()
    if mesh is None:
        return blocks
    even = len(blocks) % mesh.size == 0
    return jax.device_put(blocks, NamedSharding(mesh, PartitionSpec("rows" if even else None)))


def _padded(tokens: int) -> int:
    """The next multiple of a quarter of the largest power of two that is no larger: at most a fifth is wasted."""
    step = max(8, (1 << tokens.bit_length() - 1) // 4)
    return -(-tokens // step) * step


@functools.partial(jax.jit, static_argnums=0)
def _rounded(f: Format, x: Float32[jax.Array, "tokens columns"]) -> Float32[jax.Array, "tokens columns"]:
    assert f.encode is not None
    return _decoded(f, f.encode(x.reshape(len(x), -1, f.block_size), None), len(x))


@functools.partial(jax.jit, static_argnums=0)
def _multiplied(f: Format, w: UInt8[jax.Array, "rows row_bytes"], x: Float32[jax.Array, "tokens columns"]) -> jax.Array:
    out = jax.lax.dot_general(x, _decoded(f, w, len(w)), (((1,), (1,)), ((), ())), precision=PRECISION)
    mesh = _mesh()
    return out if mesh is None else jax.lax.with_sharding_constraint(out, NamedSharding(mesh, PartitionSpec()))


def _decoded(f: Format, blocks: Array, rows: int) -> Float32[jax.Array, "rows columns"]:
    return jnp.asarray(f.decode(blocks.reshape(-1, f.type_size))).astype(np.float32).reshape(rows, -1)


def decoded(weight: Matrix) -> Float32[jax.Array, "rows columns"]:
    return jnp.asarray(exact_mode.decoded(weight))


@jax.jit
def rms_norm(x: Float32[jax.Array, "*m n"], weight: Float32[jax.Array, "n"], eps: float) -> Float32[jax.Array, "*m n"]:
    return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


# The angles are those of the exact mode, products of products; their cosines NumPy's.
turn = functools.partial(rope.turn, cos=np.cos, sin=np.sin)


@functools.partial(jax.jit, static_argnums=3)
def _rotated(x: jax.Array, cos: jax.Array, sin: jax.Array, halves: bool) -> jax.Array:
    n = 2 * cos.shape[1]
    cos, sin = cos[:, None], sin[:, None]
    a, b = (x[..., : n // 2], x[..., n // 2 : n]) if halves else (x[..., 0:n:2], x[..., 1:n:2])
    turned = a * cos - b * sin, a * sin + b * cos
    joined = jnp.concatenate(turned, -1) if halves else jnp.stack(turned, -1).reshape(*x.shape[:-1], n)
    return jnp.concatenate([joined, x[..., n:]], -1)


def rotate(x: Float32[jax.Array, "tokens heads size"], by: rope.Turn) -> Float32[jax.Array, "tokens heads size"]:
    return _rotated(x, by.cos, by.sin, by.halves)


@functools.partial(jax.jit, static_argnames=("window", "cap"))
def attend(
    q: Float32[jax.Array, "tokens heads size"],
    k: Float32[jax.Array, "tokens kv_heads size"],
    v: Float32[jax.Array, "tokens kv_heads size"],
    scale: Any = 1.0,
    window: int | None = None,
    cap: float = 0.0,
) -> Float32[jax.Array, "tokens width"]:
    """As Attend says; one head of k and v after the other, so that only its scores are in memory."""
    tokens, heads, size = q.shape
    kv = k.shape[1]
    back = jnp.arange(tokens)[:, None] - jnp.arange(tokens)
    allowed = (back >= 0) & (back < (window or tokens))

    def of_one(head: Any) -> jax.Array:
        q, k, v = head
        scores = jnp.einsum("tgs,us->gtu", q, k, precision=PRECISION)
        if cap:
            scores = capped(scores, cap)
        shares = jax.nn.softmax(jnp.where(allowed, scores * scale, -jnp.inf), axis=-1)
        return jnp.einsum("gtu,us->tgs", shares, v, precision=PRECISION)

    by_head = q.reshape(tokens, kv, -1, size).swapaxes(0, 1), k.swapaxes(0, 1), v.swapaxes(0, 1)
    return jax.lax.map(of_one, by_head).swapaxes(0, 1).reshape(tokens, -1)


@jax.jit
def softmax(x: Float32[jax.Array, "*m n"]) -> Float32[jax.Array, "*m n"]:
    return jax.nn.softmax(x, axis=-1)


@jax.jit
def swiglu(gate: Float32[jax.Array, "*n"], up: Float32[jax.Array, "*n"]) -> Float32[jax.Array, "*n"]:
    return jax.nn.silu(gate) * up


@jax.jit
def geglu(gate: Float32[jax.Array, "*n"], up: Float32[jax.Array, "*n"]) -> Float32[jax.Array, "*n"]:
    """The gate and its GELU are binary16 numbers between -10 and 10, as in the release's table."""
    half = gate.astype(np.float16).astype(np.float32)
    gelu = jax.nn.gelu(half, approximate=True).astype(np.float16).astype(np.float32)
    return jnp.where(gate <= -10, 0.0, jnp.where(gate >= 10, gate, gelu) * up)


@jax.jit
def capped(x: Float32[jax.Array, "*n"], cap: float) -> Float32[jax.Array, "*n"]:
    return jnp.tanh(x / cap) * cap


ARITHMETIC = Arithmetic(decoded, product, rms_norm, turn, rotate, attend, softmax, swiglu, geglu, capped)
