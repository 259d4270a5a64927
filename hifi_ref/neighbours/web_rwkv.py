"""web-rwkv's types, for WebGPU: Int8 with 8.25 bits per weight, NF4 and SF4 with 4.25. Weights are binary16.

    scheme                      block   array   dtype   holds
    web-rwkv.int8               128     codes   u8      one code a weight
                                        meta    f16     [blocks, 2]: least and largest weight
    web-rwkv.nf4, web-rwkv.sf4  64      codes   u8      two codes a byte, the even weight in the low nibble
                                        meta    f16     [blocks]: largest magnitude

    int8        w[j] = q[j] / 255 * (max - min) + min
    nf4, sf4    w[j] = LEVELS[q[j]] * absmax

Blocks run over the flat row-major array, across rows; the last may be short. A tensor has a multiple of 4 weights
(int8) or 8. NaN counts for no min, max or absmax, unless there is nothing else. NF4's levels are bitsandbytes', SF4's
quantiles of Student's t with five degrees of freedom.

Int8's code is the place between min and max in 255ths, rounded; how ties go SPIR-V leaves to the driver: lavapipe's,
and the vectors', go to even (ties="even"), those of WGSL's text up. Zero is not preserved. Beside an infinity all codes
are 0, and decode to NaN. NF4 and SF4 multiply by the reciprocal and take the nearest level, the last of equals; a block
of zeros has code 0, and decodes to -0.

Products are sums in the order of the shaders, without fused multiply-adds: matmul_vec (kernel="vec") adds words of 4 or
8 weights on 128 lanes, which then fold by halves, with NF4's absmax behind each sum of four; matmul_mat (kernel="mat")
goes from first to last in fours over decoded weights. A device with subgroups folds otherwise.

Reference: src/shaders/quant_mat_int8.wgsl, quant_mat_nf4.wgsl, matmul_vec_int8.wgsl, matmul_vec_nf4.wgsl,
matmul_mat_int8.wgsl, matmul_mat_nf4.wgsl, src/tensor/matrix.rs (web-rwkv 3c7d5461).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours.bitsandbytes import NF4
from hifi_ref.neighbours.packing import blocks_of, in_blocks, join_pairs, values_of_pairs
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float16, Float32

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

# fmt: off
SF4 = np.array([
    0xBF800000, 0xBF20B63A, 0xBEE8D328, 0xBEAB2D66, 0xBE7321FF, 0xBE1C917B, 0xBD999068, 0x00000000,
    0x3D862BB8, 0x3E0827E8, 0x3E5192A8, 0x3E9152C8, 0x3EC0697E, 0x3EFB6E42, 0x3F2822CF, 0x3F800000,
], np.uint32).view(np.float32)
# fmt: on
LEVELS = {"nf4": NF4, "sf4": SF4}
INT8_BLOCK, LEVELS_BLOCK = 128, 64
LANES = 128
# What min starts from, and max with the other sign.
LARGEST = np.float32(65504)
NAN = np.float32(np.nan)


def encode_int8(x: Float32[Array, "*shape"], ties: str, **_: Any) -> dict[str, Array]:
    lib, count = exact.library(x), math.prod(x.shape)
    blocks = in_blocks(exact.round_f16(x), INT8_BLOCK, fill=NAN)
    # MIN AND MAX: of four interleaved parts each, so that of two zeros it is known which remains
    parts = blocks.reshape(-1, INT8_BLOCK // 4, 4)
    low = _least(lib.where(parts == parts, lib.minimum(parts, LARGEST), LARGEST))
    high = -_least(lib.where(parts == parts, lib.minimum(-parts, LARGEST), LARGEST))
    # CODES: NaN becomes 0
    span = lib.broadcast_to((high - low)[:, None], blocks.shape)
    t = exact.div(blocks - low[:, None], span)
    t = lib.clip(lib.where(t == t, t, np.float32(0)), 0, 1)
    scaled = exact.product(t, np.float32(255))
    whole = lib.round(scaled) if ties == "even" else lib.floor(np.float32(0.5) + scaled)
    return {
        "codes": whole.astype(np.uint8).reshape(-1)[:count].reshape(x.shape),
        "meta": _f16(lib.stack([low, high], axis=1)),
    }


def _least(parts: Float32[Array, "n k 4"]) -> Float32[Array, "n"]:
    """The first least of each part; of two parts that are equal, zeros of either sign, the second's."""
    lib = exact.library(parts)
    a = lib.take_along_axis(parts, parts.argmin(axis=1)[:, None], axis=1)[:, 0]
    pairs = lib.where(a[:, 0::2] < a[:, 1::2], a[:, 0::2], a[:, 1::2])
    return lib.where(pairs[:, 0] < pairs[:, 1], pairs[:, 0], pairs[:, 1])


