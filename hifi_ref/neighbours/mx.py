"""OCP's microscaling formats: 32 small floats that share a power of two.

    array   dtype   holds
    scale   u8      E8M0: 2^(scale - 127), 255 for NaN; one for 32 weights of a row
    codes   u8      one code a weight; mx.fp4_e2m1 two a byte, the even weight in the low nibble

    w[j] = value(codes[j]) * 2^(scale - 127)

    scheme                       elements                    bits   emax   max
    mx.fp8_e4m3, mx.fp8_e5m2     E4M3, E5M2                  8.25   8, 15  448, 57344
    mx.fp6_e3m2, mx.fp6_e2m3     E3M2, E2M3                  6.25   4, 2   28, 7.5
    mx.fp4_e2m1                  E2M1                        4.25   2      6
    mx.int8                      whole 64ths, -128 unused    8.25   0      127/64

The specification gives the values, and one way to choose the scale; libraries chose others. With a the largest
magnitude of a block, ``rule`` takes the exponent of its scale and rounds its elements:

    rule            exponent                                             elements
    floor           floor(log2 a) - emax, from a's bits                  nearest even
    ceil            one more unless a is a power of two                  nearest even
    even            floor, after half an element's last place was added  nearest even
    rceil           ceil(log2(a / max))                                  nearest even
    modelopt, mlx   ceil(log2(a / max))                                  nearest even; FP4 ties to the smaller
    microxcaling    floor(log2 a) - emax                                 ``rounding``: half away ("nearest"), "even",
                                                                         "floor"

floor is OCP's own; the first four are torchao's. Beyond the largest, elements saturate. Logarithms are rounded to
float32, so that just below a power of two they reach it, and just above fall to it.

What the originals do otherwise than they mean to:

* torchao divides by 2^-126 where it stores byte 0, 2^-127: such blocks come back halved. Its rceil divides by 1 there:
  they become 0. An infinity keeps a finite scale, which the largest element overflows when it is decoded.
* ModelOpt gives FP4 blocks with NaN or an infinity byte 0 and nothing but code 8, and codes every zero as 8, -0.
* MLX lets the byte wrap: blocks below 2^-127 get 254 and decode to infinities. A block of zeros has 127; one with NaN
  or an infinity 128, and zeros (FP4) or the largest elements (FP8).
* microxcaling stores no bytes; here they are those of its values, with -128 for int8's -0. It makes all zeros +0. Its
  rounding "floor" takes an element's own logarithm: just below a power of two it falls by two steps.

Reference: OCP Microscaling Formats (MX) Specification 1.0; torchao/prototype/mx_formats/mx_tensor.py; modelopt/torch/
quantization/qtensor/mxfp4_tensor.py, mxfp8_tensor.py; mlx/backend/cpu/quantized.cpp; mx/mx_ops.py, mx/elemwise_ops.py.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.mxfp4 import floor_log2
from hifi_ref.neighbours import small_floats
from hifi_ref.neighbours.packing import join_pairs, values_of_pairs
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray
from hifi_ref.neighbours.small_floats import E2M1, E2M3, E3M2, E4M3, E5M2, INT8, SmallFloat

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

KINDS = {"fp8_e4m3": E4M3, "fp8_e5m2": E5M2, "fp6_e3m2": E3M2, "fp6_e2m3": E2M3, "fp4_e2m1": E2M1, "int8": INT8}
TORCHAO = ("floor", "ceil", "even", "rceil")
# Below it a / max may be subnormal, and NumPy takes the logarithm itself.
SMALL = np.float32(2.0**-100)
NAN = np.uint32(0x7F800000)


def encode(x: Float32[Array, "*n row"], kind: SmallFloat, rule: str, writer: str | None, rounding: str
           ) -> dict[str, Array]:  # fmt: skip
    blocks = x.reshape(-1, 32)
    rule = rule if writer in (None, "torchao") else writer
    # As bits: whole numbers are not flushed, and of these NaN is the largest
    a = (exact.bits(blocks) & np.uint32(0x7FFFFFFF)).max(axis=1)
    work = {"modelopt": _modelopt, "mlx": _mlx, "microxcaling": _microxcaling}.get(rule, _torchao)
    scale, codes = work(blocks, a, kind, rounding if rule == "microxcaling" else rule)
    if kind is INT8:
        negative = np.uint8(0) - (codes & np.uint8(127))
        # -0 has no code; of microxcaling's values it gets the one that is free
        negative = exact.library(x).where((codes == 128) & (rule == "microxcaling"), codes, negative)
        codes = exact.library(x).where(codes > 127, negative, codes)
    if kind is E2M1:
        codes = join_pairs(codes.reshape(-1), even_is_high=False)
    return {"scale": scale.reshape(*x.shape[:-1], -1), "codes": codes.reshape(*x.shape[:-1], -1)}


def _torchao(blocks: Float32[Array, "n 32"], a: Any, kind: SmallFloat, rule: str) -> tuple[Array, Array]:
    lib = exact.library(blocks)
    # SCALES
    if rule == "even":
        a = lib.where(a < NAN, a + np.uint32(1 << (22 - kind.mantissa_bits)), a)
    e = exact.i32(a >> np.uint32(23)) - 127 - kind.largest_exponent
    if rule == "ceil":
        e = e + ((a & np.uint32(0x7FFFFF)) > 0)
    if rule == "rceil":
        e = lib.where(a == NAN, 127, _ceil_log2_over(a, kind))
    scale = lib.where(a > NAN, 255, lib.clip(e + 127, 0, 254)).astype(np.uint8)
    # CODES: byte 0 is taken for 2^-126, by rceil for 1; byte 255 for an infinity, by rceil for NaN
    e = exact.i32(scale) - 127
    e = lib.where(e > -127, e, 0 if rule == "rceil" else -126)
    codes = small_floats.narrow(kind, blocks, exponent=e[:, None])
    nan = np.uint8(_nan_code(kind))
    of_nan = lib.where(rule == "rceil", nan, codes & np.uint8(kind.sign))
    codes = lib.where(a[:, None] > NAN, of_nan, codes)
    return scale, lib.where(blocks == blocks, codes, nan)


def _nan_code(kind: SmallFloat) -> int:
    """What torchao's bit arithmetic makes of NaN where there is no code for it."""
    if kind.sign == 128:
        return 0x7F
    bits = 0x7FC00000 + (kind.bias - 127 << 23) + (1 << 22 - kind.mantissa_bits) - 1
    return bits >> 23 - kind.mantissa_bits & 0xFF


