"""Groups of weights along a row, and the range of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape


def extremes(x: Float32[Array, "..."], axis: int, keepdims: bool = False) -> tuple[Array, Array]:
    """The least and the largest of finite numbers; of zeros of both signs -0 is the least, and +0 the largest."""
    lib = exact.library(x)
    low, high = x.min(axis=axis, keepdims=keepdims), x.max(axis=axis, keepdims=keepdims)
    zero, negative = x == 0, lib.signbit(x)
    low = lib.where((low == 0) & (zero & negative).any(axis=axis, keepdims=keepdims), np.float32(-0.0), low)
    high = lib.where((high == 0) & (zero & ~negative).any(axis=axis, keepdims=keepdims), np.float32(0), high)
    return low, high


def group_of(n: int, group_size: int, system: str) -> int:
    """The weights a group in a row of n; -1 stands for the whole row. ValueError where they do not fill it."""
    size = n if group_size == -1 else group_size
    if not isinstance(size, int) or size < 1 or n % size:
        raise ValueError(f"{system}: rows of {n} weights hold no whole number of groups of {group_size}")
    return size


def matrix(shape: Shape, system: str) -> tuple[int, int]:
    """Rows and columns. ValueError where the shape is no matrix's."""
    if len(shape) != 2:
        raise ValueError(f"{system}: weights must be a matrix [out, in], not of shape {tuple(shape)}")
    return shape[0], shape[1]
