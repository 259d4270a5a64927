"""Loops in order, and values that XLA holds in memory: what keeps a search both exact and fast in two lanes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact import watch
from hifi_ref.exact.bit_patterns import hidden_zero
from hifi_ref.exact.lanes import is_jax, library

if TYPE_CHECKING:
    from jaxtyping import Complex64, Float32, Shaped, UInt32

    from hifi_ref.exact.lanes import Array


def fold(n: int, body: Callable[[Any, Any], Any], init: Any, unroll: int = 1) -> Any:
    """body(n-1, ... body(1, body(0, init))): the one loop, in order, in both lanes.

    init is an array or a tuple of arrays; body must keep shapes and dtypes. In the JAX lane this is a compiled loop
    whose carried values are materialised at each turn, ``unroll`` steps apart.
    """
    leaves = init if isinstance(init, tuple) else (init,)
    if any(is_jax(leaf) for leaf in leaves):
        shapes = _shapes_of_marks(lambda: body(np.int32(0), init))
        if not shapes:
            return unmarked_fold(n, body, init, unroll)
        # One array of marks is carried, that of the fewest axes.
        shape = min(shapes, key=len)

        def gathering_body(i: Any, state: Any) -> Any:
            with watch.gathering() as found:
                after = body(i, state[1])
            return state[0] | watch.any_of(found, shape), after

        marked, state = unmarked_fold(n, gathering_body, (library(leaves[0]).zeros(shape, bool), init), unroll)
        watch.mark(marked)
        return state
    for i in range(n):
        init = body(i, init)
    return init


def unmarked_fold(n: int, body: Callable[[Any, Any], Any], init: Any, unroll: int = 1) -> Any:
    """fold over jax arrays, of a body that marks nothing."""
    return sys.modules["jax"].lax.fori_loop(0, n, body, init, unroll=min(unroll, n))


def _shapes_of_marks(work: Callable[[], Any]) -> list[tuple[int, ...]]:
    """The shapes of the marks that a piece of work makes."""
    if not watch.is_watching():
        return []
    with watch.gathering() as found:
        sys.modules["jax"].eval_shape(work)
    return [mark.shape for mark in found]


def with_row(x: Any, i: Any, row: Shaped[Array, "*n"]) -> Shaped[Array, "rows *n"]:
    """x with row i replaced; a NumPy array is changed in place."""
    if is_jax(x):
        return x.at[i].set(row)
    x[i] = row
    return x


def pair(a: Float32[Array, "*n"], b: Float32[Array, "*n"]) -> Complex64[Array, "*n"] | Float32[np.ndarray, "2 *n"]:
    """Two float32 arrays as one loop-carried value; take them apart with unpair.

    XLA:CPU computes every carried array in a loop of its own, and computes what they share again in each. In the JAX
    lane a pair is one complex64 array, so that both come out of one loop; adding pairs is two float32 additions.
    """
    if is_jax(a):
        return sys.modules["jax"].lax.complex(a, b)
    return np.stack([a, b])


def unpair(
    p: Complex64[Array, "*n"] | Float32[np.ndarray, "2 *n"],
) -> tuple[Float32[Array, "*n"], Float32[Array, "*n"]]:
    """The two arrays of a pair."""
    if is_jax(p):
        lax = sys.modules["jax"].lax
        return lax.real(p), lax.imag(p)
    return p[0], p[1]


def wall(*values: Shaped[Array, "..."]) -> Any:
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


def zero_of_turns(x: Float32[Array, "..."]) -> UInt32[Array, ""]:
    """A zero that no compiler knows, whatever it knows of x: how often a loop ran that never runs."""
    jax = sys.modules["jax"]
    turns = hidden_zero(x[(0,) * x.ndim])
    return jax.lax.while_loop(lambda turn: turn < turns, lambda turn: turn + np.uint32(1), jax.numpy.uint32(0))


def held(work: Callable[[], Array]) -> Float32[Array, "..."]:
    """wall(work()), whose marks are read from the value: it is NaN where one of its products is to be marked."""
    if not watch.is_watching():
        return wall(work())
    with watch.gathering() as found:
        value = work()
    if not found:
        return wall(value)
    value = wall(library(value).where(watch.any_of(found, value.shape), np.float32(np.nan), value))
    watch.mark(value != value)
    return value


def columns(x: Shaped[Array, "..."], n: int) -> Shaped[Array, "n groups"]:
    """[..., k * n] -> [n, groups]: element i of every run of n weights in row i, in memory, not as a strided view."""
    turned = x.reshape(-1, n).T
    return wall(turned) if is_jax(x) else np.ascontiguousarray(turned)


def rows(x: Shaped[Array, "n groups"]) -> Shaped[Array, "groups n"]:
    """The inverse of columns: [n, groups] -> [groups, n], in memory."""
    return wall(wall(x).T) if is_jax(x) else np.ascontiguousarray(x.T)


def largest(x: Float32[Array, "*n run"]) -> Float32[Array, "*n"]:
    """The largest magnitude of each run."""
    if is_jax(x):
        return library(x).abs(x).max(axis=-1)
    # Along short runs NumPy begins anew with each
    return np.abs(columns(x, x.shape[-1])).max(axis=0).reshape(x.shape[:-1])
