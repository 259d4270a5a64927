"""Encoders inside a caller's jit, on floats that it made there and of which a compiler knows more than of any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import hifi_ref as hr

X = (np.random.default_rng(0).standard_normal((256, 1024)) * 0.02).astype(np.float32)


def cut_off(x: Any) -> Any:
    """Its lowest bits are zero."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


# What is given, and what the caller makes of it: before floats passed a zero that only running tells, Q4_0 of bfloat16,
# Q4_0 of those cut off and Q5_1 of products were up to one block in a hundred other than the definition's.
MADE = {
    "bfloat16": (X.astype(ml_dtypes.bfloat16), lambda h: h.astype(jnp.float32)),
    "binary16": (X.astype(np.float16), lambda h: h.astype(jnp.float32)),
    "integers": ((X * 2000).clip(-127, 127).astype(np.int8), lambda h: h.astype(jnp.float32)),
    "products": (
        (X * 2000).clip(-127, 127).astype(np.int8), lambda h: h.astype(jnp.float32) * jnp.float32(0.013),
    ),
    "squares": (X, lambda x: x * jnp.abs(x)),
    "cut off": (X, cut_off),
}  # fmt: skip


@pytest.mark.parametrize("made", MADE)
def test_the_definitions_blocks(made: str) -> None:
    given, make = MADE[made]
    x = np.asarray(jax.jit(make)(given))
    names = ("Q4_0", "Q5_1", "Q8_0")

    def encoded(given: Any) -> list[Any]:
        return [hr.encode(name, make(given)) for name in names]

    for name, blocks in zip(names, jax.jit(encoded)(given), strict=True):
        assert np.array_equal(blocks, hr.encode(name, x, lane="numpy")), name


def test_encoded_decoded_and_multiplied_at_once() -> None:
    given, make = MADE["products"]
    x = np.asarray(jax.jit(make)(given[:32]))

    def pipeline(x: Any) -> tuple[Any, Any, Any]:
        blocks = hr.encode("Q5_1", x)
        return blocks, hr.decode("Q5_1", blocks), hr.dot("Q5_1", blocks, hr.encode("Q8_1", x[:1])[0])

    def in_numpy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        blocks = hr.encode("Q5_1", x, lane="numpy")
        activations = hr.encode("Q8_1", x[:1], lane="numpy")[0]
        return blocks, hr.decode("Q5_1", blocks, lane="numpy"), hr.dot("Q5_1", blocks, activations, lane="numpy")

    observed: Callable[..., Any] = jax.jit(lambda given: pipeline(make(given)))
    for one, expected in zip(observed(given[:32]), in_numpy(x), strict=True):
        assert np.asarray(one).tobytes() == expected.tobytes()
