"""Decoding as one fusion, written into a donated buffer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from hifi_ref.lanes.speeds import DECODED_PIECE

# Weights a call, at most.
DECODE_CHUNK = DECODED_PIECE


@functools.cache
def _decoder(f: Format, platform: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(blocks, out) -> values in the decoder's own shape, in out's memory; and the reshape that keeps that memory."""
    options = CPU_OPTIONS if platform == "cpu" else None

    def run(blocks: Any, out: Any) -> Any:
        return f.decode(blocks.reshape(-1, f.type_size))

    run = tracing(run, corrections(platform), platform)
    into = jax.jit(run, donate_argnums=1, keep_unused=True, compiler_options=options)
    reshape = jax.jit(jnp.reshape, static_argnums=1, donate_argnums=0)
    return into, reshape


@functools.cache
def _raw_shape(f: Format, n: int) -> tuple[int, ...]:
    return jax.eval_shape(f.decode, jax.ShapeDtypeStruct((n, f.type_size), np.uint8)).shape


def decode(f: Format, blocks: Any, shape: tuple[int, ...], out: Any = None, platform: str | None = None) -> Any:
    """uint8[..., row bytes] -> f32 of ``shape``; out, a jax array of that shape, is donated.

    ``platform``: for NumPy arrays, the back end that does the work; None for the default one.
    """
    platform = platform or require_exact(blocks)
    if exact.is_traced(blocks):
        return _decode_traced(f, blocks.reshape(-1, f.type_size)).reshape(shape)
    if watched.may_decode_again(f) and bool(_marked(f)(blocks)):
        values = np.empty(shape, np.float32)
        numpy_lane.decode(f, np.asarray(blocks), values)
        if exact.is_jax(blocks):
            return jnp.asarray(values)
        if out is None:
            return values
        out[...] = values
        return out
    if not exact.is_jax(blocks):
        return _decode_chunks(f, blocks, np.empty(shape, np.float32) if out is None else out, platform)
    into, reshape = _decoder(f, platform)
    if out is None:
        out = jnp.empty(shape, np.float32, device=blocks.sharding)
    return reshape(into(blocks, reshape(out, _raw_shape(f, blocks.size // f.type_size))), shape)


@functools.cache
def _marked(f: Format) -> Callable[..., Any]:
    """Whether any of these blocks is to be decoded in NumPy."""
    return jax.jit(lambda blocks: watched.decode(f, blocks.reshape(-1, f.type_size))[1])


def _decode_traced(f: Format, blocks: Any) -> Any:
    (blocks,) = opaque(blocks)
    values, marked = tracing_anywhere(lambda blocks: watched.decode(f, blocks), blocks)(blocks)
    if marked is None:
        return values

    def again(blocks: Any) -> np.ndarray:
        out = np.empty(values.shape, np.float32)
        numpy_lane.decode(f, blocks, out)
        return out

    def call(blocks: Any, values: Any) -> Any:
        return clean_thread.call(again, values.shape, values.dtype, blocks)

    return jax.lax.cond(marked, call, lambda blocks, values: values, blocks, values)


def _decode_chunks(f: Format, blocks: np.ndarray, out: np.ndarray, platform: str) -> np.ndarray:
    """Chunk by chunk through one donated buffer a thread, copied into the NumPy array."""
    into, _ = _decoder(f, platform)
    device = jax.local_devices(backend=platform)[0]
    flat = np.ascontiguousarray(blocks).reshape(-1, f.type_size)
    values = (
        out.reshape(-1, f.block_size) if out.flags.c_contiguous else np.empty((len(flat), f.block_size), np.float32)
    )
    # The next power of two, so that few shapes are compiled.
    step = min(DECODE_CHUNK // f.block_size, 1 << (len(flat) - 1).bit_length())

    def stripe(first: int, stride: int) -> None:
        buffer = jnp.empty(_raw_shape(f, step), np.float32, device=device)
        for start in range(first * step, len(flat), stride * step):
            piece = flat[start : start + step]
            keep = len(piece)
            if keep < step:
                piece = np.pad(piece, [(0, step - keep), (0, 0)])
            buffer = into(jax.device_put(piece, device), buffer)
            values[start : start + keep] = np.asarray(buffer).reshape(-1, f.block_size)[:keep]

    threads = 2
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(stripe, k, threads) for k in range(threads)]:
            done.result()
    if not np.shares_memory(values, out):
        out[...] = values.reshape(out.shape)
    return out
