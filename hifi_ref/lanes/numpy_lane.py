"""The definition at work: the format files over NumPy arrays, in chunks that fit a cache, on all cores.

NumPy must keep subnormal numbers. A thread whose processor flushes them (a library built with -ffast-math can leave it
so, and XLA does it around its own execution) would be silently wrong, so every call looks first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hifi_ref import exact
from hifi_ref.exact.clean_thread import keeps_subnormals
from hifi_ref.formats import Format
from hifi_ref.lanes import cores

# Weights a chunk. Searches keep about twenty temporaries of one sub-block row each; decoding streams.
ENCODE_CHUNK = 1 << 17
# The text of a fused build is slow to begin with: a chunk costs half as much a weight as one of a quarter of its size.
FUSED_CHUNK = 1 << 19
DECODE_CHUNK = 1 << 18
DOT_CHUNK = 1 << 20


def encode(
    f: Format, x: np.ndarray, weights: np.ndarray | None, build: exact.Fusing | None = None, kind: str = "F32"
) -> np.ndarray:
    """f32[..., n] -> uint8[rows, row bytes], as the x86-64 release or another build writes them.

    ``kind``: what x holds, as exact.widened takes it.
    """
    assert f.encode is not None
    work, n = _as_built(f.encode, build), x.shape[-1]
    chunk = ENCODE_CHUNK if build is None else FUSED_CHUNK
    x = np.ascontiguousarray(x).reshape(-1, n // f.block_size, f.block_size)
    if weights is None:
        # Blocks know nothing of their row, so one long row will do.
        x = x.reshape(1, -1, f.block_size)
        out = np.empty((1, x.shape[1], f.type_size), np.uint8)
        step = max(1, chunk // f.block_size)

        def part(i: int) -> None:
            out[:, i : i + step] = work(exact.widened(x[:, i : i + step], kind), None)

        each(part, range(0, x.shape[1], step))
        return out
    weights = np.ascontiguousarray(weights).reshape(-1, f.block_size)
    out = np.empty((*x.shape[:2], f.type_size), np.uint8)
    step = max(1, chunk // n)

    def rows(i: int) -> None:
        out[i : i + step] = work(exact.widened(x[i : i + step], kind), weights)

    each(rows, range(0, len(x), step))
    return out


def _as_built(work: Callable[..., Any], build: exact.Fusing | None) -> Callable[..., Any]:
    """work, on whatever thread, within exact.fusing."""
    if build is None:
        return work

    def fused(*arguments: np.ndarray | None) -> Any:
        with exact.fusing(build):
            return work(*arguments)

    return fused


def decode(f: Format, blocks: np.ndarray, out: np.ndarray) -> None:
    """uint8[..., row bytes] -> written to out, a contiguous f32[..., n]."""
    blocks = np.ascontiguousarray(blocks).reshape(-1, f.type_size)
    flat = out.reshape(-1)
    step = max(1, DECODE_CHUNK // f.block_size)

    def part(i: int) -> None:
        values = f.decode(blocks[i : i + step])
        flat[i * f.block_size : i * f.block_size + values.size] = values.reshape(-1)

    each(part, range(0, len(blocks), step))


def dot(f: Format, partner: Format, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """uint8[rows, row bytes], uint8[row bytes of the partner] -> f32[rows]."""
    assert f.dot is not None
    work = f.dot
    w = np.ascontiguousarray(w).reshape(len(w), -1, f.type_size)
    a = np.ascontiguousarray(a).reshape(-1, partner.type_size)
    out = np.empty(len(w), np.float32)
    step = max(1, DOT_CHUNK // max(1, a.shape[0] * partner.block_size))

    def rows(i: int) -> None:
        out[i : i + step] = work(w[i : i + step], a)

    each(rows, range(0, len(w), step))
    return out


def each(part: Callable[[int], None], starts: range) -> None:
    """Run part for every start, on as many threads as there are cores."""

    def checked(start: int) -> None:
        if not keeps_subnormals():
            raise RuntimeError("this thread's processor flushes subnormal numbers to zero: results would be wrong")
        # Overflow and NaN are part of the definition, not something to warn of.
        with np.errstate(all="ignore"):
            part(start)

    cores.each(checked, starts)