def _f16(x: Float32[Array, "*n"]) -> Float16[Array, "*n"]:
    """Of numbers that are binary16's."""
    return x.astype(np.float16)


def decode_int8(stored: Stored, shape: Shape, **_: Any) -> Float32[Array, "*shape"]:
    codes = exact.f32(in_blocks(stored["codes"], INT8_BLOCK))
    meta = exact.f32(stored["meta"])
    low, high = meta[:, :1], meta[:, 1:]
    q = exact.div(codes, np.float32(255))
    return exact.madd(q, high - low, low).reshape(-1)[: math.prod(shape)].reshape(shape)


def encode_levels(x: Float32[Array, "*shape"], kind: str, **_: Any) -> dict[str, Array]:
    lib, count = exact.library(x), math.prod(x.shape)
    blocks = in_blocks(exact.round_f16(x), LEVELS_BLOCK, fill=NAN)
    # SCALES
    size = lib.abs(blocks)
    absmax = lib.where(size == size, size, np.float32(-1)).max(axis=1)
    absmax = lib.where(absmax < 0, NAN, absmax)
    # CODES: the last of the nearest
    y = exact.mul(blocks, exact.div(np.float32(1), absmax)[:, None])
    best, codes = lib.ones(y.shape, np.float32), lib.zeros(y.shape, np.uint8)
    for code, level in enumerate(LEVELS[kind]):
        distance = lib.abs(level - y)
        nearer = distance <= best
        best, codes = lib.where(nearer, distance, best), lib.where(nearer, np.uint8(code), codes)
    packed = join_pairs(codes.reshape(-1)[:count], even_is_high=False)
    return {"codes": packed.reshape(_codes_of_pairs(x.shape)), "meta": _f16(absmax)}


def decode_levels(stored: Stored, shape: Shape, kind: str, **_: Any) -> Float32[Array, "*shape"]:
    values = in_blocks(_levels(stored, math.prod(shape), kind), LEVELS_BLOCK)
    return exact.product(values, exact.f32(stored["meta"])[:, None]).reshape(-1)[: math.prod(shape)].reshape(shape)


def _levels(stored: Stored, count: int, kind: str) -> Float32[Array, "n"]:
    return values_of_pairs(LEVELS[kind], stored["codes"].reshape(-1), count, even_is_high=False)


