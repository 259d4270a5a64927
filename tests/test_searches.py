"""The fast texts of searches against their definitions; short lists against full ones, sorting, pieces."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hifi_ref import exact
from hifi_ref.formats import builds, hard_inputs
from hifi_ref.formats.search import grid_lists, single_steps, split_search
from hifi_ref.formats.search.grid_search import _digits
from hifi_ref.formats.search.nearest_row import Target, nearest_rows
from hifi_ref.lanes import canary
from hifi_ref.lanes.jax_lane import CPU_OPTIONS, watched
from hifi_ref.lanes.jax_lane.searches import FASTER_TEXTS, close_rows, grid_shelf
from hifi_ref.lanes.jax_lane.searches import split_search as fast_split_search
from hifi_ref.lanes.jax_lane.searches.judging import short_list_will_do

BUILDS = [pytest.param(None, id="strict"), pytest.param(exact.Fusing(frozenset()), id="fused")]
BOOKS = {"IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 1, "IQ3_XXS": 2, "IQ3_S": 3, "IQ1_S": 3}


def first_of_least(book: grid_lists.Book, errors: np.ndarray, rows: np.ndarray) -> int:
    """The first of the rows with the least sum of errors[digit, step], added as an encoder does."""
    total = np.float32(0)
    for i, digit in enumerate(book.digits(rows.astype(np.int32))):
        total = total + errors[i][digit]
    return int(rows[np.argmin(total)])


@pytest.mark.parametrize("name", BOOKS)
def test_shelf_holds_the_lists_of_the_book(name: str) -> None:
    book, shelf = grid_lists.book(name, BOOKS[name]), grid_shelf.shelf(grid_lists.Lists(name, BOOKS[name]), 8)
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
    book, shelf = grid_lists.book(name, BOOKS[name]), grid_shelf.shelf(grid_lists.Lists(name, BOOKS[name]), 8)
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
    will_do = short_list_will_do(book, errors[:, :, None], np.array([point], np.int32))
    assert bool(will_do[0])
    full, short = (shelf.rows[shelf.start[k, number] :][: shelf.length[k, number]] for k in range(2))
    assert first_of_least(book, errors, short) == first_of_least(book, errors, full)


@pytest.mark.parametrize("name", ["IQ3_XXS", "IQ3_S"])
def test_bytes_of_close_rows_hold_the_short_lists(name: str) -> None:
    """In their order, but for rows that are farther, which are told of."""
    lists = grid_lists.Lists(name, BOOKS[name])
    book, shelf = lists.book, grid_shelf.shelf(lists, close_rows.ROWS)
    words = close_rows.close(lists).T.copy().view(np.uint32)
    for number, (*rows, known) in enumerate(words):
        point = number >> 3 * np.arange(4) & 7
        short = shelf.rows[shelf.start[1, number] :][: shelf.length[1, number]]
        away = np.stack(book.digits(short.astype(np.int32)), axis=1) - point
        two = np.where(known >> 4 + np.arange(4) & 1, -2, 2)
        near = ((abs(away) < 2) | (away == two)).all(axis=1)
        codes = np.array(rows, np.uint32).view(np.uint8)[:, None] >> np.arange(8, dtype=np.uint8) & 1
        above, below = codes[:, :4].astype(int), codes[:, 4:].astype(int)
        told = np.where(above & below == 1, two, above - below)
        held = min(near.sum(), close_rows.ROWS)
        assert (told[:held] == away[near][:held]).all()
        assert (told[held:] == told[max(held - 1, 0)]).all()
        assert [bool(known & flag) for flag in (close_rows.LONG, close_rows.STRAY)] == [near.sum() > held, not near[0]]
        assert ((known >> np.arange(4) & 1) == (abs(away[~near]) > 1).any(axis=0)).all()


@functools.cache
def compiled(search: Callable[..., Any], settings: tuple[Any, ...]) -> Callable[..., Any]:
    """The fast text of a search; last of what it gives is where it marks nothing."""

    def watched_search(*operands: Any) -> Any:
        with exact.faster_texts(FASTER_TEXTS), exact.watching() as marks:
            found = search(*operands, *settings)
        subs = operands[0].shape[-1]
        marked = [mark.reshape(-1, subs).any(axis=0) for mark in marks]
        return [*found, ~functools.reduce(jax.numpy.logical_or, marked, jax.numpy.zeros(subs, bool))]

    return jax.jit(canary.tracing(watched_search, frozenset(), "cpu"), compiler_options=CPU_OPTIONS)


def agree(search: Callable[..., Any], operands: tuple[np.ndarray, ...], *settings: Any) -> float:
    """Both texts give the same wherever the fast one marks nothing; how often that is."""
    with np.errstate(all="ignore"):
        expected = search(*operands, *settings)
    *observed, unmarked = map(np.asarray, compiled(search, settings)(*operands))
    for ours, theirs in zip(observed, expected, strict=True):
        same = hard_inputs.same_floats(ours, theirs) if ours.dtype == np.float32 else ours == theirs
        assert same.reshape(-1, same.shape[-1])[:, unmarked].all()
    return unmarked.mean()


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", ["IQ2_XS", "IQ3_S", "IQ1_S"])
def test_the_nearest_rows(name: str, build: exact.Fusing | None) -> None:
    """Weights of few values, so that many errors are equal, and points that are not the nearest ones."""
    lists = grid_lists.Lists(name, BOOKS[name])
    book = lists.book
    rng = np.random.default_rng(3)
    groups, subs, trials = 4, 128, 3
    shape = (book.width, groups, subs)
    x = np.where(rng.random((groups, subs)) < 0.5, rng.integers(0, 16, shape), rng.normal(6, 5, shape))
    w = np.where(rng.random((groups, subs)) < 0.5, 1, rng.integers(0, 3, shape))
    x, w = x.astype(np.float32), w.astype(np.float32)
    scales = np.exp(rng.normal(0, 0.3, (trials, subs))).astype(np.float32)
    scales[2] = 1
    off = rng.random(shape) < 0.05

    def search(x, w, scales):
        def digits(x, inverse):
            rounded = _digits(exact.div(x, exact.library(x).broadcast_to(inverse, x.shape)), book.top)
            strayed = off.reshape(x.shape)
            return exact.library(x).where(strayed, np.int32(1), rounded)

        return nearest_rows(lists, Target(x, w, 2, np.float32(1)), scales, scales, digits)

    with exact.fusing(build):
        assert agree(search, (x, w, scales)) > 0.9


def drawn(n: int, subs: int, seed: int, steep: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sub-blocks and importance: normal, of few values, or over many magnitudes; zeros in both."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, subs)).astype(np.float32)
    x[:, ::3] = rng.choice(np.float32([-2, -1, -0.0, 0, 1, 3]), x[:, ::3].shape)
    if steep:
        x *= np.exp(rng.normal(0, 12, x.shape)).astype(np.float32)
    w = np.exp(rng.normal(0, 3, x.shape)).astype(np.float32) * (rng.random(x.shape) > 0.05)
    return x, w


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steep=st.booleans(), halves=st.booleans())
def test_the_best_split(seed: int, steep: bool, halves: bool) -> None:
    x, w = drawn(16 if halves else 32, 64, seed, steep)
    share = agree(split_search.best_places, (x, w), halves)
    assert steep or share > 0.9


@pytest.mark.parametrize(
    ("profile", "name", "halves"), [("gcc-x86-fma", "IQ1_S", False), ("clang-arm64", "IQ1_M", True)]
)
def test_the_best_split_of_a_build(profile: str, name: str, halves: bool) -> None:
    def search(x, w):
        with exact.fusing(builds.arithmetic(profile, name, True)):
            return split_search.best_places(x, w, halves)

    assert agree(search, drawn(16 if halves else 32, 256, 5, False)) > 0.9


def single_steps_within(x, w, codes, above_zero):
    low, high = (-(2**22), 15) if above_zero else (-4, 3)
    return single_steps.improve_by_single_steps(x, w, codes, codes, low, high, above_zero)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steep=st.booleans(), above_zero=st.booleans())
def test_single_steps(seed: int, steep: bool, above_zero: bool) -> None:
    x, w = drawn(16, 64, seed, steep)
    codes = np.random.default_rng(seed).integers(0 if above_zero else -4, 8, x.shape).astype(np.int32)
    share = agree(single_steps_within, (x, w, codes), above_zero)
    assert steep or share > 0.9


@pytest.mark.parametrize("top", [2, 7])
def test_digits_are_rounded_alike_in_both_lanes(top: int) -> None:
    halves = np.arange(-8, 40, dtype=np.float32)
    near = np.concatenate([np.nextafter(halves, np.float32(-100)), halves, np.nextafter(halves, np.float32(100))])
    shares = np.concatenate([near, np.linspace(-(2.0**20), 2.0**20, 1001, dtype=np.float32)])
    assert (np.asarray(jax.jit(lambda shares: _digits(shares, top))(shares)) == _digits(shares, top)).all()


def test_ranks_are_those_of_a_stable_sort() -> None:
    x = np.random.default_rng(0).choice([-2, -1, -0.0, 0.0, 1e-37, 3], (32, 200)).astype(np.float32)
    expected = np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0)
    assert (np.asarray(jax.jit(fast_split_search._ranks)(x)) == expected).all()


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_pieces_come_back_whole(size: int, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 8)).astype(np.float32)
    weights = rng.standard_normal((5, 8)).astype(np.float32) if weighted else None

    def encode(x, weights):
        exact.mark(x[..., 0] > 0)
        return x if weights is None else x * weights

    stand_in = SimpleNamespace(name="stand-in", encode=encode)
    monkeypatch.setitem(watched.PIECES, "stand-in", size)
    run = jax.jit(canary.tracing(lambda x, weights: watched.encode(stand_in, x, weights), frozenset(), "cpu"))
    blocks, marked = run(x, weights)
    assert (np.asarray(blocks) == encode(x, weights)).all() and (np.asarray(marked) == (x[..., 0] > 0)).all()
