"""bitsandbytes' 4-bit types: 64 weights in 36 bytes, 4.5 bits per weight; nested about 4.127.

    array           dtype     holds
    codes           u8        two codes a byte, the even weight in the high nibble, over the flat array
    absmax          f32       the largest magnitude of each block; blocks run over the flat array, the last may be short

    w[j] = LEVELS[q[j]] * absmax

nested=True stores in place of absmax, which is then quantized itself (bitsandbytes_8bit.py) in blocks of 256:

    absmax_codes    u8        codes of absmax - offset
    absmax2         f32       the largest magnitude of each block of 256 of these differences
    offset          f32       the mean of absmax

NF4's levels are quantiles of the normal distribution. FP4's are those of a float with a sign, two bits of exponent and
one of mantissa, over 12: 0 and 1/192, then 1/6, 1/4, 1/3, 1/2, 2/3, 1, in an order of codes of their own.

The encoder multiplies by the reciprocal of absmax, two roundings, clamps to -1 .. 1 and counts the midpoints of
neighbouring levels that lie below: a tie goes to the level of less value. A short last block is divided by absmax
instead, one rounding. Blocks of zeros get NF4's code 7, FP4's code 0; a NaN in a block makes all of it code 15 (NF4).

What the original does otherwise than it means to:

* FP4 knows two zeros, and its encoder takes code 8 for positive values up to 0.0026 absmax, code 0 for negative ones.
* The decoder for AVX-512 takes the scale by row, row * (columns // block) + column // block: rows that are no multiple
  of the block decode with scales of others (rule="cpu-avx512" gives these bits).
* CUDA (rule="cuda", read and not run) compares with rounded literals, and gives NF4's code 0 to a block of zeros.

Reference: bitsandbytes/backends/default/ops.py, bitsandbytes/functional.py, csrc/kernels.cu (bitsandbytes 0.50.2).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.codebooks import take
from hifi_ref.neighbours import bitsandbytes_8bit as eight_bit
from hifi_ref.neighbours.packing import blocks_of, in_blocks, join_pairs, values_of_pairs
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

# fmt: off
NF4 = np.array([
    0xBF800000, 0xBF3239B1, 0xBF066B30, 0xBECA32A0, 0xBE91A24D, 0xBE3D353F, 0xBDBA7871, 0x00000000,
    0x3DA2FAFF, 0x3E24CAE3, 0x3E7C04DD, 0x3EAD033A, 0x3EE1A4B8, 0x3F1007AB, 0x3F3913B3, 0x3F800000,
], np.uint32).view(np.float32)
FP4 = np.array([
    0x00000000, 0x3BAAAAAB, 0x3F2AAAAB, 0x3F800000, 0x3EAAAAAB, 0x3F000000, 0x3E2AAAAB, 0x3E800000,
    0x00000000, 0xBBAAAAAB, 0xBF2AAAAB, 0xBF800000, 0xBEAAAAAB, 0xBF000000, 0xBE2AAAAB, 0xBE800000,
], np.uint32).view(np.float32)
# The code of each level, from the least on.
NF4_ORDER = np.arange(16, dtype=np.uint8)
FP4_ORDER = np.array([11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3], np.uint8)
# CUDA's literals; those of FP4 are for magnitudes.
NF4_CUDA_BOUNDS = np.array([
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
    -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
    0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
], np.float32)
FP4_CUDA_BOUNDS = np.array(
    [0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333], np.float32
)
FP4_CUDA_ORDER = np.array([0, 1, 6, 7, 4, 5, 2, 3], np.uint8)
# fmt: on


def _midpoints(levels: Float32[np.ndarray, "16"]) -> Float32[np.ndarray, "15"]:
    return (levels[1:] + levels[:-1]) / np.float32(2)


BOUNDS = {"nf4": _midpoints(NF4), "fp4": _midpoints(FP4[FP4_ORDER])}
LEVELS = {"nf4": NF4, "fp4": FP4}
ORDERS = {"nf4": NF4_ORDER, "fp4": FP4_ORDER}


def encode(x: Float32[Array, "*shape"], kind: str, block_size: int, rule: str, **nesting: Any) -> dict[str, Array]:
    count = math.prod(x.shape)
    blocks = in_blocks(x, block_size)
    # SCALES
    if rule == "cuda":
        absmax, y = eight_bit.scaled_cuda(blocks)
    else:
        absmax, y = eight_bit.scaled(blocks, is_short=count % block_size != 0)
    # CODES: an odd last one stands beside that of 0
    flat = y.reshape(-1)[:count]
    if count % 2:
        flat = exact.library(x).concatenate([flat, exact.library(x).zeros(1, np.float32)])
    codes = _codes_cuda(flat, kind) if rule == "cuda" else _codes(flat, kind)
    return {"codes": join_pairs(codes, even_is_high=True)[:, None]} | _absmax(absmax, **nesting)


def _codes(y: Float32[Array, "n"], kind: str) -> UInt8[Array, "n"]:
    """The number of midpoints below y, all of them for NaN, as a code."""
    below = _count(y, BOUNDS[kind])
    return take(ORDERS[kind], exact.library(y).where(y == y, below, np.uint8(15)))


def _codes_cuda(y: Float32[Array, "n"], kind: str) -> UInt8[Array, "n"]:
    """By literals, none of which is below NaN; FP4 by magnitude and sign."""
    if kind == "nf4":
        return _count(y, NF4_CUDA_BOUNDS)
    lib = exact.library(y)
    return take(FP4_CUDA_ORDER, _count(lib.abs(y), FP4_CUDA_BOUNDS)) | lib.where(y < 0, np.uint8(8), np.uint8(0))


def _count(y: Float32[Array, "n"], bounds: Float32[np.ndarray, "k"]) -> UInt8[Array, "n"]:
    below = exact.library(y).zeros(y.shape, np.uint8)
    for bound in bounds:
        below = below + (y > bound)
    return below


def _absmax(absmax: Float32[Array, "n"], nested: bool, nested_block_size: int, offset: float | None
            ) -> dict[str, Array]:  # fmt: skip
    if not nested:
        return {"absmax": absmax}
    lib = exact.library(absmax)
    if offset is None:
        total = exact.float_dot(absmax[None], lib.ones(absmax.shape, np.float32))
        mean = exact.div(total, np.float32(absmax.shape[0]))
    else:
        mean = lib.full(1, offset, np.float32)
    inner = eight_bit.encode(absmax - mean, nested_block_size, rule="cpu")
    return {"absmax_codes": inner["codes"], "absmax2": inner["absmax"], "offset": mean}


def decode(stored: Stored, shape: Shape, kind: str, block_size: int, rule: str, nested: bool, nested_block_size: int,
           **_: Any) -> Float32[Array, "*shape"]:  # fmt: skip
    count = math.prod(shape)
    # SCALES
    if not nested:
        absmax = stored["absmax"]
    else:
        codes = stored["absmax_codes"]
        inner = {"codes": codes, "absmax": stored["absmax2"]}
        absmax = eight_bit.decode(inner, codes.shape, nested_block_size, rule="cpu") + stored["offset"]
    # VALUES
    values = values_of_pairs(LEVELS[kind], stored["codes"].reshape(-1), count, even_is_high=True)
    if rule == "cpu-avx512" and shape[-1] % 16 == 0 and block_size >= 16:
        of_weight = _scale_by_row(shape, block_size)
        absmax = exact.library(absmax).take(absmax, of_weight, axis=0)
        return exact.mul(absmax, values.reshape(shape))
    return exact.mul(absmax[:, None], in_blocks(values, block_size)).reshape(-1)[:count].reshape(shape)


def _scale_by_row(shape: Shape, block_size: int) -> np.ndarray:
    """Which absmax the decoder for AVX-512 takes for each weight, in runs of 16."""
    columns = shape[-1]
    row = np.arange(math.prod(shape[:-1])) * (columns // block_size)
    of_column = np.arange(columns) // 16 * 16 // block_size
    return (row[:, None] + of_column).reshape(shape)


def _shapes(shape: Shape, block_size: int, nested: bool, nested_block_size: int, **_: Any) -> dict[str, Shape]:
    count = math.prod(shape)
    blocks = blocks_of(count, block_size)
    codes: dict[str, Shape] = {"codes": (blocks_of(count, 2), 1)}
    if not nested:
        return codes | {"absmax": (blocks,)}
    return codes | {"absmax_codes": (blocks,), "absmax2": (blocks_of(blocks, nested_block_size),), "offset": (1,)}


def _rows_apart(length: int, block_size: int, nested: bool, rule: str, **_: Any) -> bool:
    return not nested and length % block_size == 0 and length % 2 == 0 and rule != "cpu-avx512"


def _bits(block_size: int, nested: bool, nested_block_size: int, **_: Any) -> float:
    return 4 + (8 + 32 / nested_block_size if nested else 32) / block_size


def _scheme(kind: str) -> Scheme:
    return Scheme(
        name=f"bitsandbytes.{kind}",
        stored={
            "codes": StoredArray("uint8", "[n / 2, 1]: two codes a byte, the even weight in the high nibble"),
            "absmax": StoredArray("float32", "[blocks]: the largest magnitude; not if nested"),
            "absmax_codes": StoredArray("uint8", "[blocks]: codes of absmax - offset; if nested"),
            "absmax2": StoredArray("float32", "[blocks / 256]: largest magnitudes of absmax - offset; if nested"),
            "offset": StoredArray("float32", "[1]: the mean of absmax; if nested"),
        },
        parameters={
            "block_size": Parameter(64, "weights a block"),
            "nested": Parameter(False, "whether absmax is quantized too", (False, True)),
            "nested_block_size": Parameter(256, "values of absmax a block"),
            "offset": Parameter(None, "the mean of absmax to take; None: of a sum in binary64, unlike torch's"),
            "rule": Parameter("cpu", "whose encoder and decoder", ("cpu", "cpu-avx512", "cuda")),
        },
        source="bitsandbytes: bitsandbytes/backends/default/ops.py, bitsandbytes/functional.py, csrc/kernels.cu",
        version="0.50.2",
        shapes=_shapes,
        encode=functools.partial(encode, kind=kind),
        decode=functools.partial(decode, kind=kind),
        bits=_bits,
        rows_apart=_rows_apart,
    )


SCHEMES = (_scheme("nf4"), _scheme("fp4"))
