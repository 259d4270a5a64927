"""TQ1_0: 256 weights in 54 bytes, 1.6875 bits per weight.

    bytes   field   type     holds
    0-47    qs      u8[48]   five digits a byte: 32 bytes for weights 0-159, 16 for 160-239
    48-51   qh      u8[4]    four digits a byte, weights 240-255
    52-53   d       f16      scale

    w[j] = d * (q[j] - 1)        q[j] in 0..2

Five ternary digits, the first most significant, make a number up to 242; a byte holds ceil(number * 256 / 243), a
fraction of 256. Multiplying the byte by 3^n modulo 256 drops the first n digits, and the whole part of 3/256 of what is
left is the next: no division. The bytes stand for weights 0-159 (byte m: weights m, m + 32, ... m + 128), 160-239
(byte m: m, m + 16, ...) and 240-255 (byte m: m, m + 4, ... and no fifth digit).

The encoder divides by the largest magnitude and rounds. Importance weights are not used. Undefined in C: a largest
magnitude of 2^-128 or less has an infinite inverse, and products that are infinite or no number are converted to an
integer. Defined here as the release computes it: the code of 0.

Reference: quantize_row_tq1_0_ref, dequantize_row_tq1_0, ggml_vec_dot_tq1_0_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import q8_k
from hifi_ref.formats.layout import Field, Layout

if TYPE_CHECKING:
    from jaxtyping import Float32, Int, Int8, Int32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="TQ1_0",
    type_id=34,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("qs", "u8", 48, holds="five digits a byte: 32 bytes for weights 0-159, 16 for 160-239"),
        Field("qh", "u8", 4, holds="four digits a byte, weights 240-255"),
        Field("d", "f16", holds="scale"),
    ),
)


def _digits(packed: UInt8[Array, "*n run"], count: int) -> UInt8[Array, "*n rows 16"]:
    """The first ``count`` digits of each byte, digit by digit, in rows of 16."""
    powers = np.array([1, 3, 9, 27, 81], np.uint8)[:count, None]
    rest = packed[..., None, :] * exact.library(packed).asarray(powers)
    digits = (rest.astype(np.uint16) * np.uint16(3) >> np.uint16(8)).astype(np.uint8)
    return digits.reshape(*packed.shape[:-1], -1, 16)


def _codes(qs: UInt8[Array, "*n 48"], qh: UInt8[Array, "*n 4"]) -> Int8[Array, "*n 16 16"]:
    """-1, 0, 1 in weight order."""
    parts = [_digits(qs[..., :32], 5), _digits(qs[..., 32:], 5), _digits(qh, 4)]
    return exact.library(qs).concatenate(parts, axis=-2).astype(np.int8) - np.int8(1)


def decode(blocks: UInt8[Array, "n 54"]) -> Float32[Array, "n 16 16"]:
    qs, qh, d = LAYOUT.unpack(blocks)
    return exact.f32(_codes(qs, qh)) * d[:, None, None]


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 54"]:
    d, codes = ternary(x)
    # DIGITS: the last four bytes have no fifth
    shape = x.shape[:-1]
    qs = [fraction(codes[..., :160].reshape(*shape, 5, 32)), fraction(codes[..., 160:240].reshape(*shape, 5, 16))]
    qh = fraction(codes[..., 240:].reshape(*shape, 4, 4))
    return LAYOUT.pack(qs=exact.library(x).concatenate(qs, axis=-1), qh=qh, d=d)


def ternary(x: Float32[Array, "*n 256"]) -> tuple[Float32[Array, "*n"], Int32[Array, "*n 256"]]:
    """The largest magnitude, and codes 0, 1, 2 for the nearest of its negative, 0 and itself; halves away from 0."""
    lib = exact.library(x)
    d = lib.max(lib.abs(x), axis=-1)
    shares = exact.product(x, exact.reciprocal_or_zero(d)[..., None])
    return d, exact.low_of_long(exact.round_half_away(shares)) + 1


def fraction(digits: Int32[Array, "*n count run"]) -> Int[Array, "*n run"]:
    """Digits, the first most significant -> the byte that holds them."""
    powers = np.array([81, 27, 9, 3, 1], np.int32)[: digits.shape[-2], None]
    return ((digits * powers).sum(axis=-2) * 256 + 242) // 243


def dot(w: UInt8[Array, "rows blocks 54"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block sum * (d * d_a)."""
    qs, qh, d = LAYOUT.unpack(w)
    da, qa, _ = q8_k.unpack(a)
    # INTEGER PARTIAL SUMS: exact, at most 256 * 128
    partial = exact.int_dot(_codes(qs, qh), qa.reshape(-1, 16, 16))
    # FLOAT
    return exact.sum_of_rows(exact.product(d * da, exact.f32(partial)))
