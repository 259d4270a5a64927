"""NVIDIA's NVFP4: 16 four-bit floats share an eight-bit one, and all of a tensor one float32; 4.5 bits per weight.

    array           dtype   holds
    tensor_scale    f32     one for the tensor, largest magnitude / 2688; not by torchao-single and mlx
    scale           u8      E4M3, one for 16 weights of a row
    codes           u8      E2M1, two a byte, the even weight in the low nibble

    w[j] = value(codes[j]) * (value(scale) * tensor_scale)

2688 is 448 * 6, the largest scale times the largest element. With a the largest magnitude of a block and t the
tensor's scale, or 1, the writers are

    writer           scale s                                    codes of                          block of zeros
    modelopt         a / (6 t), 2^-9 to 448; 1 in place of 0    x / (s t), nearest even           1.0
    torchao          (a / 6) / t, 2^-6 to 448                   x * ((1 / t) / s), nearest even   2^-6
    torchao-single   a / 6, 2^-6 to 448                         x * (1 / s), nearest even         2^-6
    mlx              a / 6, to 448                              x / s, ties to the smaller        0

What the originals do otherwise than they mean to: torchao's least scale leaves the subnormal E4M3 unused. A tensor of
zeros has t = 0 and NaN for scales, in which all is NaN; one infinity makes all other blocks vanish. MLX takes the least
of rounded distances: beside a scale that is saturated, what is very large becomes 0. ModelOpt's code 8 decodes to +0.

Matrix products on the device want the scales in tiles of 128 rows and 4 columns: ``swizzle`` and ``unswizzle``.

Reference: modelopt/torch/quantization/qtensor/nvfp4_tensor.py; torchao/prototype/mx_formats/nvfp4_tensor.py;
mlx/backend/cpu/quantized.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours import small_floats
from hifi_ref.neighbours.packing import join_pairs, values_of_pairs
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray
from hifi_ref.neighbours.small_floats import E2M1, E4M3

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

# Writers that scale the tensor.
TWO_LEVELS = ("modelopt", "torchao")
ONE, SIX = np.float32(1), np.float32(6)


def encode(x: Float32[Array, "*n row"], writer: str) -> dict[str, Array]:
    blocks = x.reshape(-1, 16)
    a = exact.library(x).abs(blocks).max(axis=1)
    t = exact.div(a.max(), np.float32(2688))
    work = {"modelopt": _modelopt, "mlx": _mlx}.get(writer, _torchao)
    scale, codes = work(blocks, a, t if writer in TWO_LEVELS else None)
    codes = join_pairs(codes.reshape(-1), even_is_high=False)
    stored = {"scale": scale.reshape(*x.shape[:-1], -1), "codes": codes.reshape(*x.shape[:-1], -1)}
    return {"tensor_scale": t.reshape(1)} | stored if writer in TWO_LEVELS else stored


def _scale(s: Float32[Array, "n"], least: float, t: Any) -> UInt8[Array, "n"]:
    """E4M3 from ``least`` to 448. A NaN has the sign that x86 gives it: minus if arithmetic made it, 0 / 0 say."""
    lib = exact.library(s)
    scale = small_floats.narrow(E4M3, lib.maximum(s, np.float32(least)))
    made = np.uint8(0x7F) if t is None else lib.where(t == t, np.uint8(0xFF), np.uint8(0x7F))
    return lib.where(s == s, scale, made)


def _modelopt(blocks: Float32[Array, "n 16"], a: Float32[Array, "n"], t: Any) -> tuple[Array, Array]:
    lib = exact.library(blocks)
    # SCALES
    s = exact.div(a, lib.broadcast_to(exact.mul(SIX, t), a.shape))
    scale = lib.where(s == 0, np.uint8(0x38), _scale(s, 2.0**-9, t))
    # CODES: -0 has that of 0, NaN that of 6
    both = exact.mul(small_floats.widen(E4M3, scale), t)
    q = exact.div(blocks, lib.broadcast_to(both[:, None], blocks.shape))
    codes = small_floats.narrow(E2M1, lib.abs(q)) | lib.where(q < 0, np.uint8(8), np.uint8(0))
    return scale, lib.where(q == q, codes, np.uint8(7))


def _torchao(blocks: Float32[Array, "n 16"], a: Float32[Array, "n"], t: Any) -> tuple[Array, Array]:
    lib = exact.library(blocks)
    # SCALES
    s = exact.div(a, SIX)
    if t is not None:
        s = exact.div(s, lib.broadcast_to(t, s.shape))
    scale = _scale(s, 2.0**-6, t)
    # CODES: NaN has that which torchao makes of its bits, by where it came from
    inverse = ONE if t is None else lib.broadcast_to(exact.div(ONE, t), s.shape)
    inverse = exact.div(inverse, small_floats.widen(E4M3, scale))
    q = exact.product(blocks, inverse[:, None])
    codes = small_floats.narrow(E2M1, q)
    of_scale = lib.where(scale == 0xFF, np.uint8(12), np.uint8(4))
    of_nan = of_scale if t is None else lib.where(t == t, of_scale, np.uint8(3))
    return scale, lib.where(q == q, codes, of_nan[:, None])


def _mlx(blocks: Float32[Array, "n 16"], a: Float32[Array, "n"], _: Any) -> tuple[Array, Array]:
    lib = exact.library(blocks)
    # SCALES: NaN as infinities
    scale = small_floats.narrow(E4M3, lib.where(a == a, exact.div(a, SIX), np.float32(448)))
    # CODES: the first of the least distances; zeros where there is no scale
    s = lib.broadcast_to(small_floats.widen(E4M3, scale)[:, None], blocks.shape)
    q = lib.where(s > 0, exact.div(blocks, lib.where(s > 0, s, ONE)), np.float32(0))
    size = lib.abs(q)
    codes, least = lib.zeros(q.shape, np.uint8), size
    for code in range(1, 8):
        distance = lib.abs(small_floats.values(E2M1)[code] - size)
        codes = lib.where(distance < least, np.uint8(code), codes)
        least = lib.where(distance < least, distance, least)
    return scale, lib.where((q < 0) & (codes > 0), codes | np.uint8(8), codes)


def decode(stored: Stored, shape: Shape, writer: str) -> Float32[Array, "*n row"]:
    codes = stored["codes"].reshape(-1)
    values = elements(codes).reshape(-1, 16)
    if writer == "modelopt":
        values = exact.library(codes).where(values == 0, np.float32(0), values)
    scale = small_floats.widen(E4M3, stored["scale"].reshape(-1, 1))
    if writer in TWO_LEVELS:
        scale = exact.mul(scale, stored["tensor_scale"])
    return exact.mul(values, scale).reshape(shape)


def elements(codes: UInt8[Array, "half"]) -> Float32[Array, "n"]:
    """The values of the codes, unscaled."""
    return values_of_pairs(small_floats.values(E2M1), codes, 2 * codes.shape[0], even_is_high=False)


def matmul(stored: Stored, a: Float32[Array, "n row"], writer: str) -> Float32[Array, "n out"]:
    """a is encoded alike. Block after block the exact sum of products times both scales; tensors' scales at the end."""
    ours = encode(a.astype(np.float32), writer)
    lib, blocks = exact.library(a), a.shape[-1] // 16
    of_a, of_w = (elements(each["codes"].reshape(-1)).reshape(-1, blocks, 16) for each in (ours, stored))
    sa, sw = (small_floats.widen(E4M3, each["scale"]).reshape(-1, blocks) for each in (ours, stored))
    # PARTIAL SUMS of 16 products: exact, and so are the products with scales, 12 bits times 8
    sums = exact.product(of_a[:, None], of_w[None]).sum(axis=-1)
    scaled = exact.product(sums, exact.product(sa[:, None], sw[None]))
    result = exact.sum_in_order(lib.moveaxis(scaled, -1, 0))
    if writer in TWO_LEVELS:
        result = exact.mul(result, exact.mul(ours["tensor_scale"], stored["tensor_scale"]))
    return result.astype(a.dtype)


