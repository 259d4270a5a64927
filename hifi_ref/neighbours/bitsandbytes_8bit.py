"""bitsandbytes' 8-bit dynamic type, blockwise: 4,096 weights in 4,100 bytes, about 8.008 bits per weight.

    array     dtype   holds
    codes     u8      one code a weight, in the shape of the weights
    absmax    f32     the largest magnitude of each block; blocks run over the flat array, the last may be short

    w[j] = MAP[q[j]] * absmax

The map holds seven decades on either side of zero, each with twice the values of the one below, halfway between equal
steps from 0.1 to 1; and 0 (code 127) and 1 (code 255). Optimizer states are stored so, and the nested absmax of the
4-bit types.

The encoder of the CPU multiplies by the reciprocal of absmax, clamps to -1 .. 1 and takes the code from a table of
65,536 cells between -1 and 1; NaN counts for no absmax and takes code 0, as does all of a block without another value.

What the original does otherwise than it means to: the cells are 3e-5 wide, the map is finer next to zero, so that zeros
get code 131, which stands for 2.1e-5 absmax. The text for other devices (rule="default") finds the nearest value:
zeros get code 127, a NaN makes all its block code 255. CUDA's search (rule="cuda", read and not run) finds the
nearest too, but of two equally near takes the one closer to the value it arrived at.

Reference: csrc/cpu_ops.cpp, csrc/kernels.cu, bitsandbytes/backends/default/ops.py, create_dynamic_map
(bitsandbytes 0.50.2).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.codebooks import take
from hifi_ref.neighbours.packing import blocks_of, in_blocks
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

# What an absmax is taken for at least by rule="default", so that it can be divided by; a subnormal number.
LEAST = np.float32(1e-38)


@functools.cache
def dynamic_map() -> Float32[np.ndarray, "256"]:
    """The values of the codes, from the least on. linspace goes from both ends, in fused steps, as torch's does."""
    values = [np.float32(0), np.float32(1)]
    for decade in range(7):
        steps = 2**decade
        at, step = np.arange(steps + 1.0), np.float64(np.float32(np.float32(0.9) / np.float32(steps)))
        edges = np.where(at < (steps + 1) // 2, np.float64(np.float32(0.1)) + step * at, 1 - step * (steps - at))
        edges = edges.astype(np.float32)
        means = (edges[:-1] + edges[1:]) / np.float32(2) * np.float32(10.0 ** (decade - 6))
        values += [*means, *-means]
    return np.sort(np.array(values, np.float32))


@functools.cache
def midpoints() -> Float32[np.ndarray, "255"]:
    return np.float32(0.5) * (dynamic_map()[:-1] + dynamic_map()[1:])


@functools.cache
def _cells() -> UInt8[np.ndarray, "65536"]:
    """The code of each cell of the CPU's table: the number of midpoints below its value."""
    value = np.float32(-1) + np.arange(0, 1 << 17, 2).astype(np.float32) / np.float32(65535)
    return np.searchsorted(midpoints(), value, side="left").astype(np.uint8)


def encode(x: Float32[Array, "*shape"], block_size: int, rule: str) -> dict[str, Array]:
    count = math.prod(x.shape)
    blocks = in_blocks(x, block_size)
    if rule == "default":
        codes, absmax = _to_nearest(blocks, is_short=count % block_size != 0)
    else:
        codes, absmax = _by_cells(blocks) if rule == "cpu" else _by_search(blocks)
    return {"codes": codes.reshape(-1)[:count].reshape(x.shape), "absmax": absmax}


def _by_cells(blocks: Float32[Array, "n size"]) -> tuple[UInt8[Array, "n size"], Float32[Array, "n"]]:
    lib = exact.library(blocks)
    # SCALES: NaN is never larger
    absmax = lib.where(blocks == blocks, lib.abs(blocks), np.float32(0)).max(axis=1)
    y = exact.mul(blocks, exact.div(np.float32(1), absmax)[:, None])
    # CODES: a conversion of NaN gives the first cell
    y = lib.where(y == y, lib.clip(y, -1, 1), np.float32(-1))
    halved = (y + np.float32(1)) * np.float32(0.5)
    cell = exact.truncate(exact.madd(halved, np.float32(65535), np.float32(0.5)))
    return lib.where(absmax[:, None] == 0, np.uint8(0), take(_cells(), cell)), absmax


def _to_nearest(blocks: Float32[Array, "n size"], is_short: bool) -> tuple[UInt8[Array, "n size"], Float32[Array, "n"]]:
    absmax, y = scaled(blocks, is_short)
    return _below(y, midpoints()), absmax


def scaled(blocks: Float32[Array, "n size"], is_short: bool) -> tuple[Float32[Array, "n"], Float32[Array, "n size"]]:
    """absmax, and the blocks times its reciprocal within -1 .. 1; a short last block is divided, its absmax raised."""
    lib = exact.library(blocks)
    absmax = lib.abs(blocks).max(axis=1)
    inverse = lib.where(absmax <= LEAST, np.float32(1) / LEAST, exact.div(np.float32(1), absmax))
    y = lib.clip(exact.mul(blocks, inverse[:, None]), -1, 1)
    if not is_short:
        return absmax, y
    # Not maximum, which may flush what it returns; and zeros over any divisor are zeros
    raised = lib.where(absmax[-1:] <= LEAST, LEAST, absmax[-1:])
    divisor = lib.where(absmax[-1:] == 0, np.float32(1), raised)
    last = lib.clip(exact.div(blocks[-1:], lib.broadcast_to(divisor[:, None], blocks[-1:].shape)), -1, 1)
    return lib.concatenate([absmax[:-1], raised]), lib.concatenate([y[:-1], last])


def _below(y: Float32[Array, "n size"], bounds: Float32[np.ndarray, "255"]) -> UInt8[Array, "n size"]:
    """The number of bounds below y; all are below NaN."""
    lib = exact.library(y)
    found = lib.searchsorted(lib.asarray(bounds), y.reshape(-1), side="left").reshape(y.shape)
    return lib.where(y == y, found, len(bounds)).astype(np.uint8)


def scaled_cuda(blocks: Float32[Array, "n size"]) -> tuple[Float32[Array, "n"], Float32[Array, "n size"]]:
    """absmax, and the blocks times its reciprocal, as CUDA's kernels have them. NaN is never larger."""
    lib = exact.library(blocks)
    absmax = lib.where(blocks == blocks, lib.abs(blocks), -np.finfo(np.float32).max).max(axis=1)
    return absmax, exact.mul(blocks, exact.div(np.float32(1), absmax)[:, None])


def _by_search(blocks: Float32[Array, "n size"]) -> tuple[UInt8[Array, "n size"], Float32[Array, "n"]]:
    """CUDA's: seven halvings from the middle, then the nearer of where they led to and the last pivot on the way."""
    lib = exact.library(blocks)
    absmax, y = scaled_cuda(blocks)
    pivot = lib.full(y.shape, 127, np.int32)
    lower, upper = lib.zeros(y.shape, np.int32), lib.full(y.shape, 255, np.int32)
    step = 64
    while step:
        above = y > take(dynamic_map(), pivot)
        lower, upper = lib.where(above, pivot, lower), lib.where(above, upper, pivot)
        pivot = pivot + lib.where(above, step, -step).astype(np.int32)
        step //= 2
    value = take(dynamic_map(), pivot)
    # The ends count as -1 and 1 until a pivot has come there
    up, down = (
        (take(dynamic_map(), upper) + value) * np.float32(0.5),
        (take(dynamic_map(), lower) + value) * np.float32(0.5),
    )
    code = lib.where(y > value, lib.where(y > up, upper, pivot), lib.where(y < down, lower, pivot))
    return code.astype(np.uint8), absmax


def decode(stored: Stored, shape: Shape, block_size: int, rule: str) -> Float32[Array, "*shape"]:
    values = in_blocks(take(dynamic_map(), stored["codes"]), block_size)
    return exact.mul(stored["absmax"][:, None], values).reshape(-1)[: math.prod(shape)].reshape(shape)


def _shapes(shape: Shape, block_size: int, **_: object) -> dict[str, Shape]:
    return {"codes": shape, "absmax": (blocks_of(math.prod(shape), block_size),)}


SCHEMES = (
    Scheme(
        name="bitsandbytes.int8",
        stored={
            "codes": StoredArray("uint8", "one code a weight, in the shape of the weights"),
            "absmax": StoredArray("float32", "the largest magnitude of each block over the flat array"),
        },
        parameters={
            "block_size": Parameter(4096, "weights a block"),
            "rule": Parameter("cpu", "whose encoder", ("cpu", "default", "cuda")),
        },
        source="bitsandbytes: csrc/cpu_ops.cpp, csrc/kernels.cu, bitsandbytes/backends/default/ops.py",
        version="0.50.2",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=lambda block_size, **_: 8 + 32 / block_size,
        rows_apart=lambda length, block_size, **_: length % block_size == 0,
    ),
)
