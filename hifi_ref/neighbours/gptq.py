"""GPTQ's storage: codes along the inputs, a scale and a whole zero point for each group of inputs of each output.

    array       dtype   holds
    qweight     i32     [in * bits / 32, out]: of each output a stream of bits down the inputs, low bits first
    qzeros_v1   i32     [groups, out * bits / 32]: of each group a stream of zero points, words less 1 in each field
    qzeros_v2   i32     the same words as they are
    scales      f16     [groups, out]
    g_idx       i32     [in]: the group of each input; only where activation order was taken

    w[o, i] = scales[g, o] * (q[o, i] - zero[g, o])        g = i // group_size, or g_idx[i]

What GPTQ itself computes, codes that make up for each other's errors, is its search; this is what it stores. ``encode``
takes the scales and zero points found (``scale`` and ``zero``, float32[out, groups]) and weights on that grid:
q = rint((w + scale * zero) / scale), within 0 .. 2^bits - 1. Without them it takes those of the range of each group,
widened to hold 0, as GPTQ's quantizer does before its search (read, not run).

A checkpoint has one array ``qzeros``: version=1 (checkpoint_format "gptq") or 2 ("gptq_v2"). With version=None encode
gives both, under the names above, as decode takes them.

What the original does wrong: version 1 subtracts from the whole word, so that a zero point of 0 borrows from the next
field; kernels that add 1 to each field alone read both wrong. Here it is undone on the whole word, which is right.
Version 1 of 3 bits is refused: its fields lie across words, and no writer of it was measured.

Reference: gptqmodel 7.7.0, pack_original.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours import bit_stream
from hifi_ref.neighbours.groups import extremes, group_of, matrix
from hifi_ref.neighbours.half import narrow, widen
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float32, Int32

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

# 1 in each field of a word
ONES = {2: np.uint32(0x55555555), 4: np.uint32(0x11111111), 8: np.uint32(0x01010101)}
VERSIONS = (None, 1, 2, "v1", "v2")


def encode(
    x: Float32[Array, "out in"], arrays: Mapping[str, Array], *, bits: int, group_size: int, version: Any
) -> dict[str, Array]:
    lib, most = exact.library(x), np.float32(2**bits - 1)
    outputs, inputs = x.shape
    w = x.reshape(outputs, -1, group_of(inputs, group_size, "gptq"))
    scale, zero = _grid(w, most, arrays)
    shift = exact.mul(scale, zero)[..., None]
    q = lib.clip(lib.round(exact.div(w + shift, scale[..., None])), np.float32(0), most)
    # NaN where a range is larger than the largest number
    q = lib.where(q == q, q, np.float32(0)).reshape(x.shape).astype(np.uint32)
    stored = {"qweight": bit_stream.pack(q, bits).astype(np.int32).T, "scales": narrow(scale, "float16").T}
    zeros = bit_stream.pack(zero.T.astype(np.uint32), bits)
    of_version = {2: zeros.astype(np.int32)}
    if bits in ONES:
        of_version[1] = (zeros - ONES[bits]).astype(np.int32)
    if version is not None:
        return stored | {"qzeros": of_version[_number(version)]}
    return stored | {f"qzeros_v{number}": words for number, words in of_version.items()}


def decode(stored: Stored, shape: Shape, *, bits: int, group_size: int, version: Any) -> Float32[Array, "out in"]:
    outputs, inputs = shape
    q = bit_stream.unpack(stored["qweight"].T, bits, inputs)
    zero = bit_stream.unpack(_zeros(stored, bits, version), bits, outputs).T
    scale = widen(stored["scales"]).T
    group = stored.get("g_idx", np.arange(inputs) // group_of(inputs, group_size, "gptq"))
    difference = exact.i32(q) - exact.i32(zero)[:, group]
    return exact.mul(scale[:, group], exact.f32(difference))


def _grid(w: Float32[Array, "out groups g"], most: np.float32, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """The scales and whole zero points, [out, groups]."""
    lib = exact.library(w)
    if arrays:
        return _given(arrays, "scale", w.shape[:2]), _given(arrays, "zero", w.shape[:2])
    low, high = extremes(w, axis=-1)
    low, high = lib.minimum(low, np.float32(0)), lib.maximum(high, np.float32(0))
    empty = (low == 0) & (high == 0)
    low, high = lib.where(empty, np.float32(-1), low), lib.where(empty, np.float32(1), high)
    scale = exact.div(high - low, most)
    return scale, lib.round(exact.div(-low, scale))


def _given(arrays: Mapping[str, Array], name: str, shape: Shape) -> Float32[Array, "out groups"]:
    if name not in arrays:
        raise ValueError(f"gptq: scale and zero are given together, and there is no {name}")
    if arrays[name].size != math.prod(shape):
        raise ValueError(f"gptq: {name} must hold {math.prod(shape)} values, [out, groups], not {arrays[name].size}")
    return arrays[name].astype(np.float32).reshape(shape)


def _zeros(stored: Stored, bits: int, version: Any) -> Int32[Array, "groups words"]:
    """The words of qzeros as version 2 has them."""
    if "qzeros" in stored and version is None:
        raise ValueError("gptq: version must say whether qzeros are those of version 1 or 2")
    number = 2 if "qzeros_v2" in stored else 1 if "qzeros_v1" in stored else _number(version)
    words = stored["qzeros" if "qzeros" in stored else f"qzeros_v{number}"]
    if number == 2:
        return words
    _refuse_three_bits(bits)
    return words.astype(np.uint32) + ONES[bits]


def _number(version: Any) -> int:
    return int(str(version).removeprefix("v"))


def _refuse_three_bits(bits: int) -> None:
    if bits not in ONES:
        raise ValueError(f"gptq: version 1 of {bits} bits has no measured definition; version 2 has")


def _shapes(shape: Shape, bits: int, group_size: int, version: Any, **_: Any) -> dict[str, Shape]:
    outputs, inputs = matrix(shape, "gptq")
    groups = inputs // group_of(inputs, group_size, "gptq")
    if inputs * bits % 32 or outputs * bits % 32:
        raise ValueError(f"gptq: {outputs} x {inputs} codes of {bits} bits fill no whole number of 32-bit words")
    if version is not None and _number(version) == 1:
        _refuse_three_bits(bits)
    zeros = (groups, outputs * bits // 32)
    return {
        "qweight": (inputs * bits // 32, outputs), "qzeros": zeros, "qzeros_v1": zeros, "qzeros_v2": zeros,
        "scales": (groups, outputs), "g_idx": (inputs,),
    }  # fmt: skip


def _bits(bits: int, group_size: int, **_: Any) -> float:
    return bits + (16 + bits) / group_size


SCHEMES = (
    Scheme(
        name="gptq",
        stored={
            "qweight": StoredArray("int32", "[in * bits / 32, out]: a stream of bits down the inputs"),
            "qzeros": StoredArray("int32", "[groups, out * bits / 32], of the version asked for", optional=True),
            "qzeros_v1": StoredArray("int32", "the same in version 1; where no version is asked for", optional=True),
            "qzeros_v2": StoredArray("int32", "the same in version 2; where no version is asked for", optional=True),
            "scales": StoredArray("float16", "[groups, out]"),
            "g_idx": StoredArray("int32", "[in]: the group of each input; decode takes it", optional=True),
        },
        parameters={
            "bits": Parameter(4, "bits a code", (2, 3, 4, 8)),
            "group_size": Parameter(128, "inputs a group; -1: all"),
            "version": Parameter(None, "1 or 2, the version of qzeros; None: both are given or taken", VERSIONS),
            "scale": Parameter(None, "encode only, with zero: float32[out, groups]; None: from the range", array=True),
            "zero": Parameter(None, "encode only: whole numbers, float32[out, groups]", array=True),
        },
        source="gptqmodel: gptqmodel/nn_modules/qlinear/__init__.py, pack_original",
        version="7.7.0",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=_bits,
        takes=("float32",),
        aliases={"block_size": "group_size"},
        finite=True,
    ),
)
