"""The bound holds for every order of additions, comes close to the worst, and knows what it cannot bound."""

from __future__ import annotations

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.formats import FORMATS
from reference import release
from tests.dot_bound.helpers import activations, cancelling, rows_of, variants


def lanes_of_four(name: str, w: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales of the weights, exact sums of four products, and scales of the activations, as SIMD kernels have them.

    float32[rows, terms] twice, float32[terms]; for formats with one scale a block of 32 and no min.
    """
    f = FORMATS[name]
    d, *_ = f.layout.unpack(w.reshape(len(w), -1, f.type_size))
    codes = hr.decode(name, w).astype(np.float64).reshape(*d.shape, 8, 4) / np.where(d == 0, 1, d)[..., None, None]
    da, qa = FORMATS["Q8_0"].layout.unpack(a.reshape(-1, 34))
    sums = (codes * qa.reshape(-1, 8, 4)).sum(axis=-1).astype(np.float32)
    return np.repeat(d, 8, axis=1), sums.reshape(len(w), -1), np.repeat(da, 8)


def add_pairwise(x: np.ndarray) -> np.ndarray:
    while x.shape[1] > 1:
        odd = x[:, -1:] if x.shape[1] % 2 else x[:, :0]
        x = np.concatenate([x[:, 0:-1:2] + x[:, 1::2], odd], axis=1)
    return x[:, 0]


def add_in_order(x: np.ndarray) -> np.ndarray:
    return np.add.accumulate(x, axis=1)[:, -1]


def add_fused(d: np.ndarray, x: np.ndarray) -> np.ndarray:
    """fma over the terms: the products of 24 bits are exact in binary64; what that rounds is far below the bound."""
    total = np.zeros(len(x), np.float32)
    for i in range(x.shape[1]):
        total = (d[:, i].astype(np.float64) * x[:, i] + total).astype(np.float32)
    return total


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q8_0", "IQ4_NL"])
@pytest.mark.parametrize("n", [256, 4096])
def test_any_order_with_or_without_fused_products_lies_within_the_bound(name: str, n: int) -> None:
    rng = np.random.default_rng(5)
    for w, a in (
        (rows_of(name, rng, 100, n), activations(name, rng, n)),
        (rows_of(name, rng, 100, n, "heavy tails"), activations(name, rng, n, "heavy tails")),
        cancelling(name, rng, 100, n),
    ):
        found = hr.dot_exact(name, w, a)
        dw, sums, da = lanes_of_four(name, w, a)
        terms = (dw * sums) * da
        ranked = np.sort(terms, axis=1)
        orders = {
            "forwards": add_in_order(terms),
            "backwards": add_in_order(terms[:, ::-1]),
            "ascending": add_in_order(ranked),
            "positive first": add_in_order(ranked[:, ::-1]),
            "pairwise": add_pairwise(terms),
            "fused": add_fused(dw * da, sums),
            "scales first": add_in_order((dw * da) * sums),
            "fused backwards": add_fused((dw * da)[:, ::-1], sums[:, ::-1]),
            "activations' scales last": add_in_order((da * sums) * dw),
        }
        for order, result in orders.items():
            assert found.holds(result).all(), (order, (found.error(result) / found.bound).max())


def test_the_worst_rounding_comes_close_to_the_bound() -> None:
    """After 2^23, n terms of 0.5 + 2^-24 are rounded up by almost a half each: a bound a tenth smaller is wrong."""
    n = 4096
    x = np.full((1, n), 0.5 + 2.0**-24, np.float32)
    x[0, 0] = 2.0**23
    found = hr.dot_exact("F32", x.view(np.uint8), np.ones(n, np.float32).view(np.uint8))
    result = add_in_order(x)
    assert found.holds(result).all()
    assert (found.error(result) / found.bound).max() > 0.9


def test_lanes_that_cancel_inside_a_block_still_count() -> None:
    """Sums of whole blocks may be 0 where a kernel's lanes are large: the bound must not be 0 there."""
    rng = np.random.default_rng(6)
    w = np.zeros((50, 64, 18), np.uint8)
    w[..., :2] = rng.uniform(0.5, 1, (50, 64, 1)).astype(np.float16).view(np.uint8)
    # Weights 0-3 are 7, weights 4-7 are -7, the others 0
    w[..., 2:6], w[..., 6:10], w[..., 10:] = 0x8F, 0x81, 0x88
    a = np.zeros((64, 34), np.uint8)
    a[:, :2] = rng.uniform(0.5, 1, (64, 1)).astype(np.float16).view(np.uint8)
    a[:, 2:] = 127
    w, a = w.reshape(50, -1), a.reshape(-1)
    found = hr.dot_exact("Q4_0", w, a)
    assert (found.value == 0).all() and (found.bound > 0).all()
    dw, sums, da = lanes_of_four("Q4_0", w, a)
    lanes = add_fused(dw * da, np.where(np.arange(sums.shape[1]) % 8 == 0, sums, 0))
    others = add_fused((dw * da)[:, ::-1], np.where(np.arange(sums.shape[1]) % 8 == 0, 0, sums)[:, ::-1])
    assert found.holds(lanes + others).all()
    assert (lanes + others != 0).any()


def test_weights_that_are_0_count_where_the_offset_is_taken_from_stored_sums() -> None:
    """Where all codes of Q6_K are 32 every weight is 0; but SIMD kernels subtract 32 * bsums in lanes of their own."""
    rng = np.random.default_rng(7)
    w = np.zeros((20, 16, 210), np.uint8)
    w[..., 128:192] = 0xAA
    w[..., 192:208] = rng.integers(-128, 128, (20, 16, 16)).astype(np.int8).view(np.uint8)
    w[..., 208:] = rng.uniform(0.5, 1, (20, 16, 1)).astype(np.float16).view(np.uint8)
    w, a = w.reshape(20, -1), activations("Q6_K", rng, 4096)
    assert (hr.decode("Q6_K", w) == 0).all()
    found = hr.dot_exact("Q6_K", w, a)
    assert (found.value == 0).all()
    for variant in variants()[0]:
        assert found.holds(release.dot("Q6_K", w, a, variant, generic=False)).all()


def test_where_float32_can_overflow_there_is_no_bound() -> None:
    large = np.array([[3e38, 3e38, -3e38]], np.float32)
    found = hr.dot_exact("F32", large.view(np.uint8), np.ones(3, np.float32).view(np.uint8))
    assert found.value[0] == np.float32(3e38) and np.isinf(found.bound[0])
    assert found.holds(np.array([np.inf], np.float32)).all() and not found.holds(np.array([np.nan], np.float32)).any()
