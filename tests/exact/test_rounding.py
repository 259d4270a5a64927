"""From floats to whole numbers, against rational numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from hifi_ref import exact
from tests.exact.helpers import (
    HARD,
    bit_list,
    each_lane,
    f4,
    judge_add,
)


def rational_map(x: np.ndarray, function: Callable[[Fraction], int]) -> list[int]:
    return [function(Fraction(float(v))) for v in x]


@cache
def rounding_cases() -> np.ndarray:
    rng = np.random.default_rng(7)
    halves = rng.integers(-(2**21), 2**21, 2000).astype(f4) + f4(0.5)
    special = f4([0.49999997, -0.49999997, 0.5, -0.5, 1.5, 2.5, 8388607.5, 8388608.0, 4194303.5, 4194303.0, 0.0, -0.0])
    x = np.concatenate([HARD, special, halves, np.nextafter(halves, f4(np.inf)), np.nextafter(halves, f4(-np.inf))])
    return np.concatenate([x, (rng.standard_normal(4000) * 10.0 ** rng.integers(-3, 7, 4000)).astype(f4)])


@each_lane
def test_nearest_int(lane: Callable) -> None:
    x = rounding_cases()
    inside = x[abs(x) <= 4194303]
    assert np.asarray(lane(exact.nearest_int, inside)).tolist() == rational_map(inside, round)
    # Beyond: the low 23 bits of x + 1.5 * 2^23, whatever they hold; a NaN's payload is the machine's.
    shifted = judge_add(x, np.full_like(x, 12582912.0))
    words = [struct.unpack("<I", struct.pack("<f", v))[0] for v in shifted[~np.isnan(x)].tolist()]
    expected = [(word & 0x7FFFFF) - 0x400000 for word in words]
    assert np.asarray(lane(exact.nearest_int, x[~np.isnan(x)])).tolist() == expected
    assert np.asarray(lane(exact.nearest_int, f4([np.nan, np.inf, -np.inf]))).tolist() == [0, -(2**22), -(2**22)]


@each_lane
@pytest.mark.parametrize(("low", "high"), [(0, 15), (-32, 31), (0, 3), (-4, 3), (0, 63)])
def test_rounded_code(lane: Callable, low: int, high: int) -> None:
    x = rounding_cases()
    x = x[abs(x) <= 4194303]
    expected = [min(max(k, low), high) for k in rational_map(x, round)]
    observed = np.asarray(lane(lambda x: exact.rounded_code(x, low, high), x))
    assert observed.dtype == f4 and observed.tolist() == expected


@each_lane
def test_round_half_away(lane: Callable) -> None:
    x = rounding_cases()
    x = x[np.isfinite(x)]
    whole = rational_map(x, lambda v: math.copysign(1, v) * math.floor(abs(v) + Fraction(1, 2)))
    expected = np.copysign(np.array(whole, f4), x)
    observed = np.asarray(lane(exact.round_half_away, x))
    assert np.array_equal(bit_list(observed), bit_list(expected))
    assert np.array_equal(np.asarray(lane(exact.round_half_away, f4([np.inf, -np.inf]))), f4([np.inf, -np.inf]))
    assert np.isnan(np.asarray(lane(exact.round_half_away, f4([np.nan, np.nan])))).all()


@each_lane
def test_truncate(lane: Callable) -> None:
    x = np.concatenate([rounding_cases(), f4([2147483520, 2147483648, -2147483648, -2147483904, 1e20])])
    lowest = -(2**31)
    expected = [int(v) if math.isfinite(v) and lowest <= v < 2**31 else lowest for v in x.tolist()]
    observed = np.asarray(lane(exact.truncate, x))
    assert observed.dtype == np.int32 and observed.tolist() == expected


@each_lane
def test_small_integer_helpers(lane: Callable) -> None:
    x = np.array([0, 127, 128, 255, 256, -128, -129, 300, -(2**31), 2**31 - 1], np.int32)
    assert np.asarray(lane(exact.as_int8, x)).tolist() == [((v + 128) & 255) - 128 for v in x.tolist()]
    assert np.asarray(lane(lambda x: exact.at_most(127, x), x)).tolist() == [min(127, v) for v in x.tolist()]
    assert np.asarray(lane(lambda x: exact.f32(exact.i32(x)), x[:5])).tolist() == x[:5].tolist()
