"""What is added up over weights, and the losses that follow from it.

    rmse               the root of the mean of (x - y)^2
    normalized         the same over the root of the mean of x^2
    original           Hyper-Quantization's as it is meant: the mean over blocks of mean|x - y| / std(x)
    original_as_coded  as its code computes it: over the weights at one place of all blocks of a row
    weighted           normalized, each weight's squares times its importance

Deviations are unbiased. Where one is 0, its quotient is left out. Blocks of `original` are the configuration's own for
Hyper-Quantization's, and of 32 weights for all others; a row of `original_as_coded` is what one chunk holds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

# What a configuration's sums are, in this order.
SUMS = (
    "weights", "absolute", "blocks", "absolute_at_places", "places", "squares", "of_weights", "weighted_squares",
    "of_weighted",
)  # fmt: skip
LOSSES = ("rmse", "normalized", "original", "original_as_coded", "weighted")
# Weights a block of `original`, where a configuration has none of Hyper-Quantization's.
BLOCK = 32


class Scales(NamedTuple):
    """1 / std of each block's weights, and of the weights at each place of all blocks; 0 where that is 0."""

    of_blocks: Float64[np.ndarray, "blocks"]
    of_places: Float64[np.ndarray, "block"]

    @property
    def counts(self) -> tuple[int, int]:
        """How many blocks and places count."""
        return int(np.count_nonzero(self.of_blocks)), int(np.count_nonzero(self.of_places))


def scales(x: Float32[np.ndarray, "block blocks"]) -> Scales:
    """Of weights in blocks, one a column."""
    wide = x.astype(np.float64)
    return Scales(_inverse_std(wide, 0), _inverse_std(wide, 1))


def _inverse_std(x: np.ndarray, axis: int) -> np.ndarray:
    if x.shape[axis] < 2:
        return np.zeros(x.shape[1 - axis])
    std = x.std(axis=axis, ddof=1)
    return np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)


def sums(
    x: Float32[np.ndarray, "rows n"], y: Float32[np.ndarray, "rows n"], importance: Float32[np.ndarray, "n"] | None
) -> Float64[np.ndarray, "sums"]:
    """Those of weights x that became y; n a multiple of BLOCK."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        error = wide - y
        by = scales(x.reshape(-1, BLOCK).T)
        absolute = np.abs(error).reshape(-1, BLOCK)
        w = np.zeros(x.shape[1]) if importance is None else importance.astype(np.float64)
        weighted = (float((np.square(a) @ w).sum()) for a in (error, wide))
        return np.array([
            x.size, float(absolute.mean(axis=1) @ by.of_blocks), by.counts[0],
            float(absolute.mean(axis=0) @ by.of_places), by.counts[1],
            float(np.square(error).sum()), float(np.square(wide).sum()), *weighted,
        ])  # fmt: skip


def losses(sums: Float64[np.ndarray, "sums"]) -> dict[str, float | None]:
    """The losses by name; None where one is not finite, or nothing was counted for it."""
    n = dict(zip(SUMS, sums.tolist(), strict=True))
    return {
        "rmse": _root(n["squares"], n["weights"]),
        "normalized": _root(n["squares"], n["of_weights"]),
        "original": _quotient(n["absolute"], n["blocks"]),
        "original_as_coded": _quotient(n["absolute_at_places"], n["places"]),
        "weighted": _root(n["weighted_squares"], n["of_weighted"]),
    }


def _quotient(of: float, by: float) -> float | None:
    return of / by if by > 0 and math.isfinite(of / by) else None


def _root(of: float, by: float) -> float | None:
    found = _quotient(of, by)
    return None if found is None else math.sqrt(found)
