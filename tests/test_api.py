"""encode, decode, dot: what they take, what they give back, and the one sentence that they refuse with."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref import api, exact

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
BLOCKS = hr.encode("Q4_0", X)
ACTIVATIONS = hr.encode("Q8_0", X[0])


def with_value(value: float, *index: int) -> np.ndarray:
    x = X.copy()
    x[index] = value
    return x


REFUSED = {
    "unknown name": (lambda: hr.encode("q4_0", X), "no format is called 'q4_0'; there are F32 F16 "),
    "unknown lane": (lambda: hr.encode("Q4_0", X, lane="gpu"), "lane must be one of auto, numpy, jax, not 'gpu'"),
    "a list": (lambda: hr.encode("Q4_0", [1.0] * 32), "x must be a NumPy or jax array, not list"),
    "float64": (lambda: hr.encode("Q4_0", X.astype(np.float64)), "x must be float32, not float64"),
    "no axis": (lambda: hr.encode("Q4_0", np.array(1, np.float32)), "x must have at least one axis"),
    "a rest": (lambda: hr.encode("Q4_0", np.zeros(80, np.float32)), "a rest begins at index 64"),
    "NaN": (lambda: hr.encode("Q4_0", with_value(np.nan, 1, 5)), "x[1, 5] is nan: only finite values can be encoded"),
    "infinity": (lambda: hr.encode("Q4_0", with_value(-np.inf, 0, 31)), "x[0, 31] is -inf: only finite values"),
    "NaN in jax": (lambda: hr.encode("Q4_0", jnp.asarray(with_value(np.nan, 1, 0))), "x[1, 0] is nan: only finite"),
    "weights' shape": (lambda: hr.encode("Q4_0", X, X), "weights has shape (2, 32), but a row of x has 32 values"),
    "weights' type": (lambda: hr.encode("Q4_0", X, np.ones(32)), "weights must be float32, not float64"),
    "weights' value": (lambda: hr.encode("Q4_0", X, with_value(np.inf, 0, 3)[0]), "weights[3] is inf: only finite"),
    "no importance": (
        lambda: hr.encode("IQ2_XXS", np.zeros(256, np.float32)),
        "IQ2_XXS cannot be encoded without importance weights: pass weights=float32[256]",
    ),
    "blocks' type": (lambda: hr.decode("Q4_0", X), "blocks must be uint8, not float32"),
    "half a block": (lambda: hr.decode("Q4_0", np.zeros(27, np.uint8)), "a rest begins at index 18"),
    "out's shape": (
        lambda: hr.decode("Q4_0", BLOCKS, out=np.zeros(64, np.float32)),
        "out must be a ndarray of shape (2, 32)",
    ),
    "out's library": (
        lambda: hr.decode("Q4_0", BLOCKS, out=jnp.zeros((2, 32))),
        "out must be a ndarray of shape (2, 32)",
    ),
    "out's type": (lambda: hr.decode("Q4_0", BLOCKS, out=np.zeros((2, 32))), "out must be float32, not float64"),
    "dot's axes": (
        lambda: hr.dot("Q4_0", BLOCKS[0], ACTIVATIONS),
        "w must be uint8[rows, row_bytes] and a uint8[row_bytes]",
    ),
    "dot's lengths": (
        lambda: hr.dot("Q4_0", BLOCKS, np.zeros(68, np.uint8)),
        "a row of w holds 32 weights, but a holds 64 values",
    ),
    "dot's partner": (lambda: hr.dot("Q4_0", BLOCKS, np.zeros(36, np.uint8)), "a rest begins at index 34"),
    "NumPy in jit": (
        lambda: jax.jit(lambda x: hr.encode("Q4_0", x, lane="numpy"))(X),
        "the NumPy lane cannot run on an array that jax is tracing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_one_sentence_says_why(case: str) -> None:
    call, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_a_format_does_not_offer() -> None:
    with pytest.raises(NotImplementedError, match="Q8_1 has no dot in llama.cpp v0.5.0"):
        hr.dot("Q8_1", np.zeros((1, 36), np.uint8), np.zeros(36, np.uint8))


@pytest.mark.parametrize("lane", ["numpy", "jax", "auto"])
@pytest.mark.parametrize("to", [np.asarray, jnp.asarray], ids=["NumPy in", "jax in"])
def test_the_library_of_the_input_comes_back(to: Callable, lane: str) -> None:
    kind = type(to(X))
    blocks = hr.encode("Q4_0", to(X), lane=lane)
    values = hr.decode("Q4_0", blocks, lane=lane)
    sums = hr.dot("Q4_0", blocks, to(ACTIVATIONS), lane=lane)
    assert all(isinstance(result, kind) for result in (blocks, values, sums))
    assert [(r.shape, r.dtype) for r in (blocks, values, sums)] == [
        ((2, 18), np.uint8), ((2, 32), np.float32), ((2,), np.float32)
    ]  # fmt: skip
    assert np.array_equal(np.asarray(blocks), BLOCKS)


@pytest.mark.parametrize("lane", ["numpy", "jax"])
def test_any_number_of_axes_any_strides_and_nothing_at_all(lane: str) -> None:
    x = np.random.default_rng(1).standard_normal((3, 2, 64)).astype(np.float32)
    blocks = hr.encode("Q4_0", x, lane=lane)
    assert blocks.shape == (3, 2, 36)
    assert np.array_equal(hr.encode("Q4_0", np.repeat(x, 2, axis=-1)[..., ::2], lane=lane), blocks)
    assert np.array_equal(hr.encode("Q4_0", x.T.copy().T, lane=lane), blocks)
    values = hr.decode("Q4_0", blocks, lane=lane)
    assert np.array_equal(hr.decode("Q4_0", np.asfortranarray(blocks), lane=lane), values)
    assert hr.encode("Q4_0", x[:0], lane=lane).shape == (0, 2, 36)
    assert hr.decode("Q4_0", blocks[:0], lane=lane).shape == (0, 2, 64)


@pytest.mark.parametrize("lane", ["numpy", "jax"])
def test_decode_writes_to_out(lane: str) -> None:
    expected = hr.decode("Q4_0", BLOCKS)
    out = np.zeros((2, 32), np.float32)
    assert hr.decode("Q4_0", BLOCKS, lane=lane, out=out) is out and np.array_equal(out, expected)
    wide = np.zeros((2, 64), np.float32)
    hr.decode("Q4_0", BLOCKS, lane=lane, out=wide[:, ::2])
    assert np.array_equal(wide[:, ::2], expected) and not wide[:, 1::2].any()
    donated = jnp.zeros((2, 32), jnp.float32)
    assert np.array_equal(hr.decode("Q4_0", jnp.asarray(BLOCKS), lane=lane, out=donated), expected)


@pytest.mark.parametrize("lane", ["numpy", "jax"])
@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_stored_floats_are_widened_on_their_way(kind: str, lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_lane", lambda *_: lane)
    every = np.arange(1 << 16, dtype=np.uint16)
    wide = exact.widened(every, kind)
    finite, wide = every[np.isfinite(wide)], wide[np.isfinite(wide)]
    # F32 keeps what came to it, subnormal numbers too; Q4_0 repairs blocks that have them.
    for name in ("F32", "Q4_0"):
        blocks = api.encode_stored(name, finite, kind)
        assert blocks.tobytes() == hr.encode(name, wide, lane="numpy").tobytes()
    with pytest.raises(ValueError, match="x must be uint16, not float32"):
        api.encode_stored("F32", wide, kind)


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_narrow_floats_lay_no_seal_open(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No narrow float has the bits that a seal asks for, which a compiler can know: one block in 200 was another."""
    monkeypatch.setattr(api, "_lane", lambda *_: "jax")
    x = np.random.default_rng(0).standard_normal((1 << 8, 1 << 10)).astype(np.float32) * np.float32(0.02)
    stored = x.astype(np.float16).view(np.uint16) if kind == "F16" else (x.view(np.uint32) >> 16).astype(np.uint16)
    for name in ("Q4_0", "Q5_1", "Q8_0"):
        blocks = api.encode_stored(name, stored, kind)
        assert np.array_equal(blocks, hr.encode(name, exact.widened(stored, kind), lane="numpy"))


def test_rows_know_nothing_of_each_other() -> None:
    rng = np.random.default_rng(2)
    x, weights = rng.standard_normal((4, 512)).astype(np.float32), rng.random(512).astype(np.float32)
    for name in ("Q4_0", "Q4_K", "Q6_K"):
        together = hr.encode(name, x, weights)
        alone = [hr.encode(name, row, weights) for row in x]
        assert np.array_equal(alone, together)
