"""A fused multiply-add rounds once, to the bit; products know their factors until they are rounded."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hifi_ref import exact
from hifi_ref.exact.profiles import Product, fused

LOOSE = exact.Fusing(frozenset())


def rounded_once(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """The float32 nearest to a*b + c, halves to even, found among the neighbours of what binary64 makes of it."""
    whole = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    near = np.float32(float(whole))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda v: (abs(Fraction(float(v)) - whole), int(v.view(np.uint32)) & 1))


@pytest.mark.parametrize("scale", [1.0, 1e-19, 1e-22, 1e18])
def test_fused_rounds_once(scale: float) -> None:
    """Among normal numbers and subnormal ones; sums that cancel nearly, and ties that binary64 alone would miss."""
    rng = np.random.default_rng(1)
    a, b, c = (rng.standard_normal((3, 300)) * [[scale], [scale], [scale**2]]).astype(np.float32)
    c[:100] = -(a[:100] * b[:100])
    # Half of the last place of c, and a little more or less
    a[100:200] = np.float32(1 + 2.0**-23) * c[100:200] * np.float32(2.0**-24)
    b[100:200] = 1
    expected = [rounded_once(*of) for of in zip(a, b, c, strict=True)]
    assert np.array_equal(fused(a, b, c), np.array(expected))


def test_a_tie_of_binary64_is_no_tie() -> None:
    """1 + 2^-24 is the middle of two floats; what lies 2^-80 beside it decides, and binary64 loses it."""
    one, middle = np.float32(1), np.float32(2.0**-24)
    for sign, expected in ((1, np.float32(1 + 2.0**-23)), (-1, one)):
        a = np.array([sign * 2.0**-40], np.float32)
        total = fused(a, np.array([2.0**-40], np.float32), np.array([one + 0], np.float32))
        assert total == 1
        b = np.float32(1) + np.float32(sign * 2.0**-23)
        assert fused(np.array([middle]), np.array([b]), np.array([one])) == expected


def test_a_product_is_added_unrounded_but_at_the_sites_named() -> None:
    a = np.array([1 + 2.0**-12], np.float32)
    minus = -(a * a)
    lost = np.float32(2.0**-24)
    assert exact.mul(a, a) + minus == 0
    with exact.fusing(LOOSE):
        for total in (exact.mul(a, a) + minus, minus + exact.mul(a, a), -(-exact.mul(a, a) - minus)):
            assert total == lost and not isinstance(total, Product)
        assert exact.mul(a[None], a).reshape(-1)[0:1] + minus == lost
        assert exact.rounded(exact.mul(a, a)) + minus == 0
        assert abs(exact.mul(a, a)) + minus == 0
        assert exact.madd(a, a, minus) == lost
    with exact.fusing(exact.Fusing(frozenset({"here"}))):
        assert exact.madd(a, a, minus, "here") == 0 and exact.madd(a, a, minus, "there") == lost
        assert exact.rounded(exact.mul(a, a), "here") + minus == 0


def test_of_two_products_the_left_one_is_fused() -> None:
    a, b = np.array([1 + 2.0**-12], np.float32), np.array([1 - 2.0**-12], np.float32)
    with exact.fusing(LOOSE):
        assert exact.mul(a, a) - exact.mul(b, b) == fused(a, a, -(b * b))


def test_conversions_of_arm64_saturate() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 3e9, -3e9, 2.7, -2.7], np.float32)
    assert exact.truncate(x).tolist() == [-(2**31)] * 5 + [2, -2]
    with exact.fusing(exact.Fusing(frozenset(), arm64=True)):
        assert exact.truncate(x).tolist() == [2**31 - 1, -(2**31), 0, 2**31 - 1, -(2**31), 2, -2]
        assert exact.low_of_long(x[:3]).tolist() == [-1, 0, 0]
        assert exact.narrow_f16(-x[2:3]) == 0x7E00
    assert exact.low_of_long(x[:3]).tolist() == [0, 0, 0]
