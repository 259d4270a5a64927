"""MLX's affine quantization: groups of codes, a scale and a bias.

    array    dtype      holds
    codes    u32        [..., n * bits / 32]: codes of 2, 3, 4, 5, 6 or 8 bits, one stream of bits a row, low bits first
    scales   x's own    [..., n / group_size]
    biases   x's own    [..., n / group_size]

    w[j] = q[j] * scale + bias

The bias is the end of the range that lies farther from 0, and the scale is made so that 0 is a whole number of steps
from it: edge / rint(edge / scale). It is negative where that end is the largest weight, and where the ends are equally
far. A range below 1e-7 * (2^bits - 1) has that step. Encoding computes in float32 and rounds scale and bias last, codes
follow from the unrounded ones. Decoding computes in the scales' own precision, where each step rounds.

What the original does wrong: nothing that was found. bfloat16 is as float16, read and not run.

Reference: mlx 0.32.4, CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours import bit_stream
from hifi_ref.neighbours.groups import extremes, group_of
from hifi_ref.neighbours.half import DTYPES, narrow, rounded, widen
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored


def encode(x: Float[Array, "*rows n"], *, bits: int, group_size: int) -> dict[str, Array]:
    lib, steps = exact.library(x), np.float32(2**bits - 1)
    w = widen(x).reshape(-1, group_size)
    # SCALE AND BIAS
    low, high = extremes(w, axis=-1)
    scale = lib.maximum(exact.div(high - low, steps), np.float32(1e-7))
    low_is_farther = lib.abs(low) > lib.abs(high)
    scale = lib.where(low_is_farther, scale, -scale)
    edge = lib.where(low_is_farther, low, high)
    whole = lib.round(exact.div(edge, scale))
    reaches = whole != 0
    scale = lib.where(reaches, exact.div(edge, lib.where(reaches, whole, np.float32(1))), scale)
    bias = lib.where(reaches, edge, np.float32(0))
    # CODES
    q = lib.clip(lib.round(exact.div(w - bias[:, None], scale[:, None])), np.float32(0), steps)
    rows, dtype = x.shape[:-1], str(x.dtype)
    return {
        "codes": bit_stream.pack(q.astype(np.uint32).reshape(x.shape), bits),
        "scales": narrow(scale, dtype).reshape(*rows, -1),
        "biases": narrow(bias, dtype).reshape(*rows, -1),
    }


def decode(stored: Stored, shape: Shape, *, bits: int, group_size: int) -> Float32[Array, "*shape"]:
    dtype = str(stored["scales"].dtype)
    scale, bias = widen(stored["scales"])[..., None], widen(stored["biases"])[..., None]
    q = exact.f32(bit_stream.unpack(stored["codes"], bits, shape[-1]))
    product = rounded(exact.mul(q.reshape(*scale.shape[:-1], group_size), scale), dtype)
    return rounded(product + bias, dtype).reshape(shape)


def _shapes(shape: Shape, bits: int, group_size: int) -> dict[str, Shape]:
    *rows, n = shape
    groups = n // group_of(n, group_size, "mlx.affine")
    return {"codes": (*rows, bit_stream.words(n, bits)), "scales": (*rows, groups), "biases": (*rows, groups)}


def _bits(bits: int, group_size: int, **_: Any) -> float:
    return bits + 64 / group_size


SCHEMES = (
    Scheme(
        name="mlx.affine",
        stored={
            "codes": StoredArray("uint32", "[..., n * bits / 32]: a stream of bits a row"),
            "scales": StoredArray(" or ".join(DTYPES), "[..., n / group_size], of the weights' dtype"),
            "biases": StoredArray(" or ".join(DTYPES), "[..., n / group_size], of the weights' dtype"),
        },
        parameters={
            "bits": Parameter(4, "bits a code", (2, 3, 4, 5, 6, 8)),
            "group_size": Parameter(64, "weights a group", (32, 64, 128)),
        },
        source="mlx: mlx/backend/cpu/quantized.cpp",
        version="0.32.4",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=_bits,
        rows_apart=lambda *_, **__: True,
        aliases={"block_size": "group_size"},
        widens=False,
        finite=True,
    ),
)