def matmul_int8(stored: Stored, a: Float32[Array, "n row"], kernel: str, **_: Any) -> Float32[Array, "n out"]:
    a = exact.f32(a)
    w = decode_int8(stored, (math.prod(stored["codes"].shape) // a.shape[1], a.shape[1]))
    fours = _sums_of_four(a, w)
    return _folded(fours) if kernel == "vec" else exact.sum_in_order(fours)


def matmul_levels(
    stored: Stored, a: Float32[Array, "n row"], kind: str, kernel: str, **_: Any
) -> Float32[Array, "n out"]:
    a, lib = exact.f32(a), exact.library(a)
    shape = (math.prod(stored["codes"].shape) * 2 // a.shape[1], a.shape[1])
    if kernel == "mat":
        return exact.sum_in_order(_sums_of_four(a, decode_levels(stored, shape, kind)))
    # Levels from the last of four to the first, then the block's absmax
    levels = _levels(stored, math.prod(shape), kind).reshape(*shape[:1], -1, 4)[..., ::-1].reshape(shape)
    turned = a.reshape(len(a), -1, 4)[..., ::-1].reshape(a.shape)
    absmax = lib.repeat(exact.f32(stored["meta"]), LEVELS_BLOCK // 4)[: math.prod(shape) // 4]
    fours = exact.product(_sums_of_four(turned, levels), absmax.reshape(shape[0], -1).T[:, None])
    return _folded(fours, of_a_word=2)


def _sums_of_four(a: Float32[Array, "n row"], w: Float32[Array, "out row"]) -> Float32[Array, "fours n out"]:
    """((w0 x0 + w1 x1) + w2 x2) + w3 x3 of every four weights."""
    lib = exact.library(a)
    a, w = (lib.moveaxis(each.reshape(len(each), -1, 4), 0, 1) for each in (a, w))
    total = exact.product(a[:, :, None, 0], w[:, None, :, 0])
    for i in range(1, 4):
        total = total + exact.product(a[:, :, None, i], w[:, None, :, i])
    return total


def _folded(fours: Float32[Array, "fours n out"], of_a_word: int = 1) -> Float32[Array, "n out"]:
    """Word after word on 128 lanes, a lane beginning with 0; then the lanes by halves."""
    lib = exact.library(fours)
    words = -(-fours.shape[0] // of_a_word // LANES) * LANES
    # A word that is not there adds 0, which changes no sum that began with 0
    missing = words * of_a_word - fours.shape[0]
    fours = lib.concatenate([fours, lib.zeros((missing, *fours.shape[1:]), np.float32)])
    turns = fours.reshape(words // LANES, LANES, of_a_word, *fours.shape[1:])
    lanes = exact.sum_in_order(lib.moveaxis(turns, 2, 1).reshape(-1, LANES, *fours.shape[1:]))
    while lanes.shape[0] > 1:
        half = lanes.shape[0] // 2
        lanes = lanes[:half] + lanes[half:]
    return lanes[0]


def _codes_of_pairs(shape: Shape) -> Shape:
    return (*shape[:-1], shape[-1] // 2) if shape[-1] % 2 == 0 else (math.prod(shape) // 2,)


def _shapes(shape: Shape, block: int, **_: Any) -> dict[str, Shape]:
    count, unit = math.prod(shape), 4 if block == INT8_BLOCK else 8
    if count % unit:
        raise ValueError(f"{count} weights are no multiple of the {unit} of a word")
    blocks = blocks_of(count, block)
    if block == INT8_BLOCK:
        return {"codes": shape, "meta": (blocks, 2)}
    return {"codes": _codes_of_pairs(shape), "meta": (blocks,)}


KERNEL = Parameter("vec", "whose order of additions", ("vec", "mat"))
INT8 = Scheme(
    name="web-rwkv.int8",
    stored={
        "codes": StoredArray("uint8", "one code a weight, in the shape of the weights"),
        "meta": StoredArray("float16", "[blocks, 2]: least and largest weight of each block over the flat array"),
    },
    parameters={"ties": Parameter("even", "how the driver rounds codes", ("even", "up")), "kernel": KERNEL},
    source="web-rwkv: quant_mat_int8.wgsl, matmul_vec_int8.wgsl, matmul_mat_int8.wgsl",
    version="3c7d5461 on lavapipe (Mesa 22.3.6)",
    shapes=functools.partial(_shapes, block=INT8_BLOCK),
    encode=encode_int8,
    decode=decode_int8,
    bits=lambda **_: 8.25,
    matmul=matmul_int8,
    keeps_faint=("encode", "decode"),
    rows_apart=lambda length, **_: length % INT8_BLOCK == 0,
)


def _of_levels(kind: str) -> Scheme:
    return Scheme(
        name=f"web-rwkv.{kind}",
        stored={
            "codes": StoredArray("uint8", "[..., row / 2]: two a byte, the even weight low"),
            "meta": StoredArray("float16", "[blocks]: largest magnitude of each block over the flat array"),
        },
        parameters={"kernel": KERNEL},
        source="web-rwkv: quant_mat_nf4.wgsl, matmul_vec_nf4.wgsl, matmul_mat_nf4.wgsl, matrix.rs",
        version="3c7d5461 on lavapipe (Mesa 22.3.6)",
        shapes=functools.partial(_shapes, block=LEVELS_BLOCK),
        encode=functools.partial(encode_levels, kind=kind),
        decode=functools.partial(decode_levels, kind=kind),
        bits=lambda **_: 4.25,
        matmul=functools.partial(matmul_levels, kind=kind),
        keeps_faint=("encode", "decode"),
        rows_apart=lambda length, **_: length % LEVELS_BLOCK == 0,
    )


SCHEMES = (INT8, _of_levels("nf4"), _of_levels("sf4"))