def _modelopt(blocks: Float32[Array, "n 32"], a: Any, kind: SmallFloat, _: str) -> tuple[Array, Array]:
    lib = exact.library(blocks)
    # SCALES: byte 0 for NaN, and for an infinity in FP4
    e = lib.where(a == NAN, -127 if kind is E2M1 else 127, lib.clip(_ceil_log2_over(a, kind), -127, 127))
    e = lib.where((a == 0) | (a > NAN), -127, e)
    scale = (e + 127).astype(np.uint8)
    # CODES: all that is, or becomes, zero or NaN is FP4's code 8
    codes = small_floats.narrow(kind, blocks, "down" if kind is E2M1 else "even", e[:, None])
    if kind is E2M1:
        size = exact.bits(blocks) & np.uint32(0x7FFFFFFF)
        vanishes = (exact.i32(size >> np.uint32(23)) - e[:, None] < -24) | (size == 0) | (a[:, None] >= NAN)
        codes = lib.where(vanishes, np.uint8(8), codes)
    return scale, codes


def _mlx(blocks: Float32[Array, "n 32"], a: Any, kind: SmallFloat, _: str) -> tuple[Array, Array]:
    lib = exact.library(blocks)
    # SCALES: zeros have 1; the byte wraps
    e = lib.where(a < _least_divided(kind), 0, _ceil_log2_over(a, kind))
    is_finite = a < NAN
    scale = lib.where(is_finite, e + 127 & 255, 128).astype(np.uint8)
    # CODES: beside NaN or an infinity the scale is taken for 0, and zeros over it for NaN
    codes = small_floats.narrow(kind, blocks, "down" if kind is E2M1 else "even", e[:, None])
    largest = lib.where(blocks < 0, np.uint8(kind.most | kind.sign), np.uint8(kind.most))
    if kind is E2M1:
        codes, largest = lib.where(codes == 8, np.uint8(0), codes), np.uint8(0)
    return scale, lib.where(is_finite[:, None], codes, largest)


@functools.cache
def _least_divided(kind: SmallFloat) -> np.uint32:
    """The bits of the least a for which a / max is not 0: above half of the least float32, times max."""
    return np.uint32(int(np.floor(kind.largest / 2)) + 1)


