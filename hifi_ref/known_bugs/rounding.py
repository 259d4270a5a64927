"""Roundings that take the place of the right one, and encoders that know single blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import f32
from hifi_ref.formats import FORMATS
from hifi_ref.known_bugs.bug import encode

# f32[n, block_size] -> u8[n, type_size]
Blocks = Callable[[np.ndarray], np.ndarray]
Rounding = Callable[[np.ndarray], np.ndarray]


# ROUNDING: float32 -> int32


def half_even(x: np.ndarray) -> np.ndarray:
    return exact.truncate(np.rint(x))


def half_away(x: np.ndarray) -> np.ndarray:
    return exact.truncate(exact.round_half_away(x))


def half_up(x: np.ndarray) -> np.ndarray:
    """floor(x + 1/2), which gives 1 for 0.49999997."""
    return exact.truncate(np.floor(x + np.float32(0.5)))


def half_away_by_adding(x: np.ndarray) -> np.ndarray:
    """trunc(x +- 1/2), which gives 1 for 0.49999997."""
    return exact.truncate(x + np.copysign(np.float32(0.5), x))


def towards_zero(x: np.ndarray) -> np.ndarray:
    return exact.truncate(x)


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a*b + c with one rounding: the product is exact in binary64, whose sum is seldom rounded twice."""
    return f32(np.float64(1) * a * b + c)


# ROWS


def by_block(name: str, blocks: Blocks) -> Callable:
    """A wrong encoder that knows single blocks and no importance. With importance, the right one."""
    f = FORMATS[name]

    def run(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        if weights is not None and name not in NO_IMPORTANCE:
            return encode(name, x, weights)
        with np.errstate(all="ignore"):
            return blocks(x.reshape(-1, f.block_size)).reshape(len(x), -1)

    return run


# Their encoders have no use for importance.
NO_IMPORTANCE = ("Q8_0", "Q8_1", "Q8_K", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "F32", "F16", "BF16")
