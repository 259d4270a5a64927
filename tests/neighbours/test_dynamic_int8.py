"""hifi_ref/neighbours/dynamic_int8.py: NumPy, GEMMs of XLA and the kernel give the same bits, near the float's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hifi_ref.neighbours import dynamic_int8

RNG = np.random.default_rng(11)
W = RNG.standard_t(4, (150, 1100)).astype(np.float32)
X = RNG.standard_normal((2, 3, 1100)).astype(np.float32)


def by_definition(codes, largest, x):
    """In whole numbers of 64 bits."""
    ours, largest_of_x = dynamic_int8.quantize_rows(x)
    sums = ours.astype(np.int64) @ codes.astype(np.int64).T
    n = np.float32(127)
    return sums.astype(np.int32).astype(np.float32) * ((largest_of_x / n)[:, None] * (largest / n)[None])


def test_all_ways_give_the_bits_of_the_definition():
    codes, largest = dynamic_int8.quantize_rows(W)
    expected = by_definition(codes, largest, X.reshape(-1, X.shape[-1]))
    ours = dynamic_int8.matmul(codes, largest, X)
    np.testing.assert_array_equal(ours.reshape(expected.shape), expected)
    for backend in (None, "interpret"):
        inside = jax.jit(lambda c, s, x, backend=backend: dynamic_int8.matmul(c, s, x, backend))
        made = inside(codes, largest, X)
        assert made.shape == (2, 3, 150)
        np.testing.assert_array_equal(np.asarray(made).view(np.uint32), ours.view(np.uint32))


def test_it_is_near_the_product_of_floats():
    codes, largest = dynamic_int8.quantize_rows(W)
    exact = X.astype(np.float64) @ W.astype(np.float64).T
    error = dynamic_int8.matmul(codes, largest, X) - exact
    assert np.sqrt((error**2).mean() / (exact**2).mean()) < 0.03


def test_rows_at_the_edges():
    x = np.zeros((5, 8), np.float32)
    x[1] = 1e-40
    x[2, 3] = -3e38
    x[3] = np.arange(8) - 3.5
    x[4] = np.linspace(-127, 127, 8)
    codes, largest = dynamic_int8.quantize_rows(x)
    again, again_largest = dynamic_int8.quantize_rows(jnp.asarray(x))
    np.testing.assert_array_equal(codes, again)
    np.testing.assert_array_equal(largest, again_largest)
    assert not codes[0].any() and codes[2].tolist() == [0, 0, 0, -127, 0, 0, 0, 0]
    assert codes[4].tolist() == [-127, -91, -54, -18, 18, 54, 91, 127]


def test_what_is_refused():
    codes, largest = dynamic_int8.quantize_rows(W)
    with pytest.raises(ValueError, match=r"a row of x has 3 values, but one of the weights 1100"):
        dynamic_int8.matmul(codes, largest, np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match=r"x\[0, 1\] is nan"):
        dynamic_int8.quantize_rows(np.array([[1, np.nan]], np.float32))
    with pytest.raises(ValueError, match="x must have two axes"):
        dynamic_int8.quantize_rows(np.ones(3, np.float32))
