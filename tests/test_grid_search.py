"""The searches of the codebook formats: short lists against full ones, the two lanes, sorting, pieces."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hifi_ref import exact
from hifi_ref.formats.search import grid_lists, split_search
from hifi_ref.formats.search.grid_search import _digits
from hifi_ref.formats.search.nearest_row import Target, _short_list_will_do, nearest_rows
from hifi_ref.lanes.jax_lane import CPU_OPTIONS

BOOKS = {"IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 1, "IQ3_XXS": 2, "IQ3_S": 3, "IQ1_S": 3}


def first_of_least(book: grid_lists.Book, errors: np.ndarray, rows: np.ndarray) -> int:
    """The first of the rows with the least sum of errors[digit, step], added as an encoder does."""
    total = np.float32(0)
    for i, digit in enumerate(book.digits(rows.astype(np.int32))):
        total = total + errors[i][digit]
    return int(rows[np.argmin(total)])


@pytest.mark.parametrize("name", BOOKS)
def test_shelf_holds_the_lists_of_the_book(name: str) -> None:
    book, shelf = grid_lists.book(name, BOOKS[name]), grid_lists.shelf(name, BOOKS[name], 8)
    rng = np.random.default_rng(0)
    for digits in rng.integers(0, book.top + 1, (200, book.width)):
        point = book.pack([*digits])
        number = sum(digit * (book.top + 1) ** i for i, digit in enumerate(digits))
        full = book.rows[book.start[point] :][: book.length[point]]
        ours, short = (shelf.rows[shelf.start[k, number] :][: shelf.length[k, number]] for k in range(2))
        assert (ours == full).all()
        assert short[0] == full[0]
        assert set(short) <= set(full)
        assert shelf.long[number] == (len(short) > 8)
        assert (shelf.first[number][: len(short)] == short[:8]).all()


@pytest.mark.parametrize("name", BOOKS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), few_values=st.booleans())
def test_short_lists_hold_the_first_of_the_least(name: str, seed: int, few_values: bool) -> None:
    """For any errors that grow or stay with each step away from the point, ties and infinities among them."""
    book, shelf = grid_lists.book(name, BOOKS[name]), grid_lists.shelf(name, BOOKS[name], 8)
    rng = np.random.default_rng(seed)
    steps = book.top + 1
    digits = rng.integers(0, steps, book.width)
    point = book.pack([*digits])
    number = sum(digit * steps**i for i, digit in enumerate(digits))
    grown = rng.integers(0, 3, (book.width, steps)) if few_values else np.exp(rng.normal(0, 20, (book.width, steps)))
    grown = grown.astype(np.float32)
    errors = np.empty((book.width, steps), np.float32)
    for i, digit in enumerate(digits):
        errors[i, digit:] = np.cumsum(grown[i, digit:])
        errors[i, : digit + 1] = (errors[i, digit] + np.cumsum(np.append(0, grown[i, :digit]))).astype(np.float32)[::-1]
    will_do = _short_list_will_do(book, errors[:, :, None], np.array([point], np.int32))
    assert bool(will_do[0])
    full, short = (shelf.rows[shelf.start[k, number] :][: shelf.length[k, number]] for k in range(2))
    assert first_of_least(book, errors, short) == first_of_least(book, errors, full)


@pytest.mark.parametrize("name", ["IQ2_XS", "IQ3_S"])
def test_both_lanes_find_the_same_rows(name: str) -> None:
    """Weights of few values, so that many errors are equal, and points that are not the nearest ones."""
    book, shelf = grid_lists.book(name, BOOKS[name]), grid_lists.shelf(name, BOOKS[name], 8)
    rng = np.random.default_rng(3)
    lanes, trials = 512, 3
    shape = (book.width, lanes)
    x = np.where(rng.random(lanes) < 0.5, rng.integers(0, 16, shape), rng.normal(6, 5, shape))
    w = np.where(rng.random(lanes) < 0.5, 1, rng.integers(0, 3, shape))
    x, w = x.astype(np.float32), w.astype(np.float32)
    scales = np.exp(rng.normal(0, 0.3, (trials, lanes))).astype(np.float32)
    scales[2] = 1
    off = rng.random(shape) < 0.05

    def search(x, w, scales):
        def digits(k):
            rounded = _digits(exact.div(x, exact.library(x).broadcast_to(scales[k], x.shape)), book.top)
            return [*exact.library(x).where(off, np.int32(1), rounded)]

        return nearest_rows(book, shelf, Target(x, w, 2, np.float32(1)), scales, digits)

    expected = search(x, w, scales)
    observed = jax.jit(search, compiler_options=CPU_OPTIONS)(x, w, scales)
    for ours, theirs in zip(observed, expected, strict=True):
        assert (np.asarray(ours) == theirs).all()


@pytest.mark.parametrize("top", [2, 7])
def test_digits_are_rounded_alike_in_both_lanes(top: int) -> None:
    halves = np.arange(-8, 40, dtype=np.float32)
    near = np.concatenate([np.nextafter(halves, np.float32(-100)), halves, np.nextafter(halves, np.float32(100))])
    shares = np.concatenate([near, np.linspace(-(2.0**20), 2.0**20, 1001, dtype=np.float32)])
    assert (np.asarray(jax.jit(lambda shares: _digits(shares, top))(shares)) == _digits(shares, top)).all()


def test_ranks_are_those_of_a_stable_sort() -> None:
    x = np.random.default_rng(0).choice([-2, -1, -0.0, 0.0, 1e-37, 3], (32, 200)).astype(np.float32)
    expected = np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0)
    assert (split_search._ranks(x) == expected).all()
    assert (np.asarray(jax.jit(split_search._ranks)(x)) == expected).all()


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_pieces_come_back_whole(size: int, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 8)).astype(np.float32)
    weights = rng.standard_normal((5, 8)).astype(np.float32) if weighted else None

    def work(x, weights):
        y = x if weights is None else x * weights
        return y[..., :2], y[..., 0] > 0

    observed = jax.jit(lambda x, weights: exact.in_pieces(work, size, x, weights))(x, weights)
    for ours, theirs in zip(observed, work(x, weights), strict=True):
        assert (np.asarray(ours) == theirs).all()
