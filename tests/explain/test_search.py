"""What is recorded of a search is what the encoder does, and the optimum is one: nothing that is tried is better."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.explain import worked
from hifi_ref.explain.reading import read
from hifi_ref.explain.search import optimum
from hifi_ref.explain.search import trials as search
from hifi_ref.explain.search.data import search_data
from hifi_ref.explain.search.recording import recorded
from hifi_ref.formats import FORMATS

each_kind = pytest.mark.parametrize("name", search.KINDS)
TRIALS = {"Q4_K": 21, "Q6_K": 18, "IQ2_XXS": 13, "IQ4_NL": 15, "MXFP4": 0}


def blocks(name: str) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Made weights, normal ones, and ones of heavy tails; importance where the format cannot do without."""
    f, rng = FORMATS[name], np.random.default_rng(3)
    size = f.block_size
    drawn = [worked.made_weights(size), rng.standard_normal(size), rng.standard_t(3, size)]
    importance = rng.random(size).astype(np.float32) + 0.1 if f.requires_weights else None
    return [(x.astype(np.float32), importance) for x in drawn]


@each_kind
def test_no_trial_is_better_than_the_optimum(name: str) -> None:
    for x, importance in blocks(name):
        found = search.searches(name, x, importance)
        assert len(found) == (1 if FORMATS[name].block_size == 32 else len(found)) and found
        for one in found:
            # The rows that IQ2_XXS chooses once more at last can be worse.
            assert one.stop.error <= one.trials[0].error * (1.1 if name == "IQ2_XXS" else 1 + 1e-6)
            # Between lattice points of scale and min something better may hide, but it did in none of these.
            assert one.best.error <= one.stop.error * (1 + 1e-5) + 1e-9
            assert all(0 <= trial.error for trial in one.trials)
            if name in TRIALS:
                assert len(one.trials) - 1 == TRIALS[name]


@each_kind
def test_the_search_stops_with_what_the_block_stores(name: str) -> None:
    """The scales that are stored are those found, rounded to a share of the largest, or to the odd ones of them."""
    for x, importance in blocks(name):
        found = search.searches(name, x, importance)
        numbers = read(name, hr.encode(name, x, importance, lane="numpy"))
        scales = np.array([one.stop.scale for one in found])
        if name == "MXFP4":
            assert scales[0] == 2.0 ** (int(numbers["e"][0]) - 128)
            continue
        d = float(numbers["d"][0])
        if name == "IQ4_NL":
            assert d == np.float16(scales[0])
            continue
        kept = numbers["scale"].astype(float)
        stored = {"Q3_K": d * (kept - 32), "IQ2_XXS": d * (2 * kept + 1)}.get(name, d * kept)
        step = abs(d) * (2 if name == "IQ2_XXS" else 1)
        assert (abs(stored - scales) <= 0.51 * step + 1e-3 * abs(scales)).all()
        if name == "Q4_K":
            lows = np.array([one.stop.low for one in found])
            assert (abs(float(numbers["dmin"][0]) * numbers["min"] - lows) <= 0.51 * float(numbers["dmin"][0])).all()


def test_the_optimum_of_a_scale_is_exact() -> None:
    """Against a sweep of very many scales of both signs."""
    rng = np.random.default_rng(5)
    for codes in (np.arange(-4.0, 4), np.array([-12.0, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12])):
        for _ in range(5):
            x, w = rng.standard_normal(16), rng.random(16) + 0.1
            scale, _, least = optimum.scale(x, w, codes)
            sizes = np.linspace(0.02, 3, 4000)
            swept = min(optimum.error(x, w, codes, s) for s in np.concatenate([sizes, -sizes]))
            assert least <= swept + 1e-12 and least > swept - 0.002
            assert abs(optimum.error(x, w, codes, scale) - least) < 1e-9


def test_the_optimum_of_rows_is_that_of_all_rows() -> None:
    rng = np.random.default_rng(6)
    grid = rng.choice([1, 3, 5], (20, 4))
    x, w = abs(rng.standard_normal(8)), rng.random(8) + 0.1
    scale, _, least = optimum.rows(x, w, grid, 0.4)
    for s in np.linspace(0.2, 0.64, 100):
        every = (
            [(w[:4] * (x[:4] - s * a) ** 2).sum() for a in grid],
            [(w[4:] * (x[4:] - s * a) ** 2).sum() for a in grid],
        )
        assert least <= (min(every[0]) + min(every[1])) / (w * x * x).sum() + 1e-4


@each_kind
def test_all_zero_weights_are_no_matter(name: str) -> None:
    f = FORMATS[name]
    zeros = np.zeros(f.block_size, np.float32)
    importance = np.ones_like(zeros) if f.requires_weights else None
    assert search_data(name, zeros, importance) is None
    zeros[-1] = 0.5
    found = search_data(name, zeros, importance)
    assert found is not None and found["sub_block"] == len(found["sub_blocks"]) - 1


def test_recording_leaves_nothing_behind_and_changes_nothing() -> None:
    before = sys.gettrace()
    x = worked.made_weights(256)
    made = []
    records = recorded(lambda: made.append(hr.encode("Q4_K", x, lane="numpy")), ("_least_error_with_min",))
    assert sys.gettrace() is before and len(records) == 1
    assert np.array_equal(made[0], hr.encode("Q4_K", x, lane="numpy"))
    with pytest.raises(ZeroDivisionError):
        recorded(lambda: 1 // 0, ())
    assert sys.gettrace() is before


def test_formats_without_a_search_to_show() -> None:
    assert search_data("Q8_0", worked.made_weights(32), None) is None
