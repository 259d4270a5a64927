"""The knapsack against all choices there are, and its bound; and what it says where it does not follow all of them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hifi_ref.mixtures import knapsack
from hifi_ref.mixtures.knapsack import Optimum, least_error

# Few values, so that sizes and errors are often equal.
CANDIDATE = st.tuples(st.integers(1, 40), st.integers(0, 24).map(lambda n: n / 3))
GROUPS = st.lists(st.lists(CANDIDATE, min_size=1, max_size=5), min_size=1, max_size=5)


def arrays(groups: list[list[tuple[int, float]]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [np.array([size for size, _ in g], np.int64) for g in groups], [np.array([e for _, e in g]) for g in groups]


def all_choices(groups: list[list[tuple[int, float]]], budget: int) -> float | None:
    """The least error of all choices that fit."""
    size, error = (functools.reduce(np.add.outer, own).ravel() for own in arrays(groups))
    return min(error[size <= budget], default=None)


@settings(max_examples=200, deadline=None)
@given(GROUPS, st.integers(1, 160))
def test_no_choice_is_better(groups: list[list[tuple[int, float]]], budget: int) -> None:
    found, least = least_error(*arrays(groups), budget), all_choices(groups, budget)
    assert (found is None) == (least is None)
    if found is not None and least is not None:
        own = [group[c] for group, c in zip(groups, found.choice, strict=True)]
        assert (found.size, found.error) == pytest.approx(np.sum(own, axis=0))
        assert found.size <= budget and found.is_least
        assert found.error == pytest.approx(least, abs=1e-9) and found.bound <= least + 1e-9


def model(layers: int, bits: float) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Sizes and errors like those of a model's tensors, and bytes for so many bits a weight."""
    rng, own = np.random.default_rng(layers), np.array([2.0625, 2.625, 3.4375, 4.25, 4.5, 5.5, 6.5625, 8.5])
    weights = np.tile([1 << 24, 1 << 22, 1 << 22, 1 << 24, 7 << 23, 7 << 23, 7 << 23], layers)
    sizes = [(n * own / 8).astype(np.int64) for n in weights]
    errors = [rng.lognormal(0, 0.4) * 4.0**-own * rng.lognormal(0, 0.15, len(own)) for _ in weights]
    return sizes, errors, int(weights.sum() * bits / 8)


@pytest.mark.parametrize("bits", [2.2, 4.5, 7.9])
def test_a_model_of_224_tensors(bits: float) -> None:
    sizes, errors, budget = model(32, bits)
    found = least_error(sizes, errors, budget)
    assert found is not None and found.is_least and found.size <= budget
    # The bound is near, so it does not say little; and no tensor alone can be changed for the better.
    assert found.bound <= found.error <= found.bound * 1.01
    for group, chosen in enumerate(found.choice):
        fits = sizes[group] <= sizes[group][chosen] + budget - found.size
        assert errors[group][fits].min() == errors[group][chosen]


def test_where_not_all_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called the least that is not known to be; the bound still holds."""
    sizes, errors, budget = model(8, 4.5)
    best = least_error(sizes, errors, budget)
    monkeypatch.setattr(knapsack, "STATES", 3)
    found = least_error(sizes, errors, budget)
    assert best is not None and found is not None and best.is_least and not found.is_least
    assert found.size <= budget and found.bound <= best.error <= found.error < 1.05 * best.error


def test_what_needs_no_choice() -> None:
    one, two = np.array([5], np.int64), np.array([7, 9], np.int64)
    assert least_error([one], [np.array([0.5])], 4) is None
    assert least_error([one], [np.array([0.5])], 5) == Optimum([0], 5, 0.5, 0.5, True)
    found = least_error([two, two], [np.array([0.5, 0.0]), np.zeros(2)], 100)
    assert found is not None and found.choice[0] == 1 and found.error == 0 and found.is_least
    assert least_error([], [], 0) == Optimum([], 0, 0.0, 0.0, True)
