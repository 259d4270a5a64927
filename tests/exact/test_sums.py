"""Sums in C's order, loops, and what is held in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hifi_ref import exact
from tests.exact.helpers import (
    bit_list,
    check,
    each_lane,
    f4,
    judge_add,
    judge_mul,
    pairs,
)


def in_order(terms: np.ndarray) -> np.ndarray:
    total = np.zeros(terms.shape[1:], f4)
    for term in terms:
        total = judge_add(total, term)
    return total


@each_lane
@pytest.mark.parametrize("n", [1, 2, 7, 16, 33])
def test_sums_run_from_first_to_last(lane: Callable, n: int) -> None:
    rng = np.random.default_rng(n)
    terms = (rng.standard_normal((n, 50)) * 10.0 ** rng.integers(-6, 6, (n, 50))).astype(f4)
    squares = judge_mul(terms, terms)
    assert np.array_equal(np.asarray(lane(exact.sum_in_order, terms)), in_order(terms))
    assert np.array_equal(np.asarray(lane(lambda t: exact.sum_in_order(exact.mul(t, t)), terms)), in_order(squares))

    def all_sums(x: Any) -> Any:
        return exact.running_sums(n, lambda i: (x[i], exact.mul(x[i], x[i]), exact.mul(x[i], f4(0.1))))

    expected = (terms, squares, judge_mul(terms, np.full_like(terms, 0.1)))
    for observed, addends in zip(lane(all_sums, terms), expected, strict=True):
        assert np.array_equal(bit_list(observed), bit_list(in_order(addends)))
    zeros = np.full((n, 3), -0.0, f4)
    assert not np.signbit(np.asarray(lane(exact.sum_in_order, zeros))).any()


@pytest.mark.parametrize("subs", [1, 3, 2000])
def test_the_terms_of_all_elements_at_once_give_the_same_sums(subs: int) -> None:
    x = np.random.default_rng(subs).standard_normal((33, subs)).astype(f4)
    x[:, 0] = -0.0

    def terms(i: Any) -> tuple[np.ndarray, ...]:
        return x[i], exact.mul(x[i], x[0]), x[1]

    one_by_one, at_once = (exact.running_sums(33, terms, at_once=at_once) for at_once in (False, True))
    for observed, expected in zip(at_once, one_by_one, strict=True):
        assert np.array_equal(bit_list(observed), bit_list(expected))


@each_lane
def test_fold_goes_in_order_and_carries_tuples(lane: Callable) -> None:
    x = np.arange(1, 6, dtype=np.int32)
    assert int(lane(lambda x: exact.fold(5, lambda i, s: s * 10 + x[i], x[0] * 0), x)) == 12345
    first, second = lane(lambda x: exact.fold(3, lambda i, s: (s[1], s[0] + x[i]), (x[0], x[1]), unroll=8), x)
    assert (int(first), int(second)) == (4, 5)


@each_lane
def test_pairs_add_as_two_floats(lane: Callable) -> None:
    a, b = pairs()
    c, d = np.roll(a, 9), np.roll(b, 9)
    both = (judge_add(a, c), judge_add(b, d))

    def add(a: Any, b: Any, c: Any, d: Any) -> Any:
        p, q = exact.pair(a, b), exact.pair(c, d)
        return exact.unpair(p + q) if exact.is_jax(a) else (p[0] + q[0], p[1] + q[1])

    for i in range(2):
        check(lane, lambda *o, i=i: add(*o)[i], (a, b, c, d), both[i])


@each_lane
def test_int_dot(lane: Callable) -> None:
    rng = np.random.default_rng(5)
    q, p = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 4, 2, 32), (4, 2, 32)))
    expected = (q.astype(object) * p.astype(object)).sum(axis=(2, 3))
    assert np.asarray(lane(exact.int_dot, q, p)).tolist() == expected.tolist()


@each_lane
def test_float_dot_adds_in_binary64(lane: Callable) -> None:
    rng = np.random.default_rng(6)
    for n in (1, 7, 8, 100, 1000):
        x = (rng.standard_normal((5, n)) * 10.0 ** rng.integers(-7, 7, (5, n))).astype(f4)
        y = rng.standard_normal(n).astype(f4)
        x[1] = -0.0
        x[2, n // 2 :] = -x[2, : n - n // 2]
        products = judge_mul(x, np.broadcast_to(y, x.shape))
        expected = []
        for row in products.tolist():
            total = 0.0
            for product in row:
                total += product
            expected.append(total)
        observed = lane(exact.float_dot, x, y)
        assert np.array_equal(bit_list(observed), bit_list(np.array(expected).astype(f4))), n


@each_lane
def test_walls_and_columns_change_nothing(lane: Callable) -> None:
    x = np.random.default_rng(10).integers(0, 2**32, (6, 64), dtype=np.uint32).view(f4)
    first, second = lane(lambda x: exact.wall(x, x > 1), x)
    assert np.asarray(first).tobytes() == x.tobytes() and np.array_equal(np.asarray(second), x > 1)
    assert np.asarray(lane(exact.wall, x)).tobytes() == x.tobytes()
    assert np.asarray(lane(lambda x: exact.columns(x, 16), x)).tobytes() == x.reshape(-1, 16).T.tobytes()
