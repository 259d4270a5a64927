"""Wrong conversions between binary32 and the narrow floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref import exact


def narrow_f16_cut(x: Any) -> np.ndarray:
    nearest = exact.narrow_f16(x)
    return np.where(abs(exact.widen_f16(nearest)) > abs(x), nearest - np.uint16(1), nearest).astype(np.uint16)


def narrow_f16_flushed(x: Any) -> np.ndarray:
    half = exact.narrow_f16(x)
    return np.where(half & np.uint16(0x7C00) == 0, half & np.uint16(0x8000), half)


def narrow_f16_half_away(x: Any) -> np.ndarray:
    """The 13 bits that are dropped are rounded by adding a half, which takes ties away from zero."""
    half, cut = exact.narrow_f16(x), narrow_f16_cut(x)
    values = exact.widen_f16(cut).astype(np.float64)
    above = exact.widen_f16((cut + np.uint16(1)).astype(np.uint16)).astype(np.float64)
    tie = np.isfinite(above) & (abs(np.asarray(x, np.float64)) * 2 == abs(values) + abs(above))
    return np.where(tie, cut + np.uint16(1), half).astype(np.uint16)


def widen_f16_flushed(h: Any) -> np.ndarray:
    return exact.widen_f16(np.where(h & np.uint16(0x7C00) == 0, h & np.uint16(0x8000), h))


def widen_f16_finite(h: Any) -> np.ndarray:
    """Infinities and NaN are taken for numbers from 2^16 on."""
    value = exact.widen_f16(h)
    number = (1024 + (h & np.uint16(0x3FF)).astype(np.float32)) * np.float32(64)
    number = np.where(h >> 15 != 0, -number, number)
    return np.where(h & np.uint16(0x7C00) == 0x7C00, number, value).astype(np.float32)


def narrow_bf16_cut(x: Any) -> np.ndarray:
    return (exact.bits(x) >> np.uint32(16)).astype(np.uint16)


def narrow_bf16_half_up(x: Any) -> np.ndarray:
    nan = np.isnan(x)
    return np.where(nan, exact.narrow_bf16(x), (exact.bits(x) + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)


def round_f16_cut(x: Any) -> np.ndarray:
    return exact.widen_f16(narrow_f16_cut(x))


def whole_half_even(x: Any) -> np.ndarray:
    return np.rint(x)


def whole_half_up(x: Any) -> np.ndarray:
    return np.floor(np.asarray(x, np.float64) + 0.5).astype(np.float32)


def whole_half_added(x: Any) -> np.ndarray:
    return np.trunc(x + np.copysign(np.float32(0.5), x)).astype(np.float32)


def whole_half_cut(x: Any) -> np.ndarray:
    return np.trunc(x + np.float32(0.5)).astype(np.float32)


def whole_down(x: Any) -> np.ndarray:
    return np.floor(x)


def whole_towards_zero(x: Any) -> np.ndarray:
    return np.trunc(x)
