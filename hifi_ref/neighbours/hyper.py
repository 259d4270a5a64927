"""Hyper-Quantization (tfernd/hyper-quantization): blocks of codes, a scale, and perhaps a min.

    bytes                field   holds
    block_size/8*bits    codes   planes, the high one first: 3 = 1+2 bits, 5 = 1+4, 6 = 2+4, 7 = 1+2+4
    then 1 or 2          scale   fp16, bf16 or fp8 (E4M3)
    then 1 or 2          min     only of asymmetric blocks

    symmetric    w = q * scale            q in -2^(bits-1)..2^(bits-1)-1, stored + 2^(bits-1); 8 bits: two's complement
    asymmetric   w = q * scale + min      q in 0..2^bits-1

A plane of w bits packs 8/w codes a byte from the low bits on: neighbours, or with group_last=False codes n*w/8 apart.
Encoding divides by the scale before it is rounded to what is stored. Numbers round to even; a code of NaN is 0.

Double quantization: the codes of outer block_size inner blocks; then their scales, as one block of the outer kind; then
their mins likewise.

What the original does wrong: its loss (``loss_as_coded``) averages over the blocks where it should average within one,
and is NaN for a single block. With scale_type fp8 a scale below 2^-6 is subnormal: weights of small spread lose more
than its charts show. fp8 saturates, infinities too, as torch 2.13 rounds; torch up to 2.11 stores NaN above 464.

Reference: tfernd/hyper-quantization f482292e, on torch 2.13.0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours import small_floats
from hifi_ref.neighbours.half import rounded
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray
from hifi_ref.neighbours.small_floats import E4M3

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

PLANES = {1: (1,), 2: (2,), 3: (1, 2), 4: (4,), 5: (1, 4), 6: (2, 4), 7: (1, 2, 4), 8: (8,)}
SCALE_BYTES = {"fp16": 2, "bf16": 2, "fp8": 1}


class Kind(NamedTuple):
    """How blocks of numbers are quantized: weights, or the scales or mins of other blocks."""

    bits: int = 4
    block_size: int = 32
    symmetric: bool = True

    def bytes_of_codes(self) -> int:
        return self.block_size * self.bits // 8

    def bytes_of_block(self, scale_type: str) -> int:
        return self.bytes_of_codes() + (1 if self.symmetric else 2) * SCALE_BYTES[scale_type]


def encode(
    x: Float32[Array, "*shape"], *, scale_type: str, group_last: bool, compute: str, **kinds: Any
) -> dict[str, Array]:
    inner, outer = _kinds(**kinds)
    codes, *numbers = quantized(x.reshape(-1, inner.block_size), inner.bits, inner.symmetric)
    parts = [_packed(codes, inner, group_last)]
    if outer is None:
        parts += [stored_scale(number, scale_type) for number in numbers]
    else:
        parts = [parts[0].reshape(-1, inner.bytes_of_codes() * outer.block_size)]
        for number in numbers:
            codes, *scales = quantized(number.reshape(-1, outer.block_size), outer.bits, outer.symmetric)
            parts += [_packed(codes, outer, group_last), *(stored_scale(scale, scale_type) for scale in scales)]
    return {"bytes": exact.library(x).concatenate(parts, axis=-1)}


def decode(
    stored: Stored, shape: Shape, *, scale_type: str, group_last: bool, compute: str, **kinds: Any
) -> Float32[Array, "*shape"]:
    inner, outer = _kinds(**kinds)
    raw = stored["bytes"]
    blocks = 1 if outer is None else outer.block_size
    end = inner.bytes_of_codes() * blocks
    codes = _unpacked(raw[:, :end].reshape(-1, inner.bytes_of_codes()), inner, group_last)
    count = 1 if inner.symmetric else 2
    width = (raw.shape[1] - end) // count
    rest = [raw[:, end + i * width : end + (i + 1) * width] for i in range(count)]
    if outer is None:
        numbers = [read_scale(part, scale_type) for part in rest]
    else:
        numbers = [_decoded_blocks(part, outer, scale_type, group_last, compute).reshape(-1) for part in rest]
    return values(codes, numbers, compute).reshape(shape)


def effective_bits(*, scale_type: str, **parameters: Any) -> float:
    """Bits a weight, scales and mins included."""
    inner, outer = _kinds(**{name: parameters[name] for name in ("bits", "block_size", "symmetric", "inner", "outer")})
    if outer is None:
        return 8 * inner.bytes_of_block(scale_type) / inner.block_size
    numbers = 1 if inner.symmetric else 2
    of_outer = numbers * outer.bytes_of_block(scale_type)
    return inner.bits + 8 * of_outer / (inner.block_size * outer.block_size)


def loss_as_coded(x: Float32[np.ndarray, "rows n"], y: Float32[np.ndarray, "rows n"], block_size: int) -> float:
    """The mean of |x - y| / std(x) over weights at one place of all the blocks of a row; NaN for a single block."""
    return _loss(x, y, block_size, axis=1)


def loss(x: Float32[np.ndarray, "rows n"], y: Float32[np.ndarray, "rows n"], block_size: int) -> float:
    """What is meant: the mean over blocks of mean|x - y| / std(x), with the unbiased deviation, in float64."""
    return _loss(x, y, block_size, axis=2)


def _loss(x: np.ndarray, y: np.ndarray, block_size: int, axis: int) -> float:
    x, y = (np.asarray(v, np.float64).reshape(x.shape[0], -1, block_size) for v in (x, y))
    if x.shape[axis] < 2:
        return float("nan")
    with np.errstate(all="ignore"):
        return float((np.abs(x - y).mean(axis=axis) / x.std(axis=axis, ddof=1)).mean())


def _decoded_blocks(
    raw: UInt8[Array, "n bytes"], kind: Kind, scale_type: str, group_last: bool, compute: str
) -> Float32[Array, "n block"]:
    codes = _unpacked(raw[:, : kind.bytes_of_codes()], kind, group_last)
    width = SCALE_BYTES[scale_type]
    starts = range(kind.bytes_of_codes(), raw.shape[1], width)
    return values(codes, [read_scale(raw[:, at : at + width], scale_type) for at in starts], compute)


def values(codes: Float32[Array, "n block"], numbers: list[Array], compute: str) -> Float32[Array, "n block"]:
    dtype = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[compute]
    result = rounded(exact.mul(codes, numbers[0][:, None]), dtype)
    return result if len(numbers) == 1 else rounded(result + numbers[1][:, None], dtype)


def quantized(x: Float32[Array, "n block"], bits: int, symmetric: bool) -> tuple[Array, ...]:
    """Codes as whole float32 numbers, and the scale and perhaps min of each block, not rounded to what is stored."""
    lib = exact.library(x)
    low = None
    if symmetric:
        least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        extreme = lib.take_along_axis(x, lib.argmax(lib.abs(x), axis=-1)[:, None], axis=-1)[:, 0]
        scale = exact.div(extreme, np.float32(least))
    else:
        least, most = 0, 2**bits - 1
        low, high = x.min(axis=-1), x.max(axis=-1)
        # Of zeros of both signs the least is -0
        negative_zero = ((x == 0) & lib.signbit(x)).any(axis=-1)
        low = lib.where((low == 0) & negative_zero, np.float32(-0.0), low)
        scale = exact.div(high - low, np.float32(most))
    inverse = exact.reciprocal_or_zero(scale)
    shifted = x if low is None else x - low[:, None]
    codes = lib.clip(lib.round(exact.mul(shifted, inverse[:, None])), np.float32(least), np.float32(most))
    codes = lib.where(codes == codes, codes, np.float32(0))
    return (codes, scale) if low is None else (codes, scale, low)


def _packed(codes: Float32[Array, "n block"], kind: Kind, group_last: bool) -> UInt8[Array, "n bytes"]:
    lib, bits = exact.library(codes), kind.bits
    offset = 2 ** (bits - 1) if kind.symmetric and bits < 8 else 0
    q = (codes + np.float32(offset)).astype(np.int32) & np.int32(255)
    planes, above = [], bits
    for width in PLANES[bits]:
        above -= width
        part = q >> np.int32(above) & np.int32((1 << width) - 1)
        per = 8 // width
        part = part.reshape(len(q), -1, per) if group_last else part.reshape(len(q), per, -1).swapaxes(1, 2)
        shifts = np.arange(per, dtype=np.int32) * np.int32(width)
        planes.append((part << shifts).sum(axis=-1).astype(np.uint8))
    return lib.concatenate(planes, axis=-1)


def _unpacked(raw: UInt8[Array, "n bytes"], kind: Kind, group_last: bool) -> Float32[Array, "n block"]:
    bits, block_size = kind.bits, kind.block_size
    q: Any = np.int32(0)
    above, at = bits, 0
    for width in PLANES[bits]:
        above -= width
        size = block_size * width // 8
        shifts = np.arange(8 // width, dtype=np.int32) * np.int32(width)
        part = exact.i32(raw[:, at : at + size])[:, :, None] >> shifts & np.int32((1 << width) - 1)
        part = part if group_last else part.swapaxes(1, 2)
        q = q | part.reshape(len(raw), block_size) << np.int32(above)
        at += size
    if kind.symmetric:
        q = exact.as_int8(q) if bits == 8 else q - np.int32(2 ** (bits - 1))
    return exact.f32(q)


def stored_scale(scale: Float32[Array, "n"], scale_type: str) -> UInt8[Array, "n bytes"]:
    if scale_type == "fp8":
        return small_floats.narrow(E4M3, scale)[:, None]
    half = exact.narrow_f16(scale) if scale_type == "fp16" else exact.narrow_bf16(scale)
    lib = exact.library(half)
    return lib.stack([half & np.uint16(255), half >> np.uint16(8)], axis=-1).astype(np.uint8)


def read_scale(raw: UInt8[Array, "n bytes"], scale_type: str) -> Float32[Array, "n"]:
    if scale_type == "fp8":
        return small_floats.widen(E4M3, raw[:, 0])
    half = raw[:, 0].astype(np.uint16) | raw[:, 1].astype(np.uint16) << np.uint16(8)
    if scale_type == "fp16":
        return exact.widen_f16(half)
    # A subnormal number of float32 too
    return exact.watched_input(exact.widen_bf16(half), exact.FAINT)


def _kinds(*, bits: int, block_size: int, symmetric: bool, inner: Any, outer: Any) -> tuple[Kind, Kind | None]:
    """Of the weights, and of their scales and mins."""
    own = Kind(bits, block_size, symmetric) if inner is None else _kind(inner)
    for kind in (own,) if outer is None else (own, _kind(outer)):
        if kind.bits not in PLANES:
            raise ValueError(f"hyper: bits is {kind.bits!r}, not 1 to 8")
        if not isinstance(kind.block_size, int) or kind.block_size < 8 or kind.block_size % 8:
            raise ValueError(f"hyper: block_size is {kind.block_size!r}, no multiple of 8")
    return own, None if outer is None else _kind(outer)


def _kind(given: Any) -> Kind:
    """From (bits, block_size, symmetric), or from pairs of these names and their values."""
    given = tuple(given)
    try:
        return Kind(**dict(given)) if given and isinstance(given[0], tuple) else Kind(*given)
    except TypeError:
        raise ValueError(f"hyper: {given!r} is not bits, block_size and symmetric") from None


def _shapes(shape: Shape, *, scale_type: str, group_last: bool, compute: str, **kinds: Any) -> dict[str, Shape]:
    inner, outer = _kinds(**kinds)
    span = inner.block_size * (1 if outer is None else outer.block_size)
    if shape[-1] % span:
        raise ValueError(f"hyper: rows of {shape[-1]} weights hold no whole number of blocks of {span}")
    size = effective_bits(scale_type=scale_type, **kinds) * span / 8
    return {"bytes": (math.prod(shape) // span, int(size))}


SCHEMES = (
    Scheme(
        name="hyper",
        stored={
            "bytes": StoredArray("uint8", "[blocks, bytes]: codes, scale, min; of a super-block if outer is given")
        },
        parameters={
            "bits": Parameter(4, "bits a code, 1 to 8"),
            "block_size": Parameter(32, "weights a block, a multiple of 8"),
            "symmetric": Parameter(True, "without a min", (True, False)),
            "scale_type": Parameter("fp16", "of scale and min", tuple(SCALE_BYTES)),
            "group_last": Parameter(True, "whether neighbours share a byte", (True, False)),
            "inner": Parameter(None, "a mapping of bits, block_size, symmetric, in place of those"),
            "outer": Parameter(
                None, "the same of the scales' and mins' own quantization; None: they are stored as they are"
            ),
            "compute": Parameter("fp32", "the precision that each step of decode rounds to", ("fp32", "fp16", "bf16")),
        },
        source="hyper-quantization: src/",
        version="f482292e (2025-01-31), torch 2.13.0",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=effective_bits,
        rows_apart=lambda *_, **__: True,
    ),
)
