"""compressed-tensors' pack-quantized: groups of integer codes, a scale, and for asymmetric groups a zero point.

    array         dtype   holds
    packed        i32     [rows, n * bits / 32]: q + 2^(bits-1), of each row one stream of bits, low bits first
    scale         f32     [rows, groups]
    zero          i8      [rows, groups], zeros for symmetric groups
    zero_packed   i32     [rows * bits / 32, groups]: zero + 2^(bits-1), a stream down the rows; asymmetric groups only
    q             i8      [rows, n]: the codes before they are packed

    w[j] = (q[j] - zero) * scale        q in -2^(bits-1)..2^(bits-1)-1

In a checkpoint these are weight_packed, weight_scale and weight_zero_point (zero_packed); zero and q are what the
library has in between. The range of a group is widened to hold 0. Symmetric: scale = max|w| / ((2^bits - 1) / 2), so
that the end of the range falls between two codes. Asymmetric: scale = (high - low) / (2^bits - 1), and
zero = rint(qmin - low / scale) within the codes. A scale of 0 becomes 2^-23, its zero point 0. The code is
rint(w / scale + zero), halves to even.

What the original does wrong: a symmetric group never uses its range evenly: the largest positive weight is half a step
beyond the last code.

Reference: compressed-tensors 0.20.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours import bit_stream
from hifi_ref.neighbours.groups import extremes, group_of, matrix
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Integer

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored


def encode(x: Float32[Array, "rows n"], *, bits: int, group_size: int, symmetric: bool) -> dict[str, Array]:
    lib = exact.library(x)
    least, most = np.float32(-(2 ** (bits - 1))), np.float32(2 ** (bits - 1) - 1)
    rows, n = x.shape
    w = x.reshape(rows, -1, group_of(n, group_size, "compressed-tensors"))
    # SCALE AND ZERO
    low, high = extremes(w, axis=-1)
    low, high = lib.minimum(low, np.float32(0)), lib.maximum(high, np.float32(0))
    if symmetric:
        scale = exact.div(lib.maximum(-low, high), np.float32((2**bits - 1) / 2))
        zero = lib.zeros(scale.shape, np.float32)
    else:
        scale = exact.div(high - low, np.float32(2**bits - 1))
        steps = exact.div(low, lib.where(scale == 0, np.float32(1), scale))
        zero = lib.clip(lib.round(least - steps), least, most)
        zero = lib.where(scale == 0, np.float32(0), zero)
    scale = lib.where(scale == 0, np.float32(2.0**-23), scale)
    # CODES
    q = lib.clip(lib.round(exact.div(w, scale[..., None]) + zero[..., None]), least, most)
    q = q.reshape(x.shape).astype(np.int8)
    stored = {"packed": _packed(q, bits), "scale": scale, "zero": zero.astype(np.int8), "q": q}
    return stored if symmetric else stored | {"zero_packed": _packed(stored["zero"].T, bits).T}


def decode(stored: Stored, shape: Shape, *, bits: int, group_size: int, symmetric: bool) -> Float32[Array, "rows n"]:
    rows, n = shape
    q = _unpacked(stored["packed"], bits, n).reshape(rows, -1, group_of(n, group_size, "compressed-tensors"))
    if not symmetric:
        if "zero_packed" not in stored and "zero" not in stored:
            raise ValueError("compressed-tensors: asymmetric groups need the array zero_packed, or zero")
        packed = "zero_packed" in stored
        zero = _unpacked(stored["zero_packed"].T, bits, rows).T if packed else exact.i32(stored["zero"])
        q = q - zero[..., None]
    return exact.mul(stored["scale"][..., None], exact.f32(q)).reshape(shape)


def _packed(q: Integer[Array, "rows n"], bits: int) -> Int32[Array, "rows words"]:
    return bit_stream.pack(exact.i32(q) + np.int32(2 ** (bits - 1)), bits).astype(np.int32)


def _unpacked(words: Int32[Array, "rows words"], bits: int, n: int) -> Int32[Array, "rows n"]:
    return exact.i32(bit_stream.unpack(words, bits, n)) - np.int32(2 ** (bits - 1))


def _shapes(shape: Shape, bits: int, group_size: int, symmetric: bool) -> dict[str, Shape]:
    rows, n = matrix(shape, "compressed-tensors")
    groups = n // group_of(n, group_size, "compressed-tensors")
    return {
        "packed": (rows, bit_stream.words(n, bits)), "scale": (rows, groups), "zero": (rows, groups), "q": (rows, n),
        "zero_packed": (bit_stream.words(rows, bits), groups),
    }  # fmt: skip


def _bits(bits: int, group_size: int, symmetric: bool) -> float:
    return bits + (32 if symmetric else 32 + bits) / group_size


SCHEMES = (
    Scheme(
        name="compressed-tensors",
        stored={
            "packed": StoredArray("int32", "[rows, n * bits / 32]: a stream of bits a row"),
            "scale": StoredArray("float32", "[rows, groups]"),
            "zero": StoredArray("int8", "[rows, groups]", optional=True),
            "q": StoredArray("int8", "[rows, n]: the codes before packing", optional=True),
            "zero_packed": StoredArray("int32", "[rows * bits / 32, groups]; asymmetric groups only", optional=True),
        },
        parameters={
            "bits": Parameter(4, "bits a code", tuple(range(2, 9))),
            "group_size": Parameter(128, "weights a group; -1: the row"),
            "symmetric": Parameter(True, "whether zero points are 0", (True, False)),
        },
        source="compressed-tensors: src/compressed_tensors/quantization/utils/helpers.py, compressors/pack_quantized",
        version="0.20.0",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=_bits,
        rows_apart=lambda _, symmetric, **__: symmetric,
        takes=("float32",),
        aliases={"num_bits": "bits", "block_size": "group_size"},
        finite=True,
    ),
)
