"""Products, quotients and roots against exact rational numbers: hard operands first, then drawn ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hifi_ref import exact
from tests.exact.helpers import (
    HARD,
    LARGEST,
    bit_list,
    check,
    each_lane,
    f4,
    in_numpy,
    judge_add,
    judge_div,
    judge_mul,
    judge_sqrt,
    pairs,
    rounded,
)


def test_two_judges_agree() -> None:
    a, b = (operand[::3] for operand in pairs())
    a, b = a[np.isfinite(a) & np.isfinite(b) & (b != 0)], b[np.isfinite(a) & np.isfinite(b) & (b != 0)]
    operations = {judge_mul: Fraction.__mul__, judge_add: Fraction.__add__, judge_div: Fraction.__truediv__}
    for judge, operation in operations.items():
        rational = [rounded(operation(Fraction(x), Fraction(y))) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        assert np.array_equal(judge(a, b), f4(rational))
    for root, x in zip(judge_sqrt(abs(a)).tolist(), abs(a).tolist(), strict=True):
        below, above = (Fraction(root) + Fraction(float(np.nextafter(f4(root), f4(to)))) for to in (-1, np.inf))
        assert below**2 <= 4 * Fraction(x) <= above**2 or root == 0 == x
    for x in (0.1, 1 / 3, 2.0**-149, 2.0**-150, 3 * 2.0**-150, LARGEST, 2.0**128 - 2.0**103 - 2.0**80, 1e-40):
        assert rounded(Fraction(x)) == struct.unpack("<f", struct.pack("<f", x))[0]


@each_lane
def test_mul(lane: Callable) -> None:
    a, b = pairs()
    check(lane, exact.mul, (a, b), judge_mul(a, b))


@each_lane
def test_madd_rounds_twice(lane: Callable) -> None:
    a, b = pairs()
    c = np.roll(a, 77)
    product = judge_mul(a, b)
    check(lane, exact.madd, (a, b, c), judge_add(product, c), product)
    # c = -a*b shows a fused product at once: nothing may remain.
    inside = np.isfinite(product)
    a, b, product = a[inside], b[inside], product[inside]
    check(lane, exact.madd, (a, b, -product), judge_add(product, -product), product)


@each_lane
def test_products_of_a_seal_that_was_taken_once(lane: Callable) -> None:
    a, b = pairs()
    product = judge_mul(a, b)
    check(lane, lambda a, b, c: exact.sealed_by(a)[1](a, b) + c, (a, b, b), judge_add(product, b), product)


@each_lane
def test_div(lane: Callable) -> None:
    a, b = pairs()
    check(lane, exact.div, (a, b), judge_div(a, b))


@each_lane
@pytest.mark.parametrize("constant", [63, 127, 3, -8, -127.5, 0.1, 1.0000001])
def test_div_by_a_constant(lane: Callable, constant: float) -> None:
    a = pairs()[0][-9000:]
    b = np.full_like(a, constant)
    check(lane, lambda a: exact.div(a, f4(constant)), (a,), judge_div(a, b))
    check(lane, lambda a: exact.div(f4(constant), a), (a,), judge_div(b, a))
    check(lane, lambda a: exact.div(a, float(f4(constant))), (a,), judge_div(a, b))


@each_lane
def test_div_by_a_broadcast(lane: Callable) -> None:
    a = np.random.default_rng(2).standard_normal((64, 64)).astype(f4)
    b = np.random.default_rng(3).standard_normal((64, 1)).astype(f4)
    check(lane, exact.div, (a, b), judge_div(a, np.broadcast_to(b, a.shape)))
    check(lane, lambda a, b: exact.div(a, b[:, 0]), (a, b), judge_div(a, np.broadcast_to(b[:, 0], a.shape)))


@each_lane
def test_div_of_constants_by_a_broadcast(lane: Callable) -> None:
    table = np.linspace(3, 25, 64, dtype=f4)[:, None]
    b = np.random.default_rng(3).standard_normal(64).astype(f4)
    wanted = judge_div(np.broadcast_to(table, (64, 64)), np.broadcast_to(b, (64, 64)))
    check(lane, lambda b: exact.div(table, b), (b,), wanted)
    check(lane, lambda b: exact.div(table, exact.library(b).broadcast_to(b, (64, 64))), (b,), wanted)


@each_lane
def test_chains_of_divisions_stay_divisions(lane: Callable) -> None:
    a, b = pairs()
    c = np.roll(b, 5)
    first = judge_div(a, b)
    check(lane, lambda a, b, c: exact.div(exact.div(a, b), c), (a, b, c), judge_div(first, c), first)
    one = np.ones_like(a)
    inverse = judge_div(one, b)
    check(lane, lambda a, b: exact.mul(a, exact.div(f4(1), b)), (a, b), judge_mul(a, inverse), inverse)
    back = judge_div(one, inverse)
    check(lane, lambda b: exact.div(f4(1), exact.div(f4(1), b)), (b,), back, inverse)


@each_lane
def test_sqrt_and_its_inverse(lane: Callable) -> None:
    x = abs(np.concatenate(pairs()))
    root = judge_sqrt(x)
    check(lane, exact.sqrt, (x,), root)
    check(lane, lambda x: exact.div(f4(1), exact.sqrt(x)), (x,), judge_div(np.ones_like(x), root), root)


@each_lane
def test_reciprocal_or_zero(lane: Callable) -> None:
    x = pairs()[0]
    expected = np.where(x == 0, f4(0), judge_div(np.ones_like(x), x))
    check(lane, exact.reciprocal_or_zero, (x,), expected)


@each_lane
def test_mul_int_keeps_subnormals_in_both_lanes(lane: Callable) -> None:
    d = np.concatenate([HARD, np.random.default_rng(4).integers(0, 2**32, 3000, dtype=np.uint32).view(f4)])
    for q in (0, 1, -1, 2, 3, 7, 12, -12, 31, 127, -127, 128, -128):
        codes = np.full(d.shape, q, np.int32)
        observed = lane(exact.mul_int, d, codes)
        wrong = np.flatnonzero(bit_list(observed) != bit_list(judge_mul(d, codes.astype(f4))))
        assert wrong.size == 0, (q, d[wrong[:3]], np.asarray(observed)[wrong[:3]])


# DRAWN OPERANDS


ANY = st.floats(width=32)


@cache
def compiled_once(function: Callable) -> Callable:
    return jax.jit(function)


@given(st.lists(st.tuples(ANY, ANY, ANY), min_size=16, max_size=16))
@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_floats(drawn: list[tuple[float, float, float]]) -> None:
    a, b, c = np.array(drawn, f4).T.copy()
    product, quotient, root = judge_mul(a, b), judge_div(a, b), judge_sqrt(abs(a))
    for lane in (in_numpy, lambda function, *operands: compiled_once(function)(*operands)):
        check(lane, exact.mul, (a, b), product)
        check(lane, exact.madd, (a, b, c), judge_add(product, c), product)
        check(lane, exact.div, (a, b), quotient)
        check(lane, exact.sqrt, (abs(a),), root)
