"""AWQ's GEMM storage: codes of 4 bits, eight outputs a word in an order of their own.

    array     dtype   holds
    qweight   i32     [in, out / 8]: field i of a word, from the low bits on, is output 0 2 4 6 1 3 5 7 of eight
    qzeros    i32     [in / group_size, out / 8]: zero points, alike
    scales    f16     [in / group_size, out]

    w[o, i] = (q[o, i] - zero) * scale

The range of a group of inputs gives the scale, max(high - low, 1e-5) / 15, and the zero point, -rint(low / scale)
within 0 .. 15. Weights are rounded to that grid, in their own precision, and packing then finds their codes again, from
(w + zero * scale) / scale with the divisor in float16. AWQ's search scales the inputs before all that; it is not here.

What the original does wrong: a scale that float16 does not hold exactly is not the one that codes were chosen for; one
below 2^-25 is stored as 0.

Reference: autoawq 0.2.9, pseudo_quantize_tensor and WQLinear_GEMM.from_linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours import bit_stream
from hifi_ref.neighbours.groups import extremes, group_of, matrix
from hifi_ref.neighbours.half import narrow, rounded, widen
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int32, Integer

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

# The output that each field of a word holds
ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])


def encode(x: Float[Array, "out in"], *, bits: int, group_size: int) -> dict[str, Array]:
    lib, dtype = exact.library(x), str(x.dtype)
    outputs, inputs = x.shape

    def kept(value: Float32[Array, "..."]) -> Float32[Array, "..."]:
        return rounded(value, dtype)

    w = widen(x).reshape(outputs, -1, group_of(inputs, group_size, "awq"))
    # SCALE AND ZERO
    low, high = extremes(w, axis=-1)
    least = kept(np.full((), 1e-5, np.float32))
    scale = kept(exact.div(lib.maximum(kept(high - low), least), np.float32(15)))
    zero = lib.clip(-lib.round(kept(exact.div(low, scale))), np.float32(0), np.float32(15))
    # GRID
    scale, zero = scale[..., None], zero[..., None]
    steps = lib.clip(lib.round(kept(exact.div(w, scale))) + zero, np.float32(0), np.float32(15))
    on_grid = kept(exact.mul(steps - zero, scale))
    # CODES
    stored_scale = exact.round_f16(scale)
    shifted = kept(on_grid + kept(exact.mul(zero, scale)))
    q = lib.round(kept(exact.div(shifted, stored_scale)))
    # Where the range or the stored scale left the numbers there are
    q = lib.where(lib.abs(q) < np.float32(2.0**31), q, np.float32(0)).astype(np.int32) & np.int32(15)
    return {
        "qweight": _packed(q.reshape(x.shape).T),
        "qzeros": _packed(zero[..., 0].T.astype(np.int32)),
        "scales": narrow(scale[..., 0].T, "float16"),
    }


def decode(stored: Stored, shape: Shape, *, bits: int, group_size: int) -> Float32[Array, "out in"]:
    outputs, inputs = shape
    size = group_of(inputs, group_size, "awq")
    q = _unpacked(stored["qweight"]).T.reshape(outputs, -1, size)
    zero, scale = _unpacked(stored["qzeros"]).T, widen(stored["scales"]).T
    return exact.mul(scale[..., None], exact.f32(q - zero[..., None])).reshape(shape)


def _packed(q: Integer[Array, "rows out"]) -> Int32[Array, "rows words"]:
    rows, outputs = q.shape
    ordered = q.reshape(rows, -1, 8)[:, :, ORDER].reshape(rows, outputs)
    return bit_stream.pack(ordered, 4).astype(np.int32)


def _unpacked(words: Int32[Array, "rows words"]) -> Int32[Array, "rows out"]:
    rows, count = words.shape
    q = bit_stream.unpack(words, 4, 8 * count).reshape(rows, -1, 8)[:, :, np.argsort(ORDER)]
    return exact.i32(q.reshape(rows, -1))


def _shapes(shape: Shape, group_size: int, **_: Any) -> dict[str, Shape]:
    outputs, inputs = matrix(shape, "awq")
    groups = inputs // group_of(inputs, group_size, "awq")
    if outputs % 8:
        raise ValueError(f"awq: eight outputs share a word, and there are {outputs}")
    return {"qweight": (inputs, outputs // 8), "qzeros": (groups, outputs // 8), "scales": (groups, outputs)}


def _bits(group_size: int, **_: Any) -> float:
    return 4 + 20 / group_size


SCHEMES = (
    Scheme(
        name="awq",
        stored={
            "qweight": StoredArray("int32", "[in, out / 8]: eight outputs a word"),
            "qzeros": StoredArray("int32", "[in / group_size, out / 8]: zero points, alike"),
            "scales": StoredArray("float16", "[in / group_size, out]"),
        },
        parameters={
            "bits": Parameter(4, "bits a code", (4,)),
            "group_size": Parameter(128, "inputs a group; -1: all"),
        },
        source="autoawq: awq/quantize/quantizer.py, awq/modules/linear/gemm.py",
        version="0.2.9",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=_bits,
        takes=("float32", "float16"),
        aliases={"block_size": "group_size", "w_bit": "bits"},
        widens=False,
        finite=True,
    ),
)