def _microxcaling(blocks: Float32[Array, "n 32"], a: Any, kind: SmallFloat, rounding: str) -> tuple[Array, Array]:
    lib = exact.library(blocks)
    # SCALES: no number beyond 127
    exact.mark((a != 0) & (a < exact.bits(SMALL)))
    e = floor_log2(exact.from_bits(lib.where((a == 0) | (a >= NAN), np.uint32(127 << 23), a))) - kind.largest_exponent
    is_number = (a < NAN) & (e <= 127)
    e = lib.maximum(e, -127)
    scale = lib.where(is_number, lib.where(a == 0, 0, e + 127), 255).astype(np.uint8)
    # CODES
    if rounding == "floor" and kind is not INT8:
        blocks = _below_powers(blocks, e[:, None], kind)
    codes = small_floats.narrow(kind, blocks, {"nearest": "away"}.get(rounding, rounding), e[:, None])
    return scale, lib.where(is_number[:, None] & (exact.bits(blocks) << np.uint32(1) != 0), codes, np.uint8(0))


def _below_powers(x: Float32[Array, "n 32"], e: Int32[Array, "n 1"], kind: SmallFloat) -> Float32[Array, "n 32"]:
    """x, with those whose own logarithm was rounded up to a whole number one step of the binade above it lower."""
    lib = exact.library(x)
    scaled = lib.abs(exact.ratio(x, exact.library(x).broadcast_to(small_floats.widen_e8m0(e + 127), x.shape)))
    scaled = lib.where((scaled > 0) & (scaled < np.inf), scaled, np.float32(1))
    logarithm = floor_log2(scaled)
    is_raised = (logarithm > exact.exponent(scaled)) & (logarithm > 1 - kind.bias)
    lower = np.uint32((1 << 23) - (1 << 24 - kind.mantissa_bits))
    return exact.from_bits(lib.where(is_raised, exact.bits(x) & np.uint32(0xFF800000) | lower, exact.bits(x)))


def _ceil_log2_over(a: Any, kind: SmallFloat) -> Int32[Array, "n"]:
    """ceil(log2(a / max)) of a's bits, of numbers: a / max is rounded to float32, and its logarithm too."""
    lib = exact.library(a)
    mantissa = exact.i32(a & np.uint32(0x7FFFFF))
    binade = exact.i32(a >> np.uint32(23))
    more = mantissa > lib.take(lib.asarray(_thresholds(kind)), lib.minimum(binade, 254), axis=0)
    result = binade - 127 - kind.largest_exponent + more
    is_small = (a != 0) & (a < exact.bits(SMALL))
    exact.mark(is_small)
    if exact.is_jax(a) or not is_small.any():
        return lib.where(a == 0, -127, result)
    by_logarithm = _by_logarithm(np.where(is_small, a, np.uint32(1)), kind)
    return np.where(a == 0, -127, np.where(is_small, by_logarithm, result))


def _by_logarithm(a: np.ndarray, kind: SmallFloat) -> np.ndarray:
    """_ceil_log2_over as it is defined. Binary64 has digits enough for the logarithm to be rounded once."""
    quotient = a.view(np.float32) / np.float32(kind.largest)
    with np.errstate(divide="ignore"):
        logarithm = np.log2(quotient.astype(np.float64)).astype(np.float32)
    return np.ceil(np.maximum(logarithm, -200)).astype(np.int32)


@functools.cache
def _thresholds(kind: SmallFloat) -> Int32[np.ndarray, "255"]:
    """For each exponent of a the largest mantissa that does not yet have the greater logarithm, by halving."""
    binade = np.arange(255, dtype=np.uint32)
    low, high = np.zeros(255, np.uint32), np.full(255, (1 << 23) - 1, np.uint32)
    lesser = _by_logarithm(binade << 23, kind)
    while (low < high).any():
        middle = (low + high + 1) // 2
        is_lesser = _by_logarithm(binade << 23 | middle, kind) == lesser
        low, high = np.where(is_lesser, middle, low), np.where(is_lesser, high, middle - 1)
    return low.astype(np.int32)


