"""Dot products of many rows with one; those that are marked, as exact.watch tells, go to NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hifi_ref import exact
from hifi_ref.exact import clean_thread
from hifi_ref.formats import Format
from hifi_ref.lanes import numpy_lane
from hifi_ref.lanes.canary import corrections, require_exact, tracing, tracing_anywhere
from hifi_ref.lanes.jax_lane import watched
from hifi_ref.lanes.jax_lane.compiling import CPU_OPTIONS, opaque


def _in_blocks(f: Format, partner: Format, w: Any, a: Any) -> tuple[Any, Any]:
    return w.reshape(len(w), -1, f.type_size), a.reshape(-1, partner.type_size)


@functools.cache
def _dotter(f: Format, partner: Format, platform: str) -> Callable[..., Any]:
    def run(w: Any, a: Any) -> tuple[Any, Any]:
        result, marked = watched.dot(f, *_in_blocks(f, partner, w, a))
        return result, jnp.bool_(False) if marked is None else marked

    run = tracing(run, corrections(platform), platform)
    return jax.jit(run, compiler_options=CPU_OPTIONS if platform == "cpu" else None)


def dot(f: Format, partner: Format, w: Any, a: Any, platform: str | None = None) -> Any:
    """uint8[rows, row bytes], uint8[partner's row bytes] -> f32[rows].

    ``platform``: for NumPy arrays, the back end that does the work; None for the default one.
    """
    platform = platform or require_exact(a if exact.is_traced(a) else w)
    if exact.is_traced(w) or exact.is_traced(a):
        return _dot_traced(f, partner, *_in_blocks(f, partner, jnp.asarray(w), jnp.asarray(a)))
    device = None if exact.is_jax(w) else jax.local_devices(backend=platform)[0]
    with jax.default_device(device):
        result, marked = _dotter(f, partner, platform)(w, a)
    if bool(marked):
        result = numpy_lane.dot(f, partner, np.asarray(w), np.asarray(a))
    return jnp.asarray(result) if exact.is_jax(w) else np.asarray(result)


def _dot_traced(f: Format, partner: Format, w: Any, a: Any) -> Any:
    w, a = opaque(w, a)
    result, marked = tracing_anywhere(lambda w, a: watched.dot(f, w, a), w)(w, a)
    if marked is None:
        return result

    def again(w: Any, a: Any) -> np.ndarray:
        return numpy_lane.dot(f, partner, w.reshape(len(w), -1), a.reshape(-1))

    def call(w: Any, a: Any, result: Any) -> Any:
        return clean_thread.call(again, result.shape, result.dtype, w, a)

    return jax.lax.cond(marked, call, lambda w, a, result: result, w, a, result)
