"""What the tests of the arithmetic share: two judges, hard operands, and the lanes that a function is run in.

XLA flushes subnormal numbers to zero, so in the JAX lane a result counts only where nothing on the way to it is one.
Everywhere else every bit must be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

f4 = np.float32
TINY, LARGEST = 2.0**-126, float(np.finfo(f4).max)


# THE JUDGES


def rounded(exact_value: Fraction) -> float:
    """A rational number to binary32: nearest, ties to even, subnormals kept, overflow to infinity."""
    if not exact_value:
        return 0.0
    size = abs(exact_value)
    unit = Fraction(2) ** (max(_floor_log2(size), -126) - 23)
    value = round(size / unit) * unit
    return math.copysign(float(value) if value <= LARGEST else math.inf, exact_value)


def _floor_log2(x: Fraction) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def in_binary64(ufunc: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The operation in binary64, rounded once more: with 53 bits, more than 2 * 24 + 1, the first rounding is harmless.

    test_two_judges_agree holds it against rational numbers.
    """

    def judge(*operands: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return ufunc(*(o.astype(np.float64) for o in operands)).astype(f4)

    return judge


judge_mul, judge_add, judge_div, judge_sqrt = map(in_binary64, (np.multiply, np.add, np.divide, np.sqrt))


def bit_list(x: Any) -> np.ndarray:
    """Bits, one pattern for all NaN."""
    x = np.asarray(x)
    return np.where(np.isnan(x), np.uint32(0x7FC00000), x.view(np.uint32)) if x.dtype == f4 else x


def is_subnormal(x: np.ndarray) -> np.ndarray:
    """Also 2^-126, which a value that is flushed may round to."""
    return (x != 0) & (abs(x) <= f4(TINY))


# THE OPERANDS


def _neighbours(*values: float) -> np.ndarray:
    x = np.array(values, f4)
    with np.errstate(all="ignore"):
        x = np.concatenate([x, np.nextafter(x, f4(np.inf)), np.nextafter(x, f4(-np.inf))])
    return np.unique(x.view(np.uint32)).view(f4)


POWERS = [2.0**e for e in (-149, -148, -127, -126, -125, -103, -64, -24, -12, -1, 0, 1, 12, 22, 23, 24, 63, 126, 127)]
SIZES = _neighbours(*POWERS, 0.0, 0.1, 1 / 3, 0.5, 1.5, 3, 7, 15, 63, 127, 255, 2.0**-126 * (1 - 2.0**-23), LARGEST)
SIZES = np.concatenate([SIZES, f4([np.inf, np.nan, 1.0000001, 16777215.0, 12582912.0, 4194303.5])])
HARD = np.unique(np.concatenate([SIZES, -SIZES]).view(np.uint32)).view(f4)


def hard_pairs() -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(HARD, HARD)
    return a.reshape(-1), b.reshape(-1)


def halfway_pairs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Products that lie half a unit, or nearly so, from a binary32: 24-bit integers with few and with all bits."""
    few = (1 << rng.integers(0, 24, n)) + (1 << rng.integers(0, 24, n))
    full = (1 << 24) - rng.integers(1, 4096, n)
    odd = rng.integers(1 << 23, 1 << 24, n) | 1
    a = rng.choice(np.stack([few, full, odd]), axis=0).astype(f4) * f4(2.0**-24)
    return a, rng.permutation(a)


@cache
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 2**32, (2, 4000), dtype=np.uint32).view(f4)
    usual = rng.standard_normal((2, 8000)).astype(f4)
    return tuple(
        np.concatenate([*parts]) for parts in zip(hard_pairs(), halfway_pairs(rng, 4000), drawn, usual, strict=True)
    )


# THE LANES


def in_numpy(function: Callable, *operands: np.ndarray) -> Any:
    with np.errstate(all="ignore"):
        return function(*operands)


def eagerly(function: Callable, *operands: np.ndarray) -> Any:
    return function(*map(jnp.asarray, operands))


def compiled(function: Callable, *operands: np.ndarray) -> Any:
    return jax.jit(function)(*operands)


def beside_a_constant(function: Callable, *operands: np.ndarray) -> Any:
    """All but the first operand are constants of the function that is compiled."""
    return jax.jit(lambda first: function(first, *map(jnp.asarray, operands[1:])))(operands[0])


def behind_arithmetic(function: Callable, *operands: np.ndarray) -> Any:
    """Operands and results are part of a larger computation, which invites fusion."""

    def run(*operands: jax.Array) -> Any:
        flipped = [-o if o.dtype == f4 else o for o in operands]
        twice = [-o if o.dtype == f4 else o for o in flipped]
        return jax.tree.map(lambda r: r.reshape(-1)[::-1][::-1].reshape(r.shape), function(*twice))

    return jax.jit(run)(*operands)


JAX = (eagerly, compiled, beside_a_constant, behind_arithmetic)
each_lane = pytest.mark.parametrize("lane", (in_numpy, *JAX), ids=lambda lane: lane.__name__)
each_jax = pytest.mark.parametrize("lane", JAX, ids=lambda lane: lane.__name__)


def check(lane: Callable, function: Callable, operands: tuple, expected: np.ndarray, *on_the_way: np.ndarray) -> None:
    """function(*operands) == expected, bit for bit; and in the JAX lane a faint result where one was flushed."""
    observed = np.asarray(lane(function, *operands))
    same = bit_list(observed) == bit_list(expected)
    if lane is not in_numpy:
        floats = [v for v in (*operands, *on_the_way, expected) if np.asarray(v).dtype == f4]
        flushed = np.any([np.broadcast_to(is_subnormal(v), same.shape) for v in floats], axis=0)
        same |= flushed
    if not same.all():
        at = np.argwhere(~same)[0]
        shown = [np.broadcast_to(o, same.shape)[tuple(at)] for o in operands]
        wrong = f"{observed[tuple(at)]!r}, not {np.asarray(expected)[tuple(at)]!r}"
        pytest.fail(f"{(~same).sum()} of {same.size} are wrong; {shown} gives {wrong}")
