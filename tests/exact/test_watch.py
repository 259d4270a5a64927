"""The watch: what is marked, what carries marks out of loops, and which blocks they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hifi_ref import exact
from tests.exact.helpers import HARD, TINY, each_lane, f4, judge_div, judge_mul, pairs

FAINT = 2.0**-103


def watched(function: Callable, *operands: np.ndarray) -> tuple[Any, np.ndarray]:
    """What the function gives in a computation that is watched, and its marks, joined."""

    def run(*operands: jax.Array) -> tuple[Any, Any]:
        with exact.watching() as marks:
            result = function(*operands)
        return result, [mark.any(axis=tuple(range(mark.ndim - 1))) for mark in marks]

    result, marks = jax.jit(run)(*operands)
    return result, np.any([np.asarray(mark) for mark in marks], axis=0) if marks else np.array(False)


@each_lane
def test_exponents_are_read_from_the_bits(lane: Callable) -> None:
    frexp = [math.frexp(v)[1] - 1 if TINY <= abs(v) < math.inf else -127 if abs(v) < 1 else 128 for v in HARD.tolist()]
    assert np.asarray(lane(exact.exponent, HARD)).tolist() == frexp


@pytest.mark.parametrize(("operation", "judge"), [(exact.mul, judge_mul), (exact.div, judge_div)])
def test_a_faint_result_of_operands_that_are_not_zero_is_marked(operation: Callable, judge: Callable) -> None:
    a, b = pairs()
    _, marks = watched(operation, a, b)
    result = judge(a, b)
    # Where an operand is itself below 2^-126 the machine may take it for a zero: its input was to be watched.
    sure = (abs(a) >= f4(TINY)) & (abs(b) >= f4(TINY)) & ~np.isnan(result)
    nonzero = np.isfinite(b) if operation is exact.div else np.full(a.shape, True)
    assert marks[sure & nonzero & (abs(result) < f4(FAINT))].all()
    assert not marks[sure & (abs(result) >= f4(FAINT))].any()


@pytest.mark.parametrize("operation", [exact.product, exact.ratio])
def test_what_cannot_be_faint_or_may_be_is_not_marked(operation: Callable) -> None:
    assert not watched(operation, *pairs())[1].any()


def test_within_unwatched_only_what_is_marked_by_hand_is_marked() -> None:
    def work(a: jax.Array, b: jax.Array) -> jax.Array:
        with exact.unwatched():
            result = exact.mul(a, b)
            exact.mark(a == 3)
        return result

    a = f4([1e-30, 3])
    assert watched(work, a, a)[1].tolist() == [False, True]


def test_an_input_is_marked_below_the_floor_by_its_bits() -> None:
    x = f4([0, -0.0, 2.0**-149, -(2.0**-46), 2.0**-45, -1, np.inf])
    result, marks = watched(exact.watched_input, x)
    assert marks.tolist() == [False, False, True, True, False, False, False]
    assert np.asarray(result).view(np.uint32).tolist() == x.view(np.uint32).tolist()


def test_numpy_marks_nothing() -> None:
    with exact.watching() as marks:
        exact.mul(f4([1e-30]), f4([1e-30]))
        exact.watched_input(f4([1e-40]))
        exact.mark(np.array([True]))
    assert not marks


@pytest.mark.parametrize("where", ["fold", "running_sums", "held"])
def test_marks_leave_a_loop(where: str) -> None:
    """The second column has one faint product, in the third row."""
    x = f4([[1, 1, 1], [2, 2, 2], [3, 1e-20, 3], [4, 4, 4]])

    def work(x: jax.Array) -> Any:
        if where == "fold":
            return exact.fold(4, lambda i, total: total + exact.mul(x[i], x[i]), jnp.zeros(3, np.float32))
        if where == "running_sums":
            return exact.running_sums(4, lambda i: (exact.mul(x[i], x[i]), x[i]))
        return exact.held(lambda: exact.mul(x, x))

    assert watched(work, x)[1].tolist() == [False, True, False]


def marked(shape: tuple[int, ...], at: tuple[int, ...], rows: int, blocks: int) -> list[list[bool]]:
    """The blocks that one mark in an array of that shape belongs to."""
    marks = np.zeros(shape, bool)
    marks[at] = True
    return np.asarray(exact.blocks_marked([jnp.asarray(marks)], rows, blocks)).tolist()


@pytest.mark.parametrize(
    ("shape", "at"),
    [((2, 3), (1, 0)), ((2, 3, 5), (1, 0, 4)), ((6,), (3,)), ((4, 12), (2, 7)), ((5, 7, 24), (0, 6, 13))],
)
def test_a_mark_belongs_to_its_block(shape: tuple[int, ...], at: tuple[int, ...]) -> None:
    assert marked(shape, at, 2, 3) == [[False, False, False], [True, False, False]]


def test_a_mark_of_a_row_belongs_to_all_of_its_blocks() -> None:
    assert marked((2,), (1,), 2, 3) == [[False] * 3, [True] * 3]
    assert marked((4, 2), (3, 1), 2, 3) == [[False] * 3, [True] * 3]


def test_a_mark_of_importance_belongs_to_a_block_of_every_row() -> None:
    assert marked((3,), (1,), 2, 3) == [[False, True, False]] * 2
    assert marked((1,), (0,), 2, 3) == [[True] * 3] * 2


def test_what_can_be_read_in_two_ways_is_read_in_both() -> None:
    assert marked((2,), (1,), 2, 2) == [[False, True], [True, True]]


def test_a_mark_that_belongs_to_no_block_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a mark of shape \(7, 2, 3\) belongs to none of 2 rows of 5 blocks"):
        marked((7, 2, 3), (0, 0, 0), 2, 5)
