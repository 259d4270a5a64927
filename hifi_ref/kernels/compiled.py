"""A compiled product in four steps: encode the activations, choose a structure, multiply, repair."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from hifi_ref import api, exact
from hifi_ref.formats import Format
from hifi_ref.kernels import columns, repair
from hifi_ref.lanes import jax_lane
from hifi_ref.lanes.canary import corrections, require_exact, tracing, tracing_anywhere
from hifi_ref.lanes.jax_lane import watched

# Rows a call: what a group's arrays then need fits the second-level cache,
ROWS = 512
# and what a matrix-vector product needs is memory that stays mapped between calls.
ROWS_OF_A_VECTOR = 4096


def product_inside(f: Format, partner: Format, w: Any, x: Any, mode: str) -> Any:
    """As a part of the caller's computation: uint8[rows, row bytes], f32[batch, n] -> f32[batch, rows]."""
    platform = require_exact(w if exact.is_jax(w) else x)
    a = api.encode(partner.name, x)
    w, a = jax_lane.opaque(jnp.asarray(w), jnp.asarray(a))
    result = tracing_anywhere(lambda w, a: columns.product(f, partner, w, a, mode, platform), w)(w, a)
    return repair.inside(f, partner, w, a, result)


def product(f: Format, partner: Format, w: Any, x: Any, mode: str) -> jax.Array:
    """At top level: uint8[rows, row bytes], f32[batch, n] -> f32[batch, rows]."""
    platform = require_exact(w if exact.is_jax(w) else x)
    calls, x = _calls(f, partner, mode, platform), np.asarray(x)
    w = w if exact.is_jax(w) else jax.device_put(w, jax.local_devices(backend=platform)[0])
    divisible = platform == "cpu" and _on_one_device(w)
    if columns.one_by_one(f, platform, len(x)) and divisible:
        # A call for each column: inside one call XLA:CPU would keep a loop over them to one core.
        parts = [_encode_and_multiply(calls, partner, w, column, ROWS_OF_A_VECTOR) for column in np.split(x, len(x))]
    else:
        parts = [_encode_and_multiply(calls, partner, w, x, ROWS if divisible else len(w))]
    result, marked = (part[0] if len(parts) == 1 else np.concatenate(part) for part in zip(*parts, strict=True))
    return jnp.asarray(repair.at_top_level(f, partner, w, x, result, np.asarray(marked)))


class Calls(NamedTuple):
    """Compiled, for one format, mode and platform. Both say which columns are marked, to be computed again."""

    multiply: Callable[..., Any]
    """(w, a, first, rows) -> the product with blocks, of some rows; which columns are marked."""
    encode_and_multiply: Callable[..., Any]
    """(w, x) -> the product with floats, in one call; which columns are marked; and whose blocks are."""


@functools.cache
def _calls(f: Format, partner: Format, mode: str, platform: str) -> Calls:
    def multiply(w: Any, a: Any, first: Any, rows: int) -> tuple[Any, Any]:
        if rows < len(w):
            w = jax.lax.dynamic_slice_in_dim(w, first, rows)
        return columns.product(f, partner, w, a, mode, platform), columns.marked(f, partner, w, a)

    def encode_and_multiply(w: Any, x: Any) -> tuple[Any, Any, Any]:
        a, not_encoded = watched.encode(partner, x.reshape(len(x), -1, partner.block_size), None)
        return *multiply(w, a.reshape(len(x), -1), 0, len(w)), not_encoded.any(axis=1)

    def compiled(work: Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
        options = jax_lane.CPU_OPTIONS if platform == "cpu" else None
        return jax.jit(tracing(work, corrections(platform), platform), compiler_options=options, **arguments)

    return Calls(compiled(multiply, static_argnums=3), compiled(encode_and_multiply))


def _encode_and_multiply(calls: Calls, partner: Format, w: Any, x: np.ndarray, size: int) -> tuple[Any, Any]:
    """f32[batch, rows] and which columns are marked: in one call, or in pieces of ``size`` rows."""
    if len(w) > size:
        return _in_pieces(calls.multiply, w, api.encode(partner.name, x, lane="jax"), size)
    result, marked, not_encoded = calls.encode_and_multiply(w, x)
    if not np.asarray(not_encoded).any():
        return result, marked
    return calls.multiply(w, api.encode(partner.name, x, lane="numpy"), 0, len(w))


def _in_pieces(multiply: Callable[..., Any], w: Any, a: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """So many rows a call, two calls at a time."""
    # The last piece begins within the one before.
    firsts = [min(start, len(w) - size) for start in range(0, len(w), size)]
    parts = list(_two_threads().map(lambda first: jax.block_until_ready(multiply(w, a, first, size)), firsts))
    result = np.empty((len(a), len(w)), np.float32)
    for first, (part, _) in zip(firsts, parts, strict=True):
        result[:, first : first + size] = part
    return result, np.any([marked for _, marked in parts], axis=0)


@functools.cache
def _two_threads() -> ThreadPoolExecutor:
    """Kept, since starting threads takes as long as a tenth of a large product."""
    return ThreadPoolExecutor(2, thread_name_prefix="hifi_ref")


def _on_one_device(w: Any) -> bool:
    return not exact.is_jax(w) or len(w.devices()) == 1
