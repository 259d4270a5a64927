"""Loops in order, and values that XLA holds in memory: what keeps a search both exact and fast in two lanes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from hifi_ref.exact.bit_patterns import hidden_zero
from hifi_ref.exact.lanes import Array, is_for_cpu, is_jax


def fold(n: int, body: Callable[[Any, Any], Any], init: Any, unroll: int = 1) -> Any:
    """body(n-1, ... body(1, body(0, init))): the one loop, in order, in both lanes.

    init is an array or a tuple of arrays; body must keep shapes and dtypes. In the JAX lane this is a compiled loop
    whose carried values are materialised at each turn, ``unroll`` steps apart.
    """
    leaves = init if isinstance(init, tuple) else (init,)
    if any(is_jax(leaf) for leaf in leaves):
        return sys.modules["jax"].lax.fori_loop(0, n, body, init, unroll=min(unroll, n))
    for i in range(n):
        init = body(i, init)
    return init


def repeat(most: int, body: Callable[[Any], Any], state: Any, going_on: Callable[[Any], Any]) -> Any:
    """body(body(... state)), at most ``most`` times, while going_on(state). It must be the identity from then on."""
    if is_jax(going_on(state)):
        jax = sys.modules["jax"]

        def more(counted: Any) -> Any:
            return (counted[0] < most) & going_on(counted[1])

        return jax.lax.while_loop(more, lambda counted: (counted[0] + 1, body(counted[1])), (np.int32(0), state))[1]
    for _ in range(most):
        if not going_on(state):
            break
        state = body(state)
    return state


def with_row(x: Array, i: Any, row: Array) -> Array:
    """x with row i replaced; a NumPy array is changed in place."""
    if is_jax(x):
        return x.at[i].set(row)
    x[i] = row
    return x


def where_needed(needed: Array, work: Callable[..., Any], given: tuple[Any, ...], state: tuple[Any, ...]) -> Any:
    """work(*given, *state) in those lanes (last axis) where it is needed, state elsewhere.

    The JAX lane gathers the lanes in batches of a fixed size, an eighth of them all, until none is left.
    """
    if not is_jax(needed):
        lanes = np.flatnonzero(needed)
        for v, done in zip(state, work(*(v[..., lanes] for v in (*given, *state))), strict=True):
            v[..., lanes] = done
        return state
    jax = sys.modules["jax"]
    room = -(-needed.size // 8)

    def batch(left_and_state: Any) -> Any:
        left, state = left_and_state
        (lanes,) = jax.numpy.nonzero(left, size=room, fill_value=left.size)
        done = work(*(v.at[..., lanes].get(mode="clip") for v in (*given, *state)))
        state = tuple(v.at[..., lanes].set(d, mode="drop") for v, d in zip(state, done, strict=True))
        return left.at[lanes].set(False, mode="drop"), state

    return jax.lax.while_loop(lambda left_and_state: left_and_state[0].any(), batch, (needed, state))[1]


def pair(a: Array, b: Array) -> Any:
    """Two float32 arrays as one loop-carried value; take them apart with unpair.

    XLA:CPU computes every carried array in a loop of its own, and computes what they share again in each. In the JAX
    lane a pair is one complex64 array, so that both come out of one loop; adding pairs is two float32 additions.
    """
    if is_jax(a):
        return sys.modules["jax"].lax.complex(a, b)
    return np.stack([a, b])


def unpair(p: Any) -> tuple[Array, Array]:
    """The two arrays of a pair."""
    if is_jax(p):
        lax = sys.modules["jax"].lax
        return lax.real(p), lax.imag(p)
    return p[0], p[1]


def wall(*values: Array) -> Any:
    """The values, computed once: XLA must not compute them again inside each of their consumers.

    A loop whose number of turns is a zero that no compiler knows leaves its operands as they are, but in memory.
    """
    if not is_jax(values[0]):
        return values if len(values) > 1 else values[0]
    jax = sys.modules["jax"]
    first = values[0].reshape(-1)[0]
    turns = hidden_zero(first.real.astype(np.float32))

    def more(state: Any) -> Any:
        return state[0] < turns

    def body(state: Any) -> Any:
        return (state[0] + np.uint32(1), *(~v if v.dtype == bool else v + v for v in state[1:]))

    held = jax.lax.while_loop(more, body, (jax.numpy.uint32(0), *values))[1:]
    return held if len(held) > 1 else held[0]


# Blocks at a time where there are more cores than a CPU has, and less memory for each.
MANY_BLOCKS = 1 << 16


def in_pieces(work: Callable[..., Any], size: int, x: Array, weights: Array | None) -> Any:
    """work(x, weights) on [rows, blocks, n] and [blocks, n]; on a CPU the JAX lane takes ``size`` blocks at a time.

    The arrays of a search then stay in the second-level cache. Elsewhere pieces are equal ones of MANY_BLOCKS at most.
    work answers arrays that begin with [rows, blocks].
    """
    if not is_jax(x):
        return work(x, weights)
    jax = sys.modules["jax"]
    rows, blocks, n = x.shape
    count = rows * blocks
    size = max(1, min(size, count) if is_for_cpu() else -(-count // max(1, -(-count // MANY_BLOCKS))))
    given = [x.reshape(count, n)]
    if weights is not None:
        given.append(jax.numpy.broadcast_to(weights, x.shape).reshape(count, n))
    missing = -count % size
    pieces = [jax.numpy.pad(a, [(0, missing), (0, 0)]).reshape(-1, 1, size, n) for a in given]
    done = jax.lax.map(lambda piece: work(piece[0], piece[1][0] if len(piece) > 1 else None), pieces)
    return tuple(a.reshape(-1, *a.shape[3:])[:count].reshape(rows, blocks, *a.shape[3:]) for a in done)


def columns(x: Array, n: int) -> Array:
    """[..., k * n] -> [n, groups]: element i of every run of n weights in row i, in memory, not as a strided view."""
    turned = x.reshape(-1, n).T
    return wall(turned) if is_jax(x) else np.ascontiguousarray(turned)


def rows(x: Array) -> Array:
    """The inverse of columns: [n, groups] -> [groups, n], in memory."""
    return wall(wall(x).T) if is_jax(x) else np.ascontiguousarray(x.T)
