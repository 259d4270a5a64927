"""Blocks that random data brings once in a million, and on which the reference once went wrong."""

from pathlib import Path

import numpy as np
import pytest

import hifi_ref as hr
from reference import release

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("lane", ["numpy", "jax"])
def test_a_scale_below_zero_wraps_around_and_still_moves_the_sums(lane: str) -> None:
    """Sub-block 10 gets a negative scale; its byte comes back to 255 in each pass while the running sums go on."""
    block = np.load(DATA / "wrapped_scale.npz")
    x, weights = block["x"].reshape(1, 256), block["w"].reshape(256)
    expected = release.encode("Q2_K", x, weights)
    assert hr.encode("Q2_K", x, weights, lane=lane).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["Q2_K", "Q4_K"])
@pytest.mark.parametrize("lane", ["numpy", "jax"])
def test_squares_of_errors_that_underflow_before_a_large_weight_counts(lane: str, name: str) -> None:
    """Weights of 1e-12 fitted almost exactly, of great importance: w * diff * diff is normal, diff * diff is not."""
    block = np.load(DATA / f"faint_squares_{name}.npz")
    x, weights = block["x"].reshape(1, 256), block["w"].reshape(256)
    expected = release.encode(name, x, weights)
    assert hr.encode(name, x, weights, lane=lane).tobytes() == expected.tobytes()


@pytest.mark.parametrize("lane", ["numpy", "jax"])
def test_the_first_sign_is_given_up_where_all_costs_overflow(lane: str) -> None:
    """A weight of 3e26 makes all importance of its super-block infinite, and costs of weights that are 0 NaN."""
    row = np.load(DATA / "nan_costs.npz")
    x, weights = row["x"].reshape(1, -1), row["w"]
    expected = release.encode("IQ2_XS", x, weights)
    assert hr.encode("IQ2_XS", x, weights, lane=lane).tobytes() == expected.tobytes()
