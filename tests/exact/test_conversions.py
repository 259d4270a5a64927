"""The narrow floats: every one of them widened, and every middle between two narrowed, as the release does."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np

from hifi_ref import exact
from reference import release
from tests.exact.helpers import (
    HARD,
    bit_list,
    each_lane,
    f4,
    rounded,
)


def converted(symbol: str, source: np.ndarray, target: type) -> np.ndarray:
    """A conversion function of the release: (const source *, target *, int64 count)."""
    source, out = np.ascontiguousarray(source), np.empty(source.shape, target)
    pointers = (ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(out.ctypes.data))
    getattr(release.base(), symbol)(*pointers, ctypes.c_int64(source.size))
    return out


HALVES = np.arange(65536, dtype=np.uint16)


def test_stored_f16_is_widened_as_any() -> None:
    finite = HALVES[HALVES & 0x7C00 != 0x7C00]
    assert np.array_equal(bit_list(exact.widened(finite, "F16")), bit_list(exact.widen_f16(finite)))


@each_lane
def test_widen_every_f16(lane: Callable) -> None:
    by_struct = f4([struct.unpack("<e", struct.pack("<H", h))[0] for h in range(65536)])
    assert np.array_equal(bit_list(converted("ggml_fp16_to_fp32_row", HALVES, f4)), bit_list(by_struct))
    assert np.array_equal(bit_list(lane(exact.widen_f16, HALVES)), bit_list(by_struct))


@cache
def around_halves() -> np.ndarray:
    """Every f16, every middle between two of them, and the floats next to both; then random bits."""
    values = HALVES.view(np.float16).astype(f4)
    values = values[np.isfinite(values)]
    following = np.nextafter(HALVES.view(np.float16), np.float16(np.inf)).astype(f4)
    middles = (HALVES.view(np.float16).astype(f4) + following) / 2
    x = np.concatenate([values, middles[np.isfinite(middles)], f4([65520, 65519.996, 65520.004, 1e38]), HARD])
    x = np.concatenate([x, np.nextafter(x, f4(np.inf)), np.nextafter(x, f4(-np.inf))])
    return np.concatenate([x, np.random.default_rng(11).integers(0, 2**32, 100000, dtype=np.uint32).view(f4)])


@each_lane
def test_narrow_f16(lane: Callable) -> None:
    x = around_halves()
    expected = converted("ggml_fp32_to_fp16_row", x, np.uint16)
    observed = np.asarray(lane(exact.narrow_f16, x))
    nan = np.isnan(x)
    assert np.array_equal(observed[~nan], expected[~nan])
    assert (observed[nan] & 0x7FFF == 0x7E00).all() and (expected[nan] & 0x7FFF == 0x7E00).all()
    widened = converted("ggml_fp16_to_fp32_row", expected, f4)
    assert np.array_equal(bit_list(lane(exact.round_f16, x)), bit_list(widened))


@each_lane
def test_bf16(lane: Callable) -> None:
    wide = converted("ggml_bf16_to_fp32_row", HALVES, f4)
    assert np.array_equal(bit_list(lane(exact.widen_bf16, HALVES)), bit_list(wide))
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (HALVES.astype(np.uint32)[:, None] << 16 | low).reshape(-1).view(f4)
    expected = converted("ggml_fp32_to_bf16_row_ref", x, np.uint16)
    observed = np.asarray(lane(exact.narrow_bf16, x))
    assert np.array_equal(observed, expected)
    nan = np.isnan(x)
    assert np.array_equal(observed[~nan], x[~nan].astype(ml_dtypes.bfloat16).view(np.uint16))


@each_lane
def test_every_e8m0_and_ue4m3(lane: Callable) -> None:
    codes = np.arange(256, dtype=np.uint8)
    halves = f4([rounded(Fraction(2) ** (e - 128)) for e in range(256)])
    assert np.array_equal(np.asarray(lane(exact.widen_e8m0_half, codes)), halves.view(np.uint32))
    with np.errstate(over="ignore"):
        wide = (codes & 0x7F).view(ml_dtypes.float8_e4m3fn).astype(f4) / 2
    wide[(codes & 0x7F) == 0] = 0
    expected = np.where(codes == 0x7F, f4(0), wide)
    observed = np.asarray(lane(exact.widen_ue4m3_half, codes))
    plain = codes != 0xFF
    assert np.array_equal(bit_list(observed[plain]), bit_list(expected[plain]))
    # The release's own reading: code 1 of a block, which stands for half a scale, in each sub-block.
    blocks = np.zeros((256, 36), np.uint8)
    blocks[:, 0], blocks[:, 4] = codes, 1
    assert np.array_equal(bit_list(observed), bit_list(release.decode("NVFP4", blocks)[:, 0]))
