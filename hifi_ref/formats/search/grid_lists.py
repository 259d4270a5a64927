"""Which rows of a grid an encoder looks at: for every point a list of the rows near it.

A group of 8 or 4 magnitudes is first rounded to a **point**: a digit a magnitude, of 2 bits (steps 1, 3, 5) or 3 bits
(1, 3 to 15), packed into one integer. Few points are rows of the grid. For every other point a list holds the rows near
it: all at the smallest distance, then all at the next, as many different distances as the format asks for, each in grid
order.

Source: iq2xs_init_impl, iq3xs_init_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.formats import codebooks

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt16

    from hifi_ref.exact import Array


class Book(NamedTuple):
    """The lists of a grid, by point; a point of the grid has a list with itself alone."""

    width: int  # digits a point
    bits: int  # bits a digit
    top: int  # largest digit
    start: Int32[np.ndarray, "points"]
    length: Int32[np.ndarray, "points"]
    rows: UInt16[np.ndarray, "entries"]  # the lists, one after the other, as points
    row_number: UInt16[np.ndarray, "points"]  # of a point of the grid

    def digits(self, points: Int32[Array, "*n"]) -> list[Int32[Array, "*n"]]:
        return [points >> (self.bits * i) & (2**self.bits - 1) for i in range(self.width)]

    def pack(self, digits: Sequence[Int32[Array, "*n"]] | Int32[Array, "width *n"]) -> Int32[Array, "*n"]:
        return sum(digit << (self.bits * i) for i, digit in enumerate(digits))


@functools.cache
def book(name: str, distances: int) -> Book:
    """The lists of all rows within the first so many different distances of each point."""
    grid = codebooks.grid(name)
    width = grid.shape[1]
    values, digits = np.unique(grid, return_inverse=True)
    digits = digits.reshape(grid.shape).astype(np.float32)
    bits = 2 if len(values) == 3 else 3
    powers = 1 << bits * np.arange(width)

    # DISTANCES of all points to all rows: |p|^2 + |g|^2 - 2 p g, small integers
    points = np.indices((len(values),) * width).reshape(width, -1).T.astype(np.float32)
    distance = (points**2).sum(axis=1)[:, None] + (digits**2).sum(axis=1) - 2 * (points @ digits.T)
    farthest = distance.min(axis=1)
    for _ in range(distances - 1):
        farthest = np.where(distance > farthest[:, None], distance, np.inf).min(axis=1)
    farthest = np.where(distance.min(axis=1) == 0, 0, farthest)

    # LISTS, by distance, then by row
    of_point, of_row = np.nonzero(distance <= farthest[:, None])
    order = np.lexsort((of_row, distance[of_point, of_row], of_point))
    packed = (points.astype(np.int64) @ powers).astype(np.int32)
    row_points = (digits.astype(np.int64) @ powers).astype(np.int32)
    size = packed.max() + 1
    count, start, index = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.uint16)
    counts = np.bincount(of_point, minlength=len(points))
    count[packed], start[packed] = counts, np.cumsum(counts) - counts
    index[row_points] = np.arange(len(grid))
    return Book(width, bits, len(values) - 1, start, count, row_points[of_row[order]].astype(np.uint16), index)


class Lists(NamedTuple):
    """Which lists a format asks for: those of a grid, with the rows at so many different distances of each point."""

    grid: str
    distances: int

    @property
    def book(self) -> Book:
        return book(self.grid, self.distances)
