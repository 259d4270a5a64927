"""FP8 checkpoints: E4M3 codes, a scale for each tile of 128 x 128 weights (DeepSeek, transformers), or for the tensor.

    array       dtype   holds
    codes       u8      [rows, columns]: E4M3 (small_floats.py)
    scale_inv   f32     fp8.block: [rows / 128, columns / 128]; fp8.tensor: [1]. scale_type="ue8m0": u8, 2^(byte - 127)

    w[i, j] = E4M3(codes[i, j]) * scale_inv

The scale of a tile is 448 / max|w|, as the reciprocal times 448, two roundings; what is stored is 1 / scale. "ue8m0"
rounds that up to a power of two, by ceil(log2) in float32; codes follow from its inverse. A tile of zeros has scale 1.

fp8.tensor is the same rule with the tensor as its one tile: written down by analogy, not run.

What the original does wrong: log2 in float32 rounds 2^k (1 + 2^-23) to k once |k| >= 4, so that "ue8m0" then takes a
scale that is too small by that much, and the largest weights saturate.

Reference: transformers 5.23.0, Fp8Quantize; torch 2.13.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.codebooks import take
from hifi_ref.neighbours import small_floats
from hifi_ref.neighbours.groups import matrix
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray
from hifi_ref.neighbours.small_floats import E4M3

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Num, UInt8

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored


def encode_blocks(x: Float32[Array, "rows columns"], *, block_size: int, scale_type: str) -> dict[str, Array]:
    rows, columns = x.shape
    tiles = _tiles(x, block_size)
    codes, inverse = _quantized(tiles, scale_type)
    whole = codes.swapaxes(1, 2).reshape(tiles.shape[0] * block_size, -1)
    return {"scale_inv": inverse, "codes": whole[:rows, :columns]}


def decode_blocks(stored: Stored, shape: Shape, *, block_size: int, scale_type: str) -> Float32[Array, "rows columns"]:
    inverse = _widened(stored["scale_inv"])
    row, column = (np.arange(n) // block_size for n in shape)
    return exact.mul(small_floats.widen(E4M3, stored["codes"]), inverse[row][:, column])


def encode_tensor(x: Float32[Array, "*shape"], *, scale_type: str) -> dict[str, Array]:
    codes, inverse = _quantized(x.reshape(1, 1, 1, -1), scale_type)
    return {"scale_inv": inverse.reshape(1), "codes": codes.reshape(x.shape)}


def decode_tensor(stored: Stored, shape: Shape, *, scale_type: str) -> Float32[Array, "*shape"]:
    return exact.mul(small_floats.widen(E4M3, stored["codes"]), _widened(stored["scale_inv"])).reshape(shape)


def _tiles(x: Float32[Array, "rows columns"], size: int) -> Float32[Array, "down across size size"]:
    """Tiles at the edges are filled up with zeros."""
    missing = [(0, -n % size) for n in x.shape]
    if missing != [(0, 0), (0, 0)]:
        x = exact.library(x).pad(x, missing)
    return x.reshape(x.shape[0] // size, size, -1, size).swapaxes(1, 2)


def _quantized(
    tiles: Float32[Array, "down across n m"], scale_type: str
) -> tuple[UInt8[Array, "down across n m"], Num[Array, "down across"]]:
    """The codes, and the inverse of the scale as it is stored."""
    lib = exact.library(tiles)
    most = lib.abs(tiles).max(axis=(2, 3))
    empty = most == 0
    scale = exact.mul(exact.div(np.float32(1), lib.where(empty, np.float32(1), most)), np.float32(448))
    scale = lib.where(empty, np.float32(1), scale)
    inverse: Any = exact.div(np.float32(1), scale)
    if scale_type == "ue8m0":
        inverse = (ceil_log2(inverse) + np.int32(127)).astype(np.uint8)
        # 254 - byte stands for the inverse
        scale = small_floats.widen_e8m0(np.uint8(254) - inverse)
    scaled = exact.mul(tiles, scale[:, :, None, None])
    # 0 times an infinite scale, which a tile of subnormal weights has
    return small_floats.narrow(E4M3, lib.where(scaled == scaled, scaled, np.float32(np.nan))), inverse


def ceil_log2(x: Float32[Array, "*n"]) -> Int32[Array, "*n"]:
    """ceil(log2(x)) of normal x > 0 where log2 is rounded to float32: down to k, if x is little more than 2^k."""
    exponent = exact.exponent(x)
    beyond = exact.i32(exact.bits(x) & np.uint32(0x007FFFFF))
    return exponent + (beyond > take(_LOST, exponent + np.int32(127))).astype(np.int32)


def _lost_units() -> Int32[np.ndarray, "255"]:
    """Of each power k of two from -127 on: for how many units of the last place above it log2 still rounds to k."""
    powers = np.arange(-127, 128)[:, None]
    logarithm = powers + np.log1p(np.arange(1, 64) * 2.0**-23) / np.log(2)
    return (logarithm.astype(np.float32) == powers).sum(axis=1).astype(np.int32)


_LOST = _lost_units()


def _widened(scale_inv: Num[Array, "*n"]) -> Float32[Array, "*n"]:
    if str(scale_inv.dtype) == "float32":
        return scale_inv
    # Of byte 0 a subnormal number
    return exact.watched_input(small_floats.widen_e8m0(scale_inv), exact.FAINT)


def _of_blocks(shape: Shape, block_size: int, **_: Any) -> dict[str, Shape]:
    rows, columns = matrix(shape, "fp8.block")
    if block_size < 1:
        raise ValueError(f"fp8.block: block_size is {block_size}, not 1 or more")
    return {"scale_inv": (-(-rows // block_size), -(-columns // block_size)), "codes": (rows, columns)}


def _of_tensor(shape: Shape, **_: Any) -> dict[str, Shape]:
    return {"scale_inv": (1,), "codes": shape}


SCALE_TYPE = Parameter("f32", "how the inverse of the scale is stored", ("f32", "ue8m0"))
SOURCE = "transformers: src/transformers/integrations/finegrained_fp8.py, Fp8Quantize"
SCHEMES = (
    Scheme(
        name="fp8.block",
        stored={
            "scale_inv": StoredArray(
                "float32 or uint8", "[rows / block_size, columns / block_size]; ue8m0: 2^(byte - 127)"
            ),
            "codes": StoredArray("uint8", "[rows, columns]: E4M3"),
        },
        parameters={
            "block_size": Parameter(128, "rows, and columns, a tile; those at the edges may have fewer"),
            "scale_type": SCALE_TYPE,
        },
        source=SOURCE,
        version="5.23.0",
        shapes=_of_blocks,
        encode=encode_blocks,
        decode=decode_blocks,
        bits=lambda block_size, scale_type: 8 + (32 if scale_type == "f32" else 8) / block_size**2,
        aliases={"scale_fmt": "scale_type"},
        finite=True,
    ),
    Scheme(
        name="fp8.tensor",
        stored={
            "scale_inv": StoredArray("float32 or uint8", "[1]; ue8m0: 2^(byte - 127)"),
            "codes": StoredArray("uint8", "E4M3, in the shape of the weights"),
        },
        parameters={"scale_type": SCALE_TYPE},
        source=SOURCE,
        version="5.23.0, by analogy",
        shapes=_of_tensor,
        encode=encode_tensor,
        decode=decode_tensor,
        bits=lambda scale_type: 8,
        aliases={"scale_fmt": "scale_type"},
        finite=True,
    ),
)