def decode(stored: Stored, shape: Shape, kind: SmallFloat, rule: str, writer: str | None, **_: Any
           ) -> Float32[Array, "*n row"]:  # fmt: skip
    values = elements(stored["codes"], kind).reshape(-1, 32)
    if kind is INT8 and "microxcaling" in (rule, writer):
        values = exact.library(values).where(values == -2, np.float32(-0.0), values)
    scale = stored["scale"].reshape(-1, 1)
    if not exact.is_jax(scale):
        return (values * small_floats.widen_e8m0(scale)).reshape(shape)
    # The same without subnormal operands
    scaled = small_floats.times_power(values, exact.i32(scale) - 127)
    return exact.library(scale).where(scale == 255, np.float32(np.nan), scaled).reshape(shape)


def elements(codes: UInt8[Array, "*n bytes"], kind: SmallFloat) -> Float32[Array, "m"]:
    """The values of the codes, unscaled."""
    flat = codes.reshape(-1)
    if kind is INT8:
        return exact.f32(flat.view(np.int8)) * np.float32(2.0**-6)
    if kind is E2M1:
        return values_of_pairs(small_floats.values(E2M1), flat, 2 * flat.shape[0], even_is_high=False)
    return small_floats.widen(kind, flat)


def matmul(stored: Stored, a: Float32[Array, "n row"], kind: SmallFloat, **parameters: Any) -> Float32[Array, "n out"]:
    """OCP's dot: a is encoded by the same rule; block after block 2^(scales' sum) times the sum of products."""
    ours = encode(a.astype(np.float32), kind, **parameters)
    lib, blocks = exact.library(a), a.shape[-1] // 32
    of_a, of_w = (elements(each["codes"], kind).reshape(-1, blocks, 32) for each in (ours, stored))
    # PARTIAL SUMS of 32 products, each exact but int8's, in order
    products = exact.product(of_a[:, None], of_w[None])
    sums = exact.sum_in_order(lib.moveaxis(products, -1, 0))
    # SCALES: NaN where one is; the sum of all blocks in order
    ea, ew = (each["scale"].reshape(-1, blocks) for each in (ours, stored))
    power = exact.i32(ea)[:, None] + exact.i32(ew)[None] - 254
    is_nan = (ea == 255)[:, None] | (ew == 255)[None]
    scaled = lib.where(is_nan, np.float32(np.nan), small_floats.times_power(sums, power))
    scaled = exact.watched_input(scaled, exact.FAINT)
    return exact.sum_in_order(lib.moveaxis(scaled, -1, 0)).astype(a.dtype)


def _shapes(shape: Shape, kind: SmallFloat, **_: Any) -> dict[str, Shape]:
    if shape[-1] % 32:
        raise ValueError(f"a row of {shape[-1]} weights is no multiple of the 32 that share a scale")
    return {
        "scale": (*shape[:-1], shape[-1] // 32),
        "codes": (*shape[:-1], shape[-1] // (2 if kind is E2M1 else 1)),
    }


def _scheme(name: str, kind: SmallFloat) -> Scheme:
    rules: tuple[str, ...] = ("floor",) if kind is INT8 else TORCHAO
    rules += ("modelopt", "mlx") if kind in (E4M3, E2M1) else ()
    rules += ("microxcaling",)
    given = functools.partial
    bits = 1 + kind.exponent_bits + kind.mantissa_bits
    return Scheme(
        name=f"mx.{name}",
        stored={
            "scale": StoredArray("uint8", "[..., row / 32]: E8M0"),
            "codes": StoredArray("uint8", "[..., row / 2], the even weight low" if kind is E2M1 else "[..., row]"),
        },
        parameters={
            "rule": Parameter("floor", "how scales are chosen and elements rounded", rules),
            "writer": Parameter(
                None, "a library, in place of a rule", (None, "torchao", *(r for r in rules if r not in TORCHAO))
            ),
            "rounding": Parameter("nearest", "microxcaling's, of elements", ("nearest", "even", "floor")),
        },
        source="OCP MX 1.0; torchao mx_tensor.py; modelopt mxfp4_tensor.py; mlx quantized.cpp; microxcaling mx_ops.py",
        version="torchao 0.18.0, nvidia-modelopt 0.47.0, mlx 0.32.4, microxcaling 7bc41952",
        shapes=given(_shapes, kind=kind),
        encode=given(encode, kind=kind),
        decode=given(decode, kind=kind),
        bits=lambda **_: bits + 0.25,
        matmul=given(matmul, kind=kind),
        keeps_faint=("encode", "decode", "matmul"),
        rows_apart=lambda *_, **__: True,
    )


SCHEMES = tuple(_scheme(name, kind) for name, kind in KINDS.items())
