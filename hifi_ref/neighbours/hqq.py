"""HQQ (half-quadratic quantization), without its search: groups of codes, a scale and a zero point that is no integer.

    array   dtype        holds
    codes   u8           the groups as a matrix, [group_size, groups] for axis 0, [groups, group_size] for axis 1; row i
                         and row i + rows/2 share a byte, the first in the high nibble; likewise four rows of 2 bits,
                         eight of 1. 3 bits: i32, ten rows i + k * words in a word, from bit 27 down
    scale   f32          [1, groups] or [groups, 1]: the inverse of the factor that encoding multiplies by
    zero    f32          likewise

    w[j] = (q[j] - zero) * scale

Encoding multiplies by min(1 / (high - low) * (2^bits - 1), 20000), or by 1 where the range is at most 1e-4; the zero
point is -low times that. 1/range and its product round apart, and so do product and sum.

What the original does wrong: a group of a range up to 1e-4, such as those of small weights, keeps one code only. The
search (optimize=True) is not here; what it stores decodes here.

Reference: hqq 0.2.8.post1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours.groups import extremes
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float32, Shaped

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored


def encode(x: Float32[Array, "*shape"], *, bits: int, group_size: int, axis: int, optimize: bool) -> dict[str, Array]:
    if optimize:
        raise ValueError("hqq: optimize=True is HQQ's search, which is not defined here; what it stores decodes here")
    lib, most = exact.library(x), np.float32(2**bits - 1)
    w = x.reshape((-1, group_size) if axis == 1 else (group_size, -1))
    # SCALE AND ZERO
    low, high = extremes(w, axis=axis, keepdims=True)
    narrow = high - low <= np.float32(1e-4)
    spread = lib.where(narrow, np.float32(1), high - low)
    factor = lib.minimum(exact.mul(exact.div(np.float32(1), spread), most), np.float32(2e4))
    factor = lib.where(narrow, np.float32(1), factor)
    zero = exact.mul(-low, factor)
    # CODES
    q = lib.clip(lib.round(exact.mul(w, factor) + zero), np.float32(0), most)
    return {"codes": _packed(q.astype(np.int32), bits), "scale": exact.div(np.float32(1), factor), "zero": zero}


def decode(
    stored: Stored, shape: Shape, *, bits: int, group_size: int, axis: int, optimize: bool
) -> Float32[Array, "*shape"]:
    size = math.prod(shape)
    rows = size // group_size if axis == 1 else group_size
    q = exact.f32(_unpacked(stored["codes"], bits, rows))
    return exact.mul(q - stored["zero"], stored["scale"]).reshape(shape)


def _packed(q: Shaped[Array, "rows columns"], bits: int) -> Shaped[Array, "bytes columns"]:
    count, top, dtype = _fields(bits)
    rows, columns = q.shape
    missing = -rows % count
    if missing:
        q = exact.library(q).concatenate([q, exact.library(q).zeros((missing, columns), np.int32)])
    q = q.reshape(count, -1, columns)
    packed = q[0] << np.int32(top)
    for i in range(1, count):
        packed = packed | q[i] << np.int32(top - i * bits)
    return packed.astype(dtype)


def _unpacked(packed: Shaped[Array, "bytes columns"], bits: int, rows: int) -> Shaped[Array, "rows columns"]:
    count, top, _ = _fields(bits)
    wide = packed.astype(np.int32)
    parts = [wide >> np.int32(top - i * bits) & np.int32(2**bits - 1) for i in range(count)]
    return exact.library(packed).concatenate(parts)[:rows]


def _fields(bits: int) -> tuple[int, int, Any]:
    """Codes a byte or word, the lowest bit of the first, and the dtype."""
    return (10, 27, np.int32) if bits == 3 else (8 // bits, 8 - bits, np.uint8)


def _shapes(shape: Shape, bits: int, group_size: int, axis: int, **_: Any) -> dict[str, Shape]:
    size, count = math.prod(shape), _fields(bits)[0]
    if group_size < 1 or size % group_size:
        raise ValueError(f"hqq: {size} weights of shape {tuple(shape)} hold no whole number of groups of {group_size}")
    groups = size // group_size
    rows, columns = (groups, group_size) if axis == 1 else (group_size, groups)
    if bits != 3 and rows % count:
        raise ValueError(f"hqq: {count} rows of {bits} bits share a byte, and there are {rows}")
    per_group = (groups, 1) if axis == 1 else (1, groups)
    return {"codes": (-(-rows // count), columns), "scale": per_group, "zero": per_group}


def _bits(bits: int, group_size: int, **_: Any) -> float:
    return (3.2 if bits == 3 else bits) + 64 / group_size


SCHEMES = (
    Scheme(
        name="hqq",
        stored={
            "codes": StoredArray(
                "uint8 or int32", "codes of rows that lie far apart, a byte; 3 bits: ten a word, int32"
            ),
            "scale": StoredArray("float32", "one a group, [groups, 1], or [1, groups] for axis 0"),
            "zero": StoredArray("float32", "zero points, likewise"),
        },
        parameters={
            "bits": Parameter(4, "bits a code", (8, 4, 3, 2, 1)),
            "group_size": Parameter(64, "weights a group"),
            "axis": Parameter(1, "the axis along which a group lies", (0, 1)),
            "optimize": Parameter(
                False, "whether HQQ's search chose the zero points; decode takes both", (False, True)
            ),
        },
        source="hqq: hqq/core/quantize.py, hqq/core/bitpack.py",
        version="0.2.8.post1",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=_bits,
        aliases={"nbits": "bits", "block_size": "group_size"},
        finite=True,
    ),
)