def swizzle(scale: UInt8[Array, "rows blocks"]) -> UInt8[Array, "n"]:
    """Scales as cuBLAS and TensorRT take them: tiles of 128 x 4 one after the other, filled up with 0.

    Within a tile the scale of (row, column) lies at row % 32 * 16 + row // 32 * 4 + column.
    """
    lib, (rows, blocks) = exact.library(scale), scale.shape
    filled = lib.pad(scale, ((0, -rows % 128), (0, -blocks % 4)))
    tiles = filled.reshape(filled.shape[0] // 128, 4, 32, filled.shape[1] // 4, 4)
    return lib.transpose(tiles, (0, 3, 2, 1, 4)).reshape(-1)


def unswizzle(scale: UInt8[Array, "n"], rows: int, blocks: int) -> UInt8[Array, "rows blocks"]:
    """The inverse of swizzle. ValueError where there are not as many scales as so many rows and blocks fill."""
    down, across = -(-rows // 128), -(-blocks // 4)
    if scale.size != down * across * 512:
        raise ValueError(f"{rows} x {blocks} scales fill {down * across * 512} bytes in tiles, not {scale.size}")
    tiles = exact.library(scale).transpose(scale.reshape(down, across, 32, 4, 4), (0, 3, 2, 1, 4))
    return tiles.reshape(down * 128, across * 4)[:rows, :blocks]


def _shapes(shape: Shape, writer: str) -> dict[str, Shape]:
    if shape[-1] % 16:
        raise ValueError(f"a row of {shape[-1]} weights is no multiple of the 16 that share a scale")
    shapes: dict[str, Shape] = {"tensor_scale": (1,)} if writer in TWO_LEVELS else {}
    return shapes | {"scale": (*shape[:-1], shape[-1] // 16), "codes": (*shape[:-1], shape[-1] // 2)}


SCHEMES = (
    Scheme(
        name="nvfp4",
        stored={
            "tensor_scale": StoredArray("float32", "[1]: of the tensor; not by torchao-single and mlx"),
            "scale": StoredArray("uint8", "[..., row / 16]: E4M3"),
            "codes": StoredArray("uint8", "[..., row / 2]: two a byte, the even weight low"),
        },
        parameters={"writer": Parameter("modelopt", "whose rule", (*TWO_LEVELS, "torchao-single", "mlx"))},
        source="modelopt nvfp4_tensor.py; torchao nvfp4_tensor.py; mlx quantized.cpp",
        version="nvidia-modelopt 0.47.0, torchao 0.18.0, mlx 0.32.4",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=lambda **_: 4.5,
        matmul=matmul,
        rows_apart=lambda _, writer: writer not in TWO_LEVELS,
    ),
)
