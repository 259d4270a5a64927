"""The fork's own eight-bit float: a sign, four bits of exponent, three of mantissa, no subnormal numbers, no NaN.

    value = (1 + mantissa / 8) * 2^(exponent - 7), and 0 for the byte 0; the byte 0x80 stands for -2^-7

This is not the E4M3 of the Open Compute Project.

Reference: ggml_hifi_fp32_to_e4m3, ggml_hifi_e4m3_to_fp32 (HIFI fork, 1de093b32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array

# The encoder takes the exponent from a logarithm that rounds up to a whole number this many units below a power of two.
_EARLY = {1: 2, 2: 2, 3: 2, 4: 1, 5: 1, 10: 1, 11: 1, 12: 2, 13: 2, 14: 2, 15: 2}


def _thresholds() -> Float32[Array, "127"]:
    """The least number that each byte 1, 2, ... stands for: the middle between two values, or a power of two."""
    code = np.arange(1, 128)
    exponent, mantissa = code >> 3, code & 7
    least = ((1 + np.where(mantissa > 0, mantissa - 0.5, 0) / 8) * 2.0 ** (exponent - 7)).astype(np.float32)
    early = np.array([_EARLY.get(e, 0) if m == 0 else 0 for e, m in zip(exponent, mantissa, strict=True)], np.uint32)
    return (least.view(np.uint32) - early).view(np.float32)


THRESHOLDS = _thresholds()


def widen(code: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    """Exact."""
    wide = code.astype(np.uint32)
    size = (wide & np.uint32(0x7F)) + np.uint32(120 << 3)
    value = exact.from_bits((wide >> np.uint32(7)) << np.uint32(31) | size << np.uint32(20))
    return exact.library(code).where(code == 0, np.float32(0), value)


def narrow(x: Float32[Array, "*n"]) -> UInt8[Array, "*n"]:
    """The byte of x >= 0: nearest, halves up within a power of two, but never across it; above 480 the byte of 480."""
    return (x[..., None] >= THRESHOLDS).sum(axis=-1).astype(np.uint8)
