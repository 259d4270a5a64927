"""What the bound needs to know of a row, and the arithmetic without error that finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

# The most that one rounding to float32 changes, relative.
UNIT = 2.0**-24
SMALLEST_NORMAL = 2.0**-126
# Where every scale is a binary16 or larger than its smallest, with the smallest fraction that any formula has, 1/8.
SMALLEST_SCALE = 2.0**-27
# More than all scales of a weight, codes, and their sum over a block can multiply the scale of an activation by.
LARGEST_FACTOR = 2.0**50


class Parts(NamedTuple):
    """What is known of some rows."""

    terms: Float64[np.ndarray, "rows terms"]
    """Their sum is the true value."""
    size: Float64[np.ndarray, "rows"]
    """The sum of |products|."""
    faint: Float64[np.ndarray, "rows"]
    """The share of it in blocks where a product may underflow."""
    largest: Float64[np.ndarray, "rows"]
    """A number that no intermediate result of a product exceeds."""
    rounded: Float64[np.ndarray, "rows"] | float = 0.0
    """What decoding rounds off."""


def block_sums(
    x: Float64[np.ndarray, "rows blocks n"], q: Float64[np.ndarray, "blocks n"]
) -> Float64[np.ndarray, "rows blocks"]:
    """A block's sum of x times q. Exact where it is an integer of at most 53 bits times one scale."""
    return (x.transpose(1, 0, 2) @ q[:, :, None])[..., 0].T


def times(
    sums: Float64[np.ndarray, "rows blocks"], d: Float64[np.ndarray, "blocks"]
) -> Float64[np.ndarray, "rows 2*blocks"]:
    """Numbers of at most 53 bits times numbers of at most 24, exact: the upper 24 bits and the others apart."""
    shifted = sums * (2.0**29 + 1)
    upper = shifted - (shifted - sums)
    return np.concatenate([upper * d, (sums - upper) * d], axis=1)
