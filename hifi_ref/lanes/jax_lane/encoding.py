"""Encoding in pieces of one shape; blocks that are marked, as exact.watch tells, are encoded again by NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hifi_ref import exact
from hifi_ref.exact import clean_thread
from hifi_ref.formats import FORMATS, Format
from hifi_ref.lanes import cores, executables, numpy_lane
from hifi_ref.lanes.canary import corrections, platforms_of, require_exact, tracing, tracing_anywhere
from hifi_ref.lanes.jax_lane import watched
from hifi_ref.lanes.jax_lane.compiling import ONE_CORE_OPTIONS, opaque
from hifi_ref.lanes.speeds import BUILT_PIECE, ENCODED_PIECE, of_format

# Weights a call on a CPU, where there are many: the arrays of a search stay in its second-level cache.
ENCODE_CHUNK = ENCODED_PIECE
# Where there are few. No third size, for each is compiled anew, which takes ten seconds for some searches.
SMALL_CHUNK = 1 << 16
# Elsewhere, at most: a small part of the memory, while all cores have work. And at least: what is smaller is filled up.
LARGE_CHUNK, SMALLEST_CHUNK = 1 << 24, 1 << 12
# Seconds of compiling up to which an encoder is compiled for each kind of floats: so it takes little more than half as
# long to run.
SHORT = 1.0


@functools.cache
def _encoder(f: Format, platform: str, build: exact.Fusing | None, kind: str) -> Callable[..., Any]:
    """``kind``: what x holds, as exact.widened takes it."""
    encode = _encode_for(f, platform == "cpu", build)
    if kind != "F32":
        whole = encode

        def encode(x: Any, weights: Any = None) -> tuple[Any, Any]:
            return whole(exact.widened(x, kind), weights)

    options = ONE_CORE_OPTIONS if platform == "cpu" else None
    return jax.jit(tracing(encode, corrections(platform), platform), compiler_options=options)


@functools.cache
def _widener(kind: str, platform: str) -> Callable[..., Any]:
    """By itself, so that an encoder which takes long to compile is compiled once for whatever a file stores."""
    return jax.jit(tracing(functools.partial(exact.widened, kind=kind), corrections(platform), platform))


def encode(f: Format, x: Any, weights: Any, shape: tuple[int, ...]) -> Any:
    """f32[..., n] -> uint8 of ``shape``. Traced, concrete or NumPy input."""
    platform = require_exact(weights if exact.is_traced(weights) else x)
    if exact.is_traced(x) or exact.is_traced(weights):
        return _encode_traced(f, x, weights).reshape(shape)
    if exact.is_jax(x) and platform != "cpu" and x.size:
        return _encode_on_device(f, x, weights, platform).reshape(shape)
    weights = None if weights is None else np.asarray(weights)
    chunk = _chunk(x.size, platform)
    result = _encode_chunks(f, np.asarray(x), weights, platform, chunk).reshape(shape)
    return jnp.asarray(result) if exact.is_jax(x) else result


def encode_in_pieces(
    f: Format,
    x: np.ndarray,
    weights: np.ndarray | None,
    shape: tuple[int, ...],
    platform: str = "cpu",
    build: exact.Fusing | None = None,
    kind: str = "F32",
) -> np.ndarray:
    """The same on one back end, on a CPU in calls of one shape: one compilation serves tensors of all shapes.

    ``kind``: what x holds, as exact.widened takes it. ``build``: as which other build it is encoded.
    Row-scoped formats with importance need whole rows, and so one compilation for each length of rows.
    """
    chunk = ENCODE_CHUNK if platform == "cpu" else _chunk(x.size, platform)
    chunk = chunk if build is None else BUILT_PIECE
    return _encode_chunks(f, x, weights, platform, chunk, build, kind).reshape(shape)


def _chunk(size: int, platform: str) -> int:
    """On a CPU one of two sizes, elsewhere the next power of two, so that few shapes are compiled."""
    if platform == "cpu":
        return min(ENCODE_CHUNK, SMALL_CHUNK) if size <= 4 * SMALL_CHUNK else ENCODE_CHUNK
    return min(LARGE_CHUNK, max(SMALLEST_CHUNK, 1 << (size - 1).bit_length()))


def _encode_for(f: Format, is_cpu: bool, build: exact.Fusing | None = None) -> Callable[..., Any]:
    """(x, weights) -> the blocks, and which of them are marked.

    Elsewhere than on a CPU also those that store a NaN: the sign of one that overflow made is x86's own. Those of
    another build have theirs by other operations.
    """

    def encode(x: Any, weights: Any = None) -> tuple[Any, Any]:
        with exact.fusing(build):
            blocks, marked = watched.encode(f, x, weights)
        return blocks, marked if is_cpu and build is None else marked | stores_nan(f, blocks)

    return encode


def stores_nan(f: Format, blocks: Any) -> Any:
    """uint8[..., type_size] -> whether a float of the block is no number."""
    found = jnp.zeros(blocks.shape[:-1], bool)
    for field in f.layout.fields:
        if field.dtype in ("f16", "f32"):
            run = blocks[..., f.layout.span(field.name)].reshape(*found.shape, field.count, -1).astype(np.uint32)
            size = run[..., -1] << np.uint32(8) & np.uint32(0x7FFF) | run[..., -2]
            found = found | (size > np.uint32(0x7C00 if field.dtype == "f16" else 0x7F80)).any(axis=-1)
    return found


def _blocked(f: Format, x: Any, weights: Any) -> tuple[Any, Any]:
    """[rows, blocks, size] and [blocks, size]; without importance all blocks form one row."""
    if weights is None:
        return x.reshape(1, -1, f.block_size), None
    return x.reshape(-1, x.shape[-1] // f.block_size, f.block_size), weights.reshape(-1, f.block_size)


def _cut(f: Format, x: Any, weights: Any) -> tuple[int, int]:
    """The axis along which blocks are cut into pieces, rows where importance goes by rows, and the length of one."""
    axis = 1 if weights is None else 0
    return axis, min(max(1, LARGE_CHUNK // (f.block_size if weights is None else weights.size)), x.shape[axis])


def _encode_on_device(f: Format, x: jax.Array, weights: Any, platform: str) -> jax.Array:
    """Equal pieces, the last of which may begin within the one before; only what is marked leaves the device."""
    run = _encoder(f, platform, None, "F32")
    x, weights = _blocked(f, x, weights)
    axis, step = _cut(f, x, weights)
    length, parts = x.shape[axis], []
    for start in range(0, length, step):
        first = min(start, length - step)
        piece = x if step == length else jax.lax.slice_in_dim(x, first, first + step, axis=axis)
        blocks, marked = run(piece, weights)
        if bool(marked.any()):
            given = None if weights is None else np.asarray(weights)
            repaired = _repair(f, np.asarray(piece), given, np.asarray(blocks), np.asarray(marked))
            blocks = jax.device_put(repaired, blocks.sharding)
        parts.append(blocks if first == start else jax.lax.slice_in_dim(blocks, start - first, step, axis=axis))
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=axis)


def _encode_chunks(
    f: Format,
    x: np.ndarray,
    weights: np.ndarray | None,
    platform: str,
    chunk: int,
    build: exact.Fusing | None = None,
    kind: str = "F32",
) -> np.ndarray:
    """Chunks of one shape, the last one filled with zeros; one in flight a core."""
    taken = kind if of_format("encode", f.name).compiling < SHORT else "F32"
    encoder, widener = _encoder(f, platform, build, taken), _widener(kind, platform)
    device = jax.local_devices(backend=platform)[0]
    x, weights = _blocked(f, np.ascontiguousarray(x), weights)
    by_rows = weights is not None and f.row_scoped
    # Blocks that know nothing of their row form one long row, each beside its own importance.
    x = x if by_rows else x.reshape(1, -1, f.block_size)
    axis = 0 if by_rows else 1
    step = max(1, chunk // (weights.size if by_rows else f.block_size))
    out = np.empty((*x.shape[:2], f.type_size), np.uint8)

    # A format that a caller made has the name of another.
    keeps = platform == "cpu" and FORMATS.get(f.name) is f and not corrections(platform)
    ready = executables.loaded if keeps else lambda run, *_: run
    work = "encode", f.name, taken, build and (*sorted(build.rounded), *build[1:])

    def part(start: int) -> None:
        at = (slice(start, start + step),) if by_rows else (slice(None), slice(start, start + step))
        piece, own = x[at], weights
        if weights is not None and not by_rows:
            own = weights[np.arange(start, start + step) % len(weights)]
        missing = step - piece.shape[axis]
        if missing:
            padding = [(0, 0)] * 3
            padding[axis] = (0, missing)
            piece = np.pad(piece, padding)
        with jax.default_device(device):
            if kind != taken:
                piece = ready(widener, ("widen", kind), piece)(piece)
            blocks, marked = (np.asarray(r) for r in ready(encoder, work, piece, own)(piece, own))
        keep = step - missing
        blocks, marked = (r[:keep] if by_rows else r[:, :keep] for r in (blocks, marked))
        if marked.any():
            blocks = _repair(f, np.asarray(exact.widened(x[at], kind)), own, blocks, marked, build)
        out[at] = blocks

    cores.each(part, range(0, x.shape[axis], step) if x.size else range(0))
    return out


def _repair(
    f: Format,
    x: np.ndarray,
    weights: np.ndarray | None,
    blocks: np.ndarray,
    marked: np.ndarray,
    build: exact.Fusing | None = None,
) -> np.ndarray:
    """The blocks, with those that are marked encoded by the definition."""
    if not marked.any():
        return blocks
    blocks = blocks.copy()
    if weights is not None and f.row_scoped:
        rows = marked.any(axis=1)
        blocks[rows] = numpy_lane.encode(f, x[rows].reshape(rows.sum(), -1), weights.reshape(-1), build)
        return blocks
    at = np.nonzero(marked)
    # As one row, each block beside its own importance.
    own = None if weights is None else weights[at[1]].reshape(-1)
    blocks[at] = numpy_lane.encode(f, x[at].reshape(1, -1), own, build)[0]
    return blocks


def _encode_traced(f: Format, x: Any, weights: Any) -> Any:
    """Part of the caller's computation: the NumPy lane is called back for, and only where, a block is marked."""
    x, weights = opaque(*_blocked(f, jnp.asarray(x), None if weights is None else jnp.asarray(weights)))
    encode = _encode_for(f, platforms_of(x) == ("cpu",))
    blocks, marked = tracing_anywhere(encode, x)(x, weights)

    def repair(x: Any, blocks: Any, marked: Any, weights: Any = None) -> np.ndarray:
        return _repair(f, x, weights, blocks, marked)

    def call(*operands: Any) -> Any:
        return clean_thread.call(repair, blocks.shape, blocks.dtype, *operands)

    operands = (x, blocks, marked) + (() if weights is None else (weights,))
    return jax.lax.cond(marked.any(), call, lambda *operands: operands[1], *operands)
