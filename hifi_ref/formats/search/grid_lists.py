"""Which rows of a grid an encoder looks at: for every point a list of the rows near it, and a shorter list beside it.

A group of 8 or 4 magnitudes is first rounded to a **point**: a digit a magnitude, of 2 bits (steps 1, 3, 5) or 3 bits
(1, 3 to 15), packed into one integer. Few points are rows of the grid. For every other point a list holds the rows near
it: all at the smallest distance, then all at the next, as many different distances as the format asks for, each in grid
order.

**Short lists.** Let the errors of each digit grow, or stay, with every step away from the point's digit. Then a row
that strays from the point in all that another row of the list does, as far or farther and to the same side, has errors
at least as large in every digit. Rounded addition is monotonic, so its sum is at least as large too; and its distance
is larger, so it stands later in the list. Such a row never is the first of the least, and the short list goes without.

Source: iq2xs_init_impl, iq3xs_init_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.formats import codebooks

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int32, UInt16


class Book(NamedTuple):
    """The lists of a grid, by point; a point of the grid has a list with itself alone."""

    width: int  # digits a point
    bits: int  # bits a digit
    top: int  # largest digit
    start: Int32[np.ndarray, "points"]
    count: Int32[np.ndarray, "points"]
    rows: UInt16[np.ndarray, "entries"]  # the lists, one after the other, as points
    index: UInt16[np.ndarray, "points"]  # the row number of a point of the grid

    def digits(self, points: Int32[Array, "*n"]) -> list[Int32[Array, "*n"]]:
        return [points >> (self.bits * i) & (2**self.bits - 1) for i in range(self.width)]

    def pack(self, digits: list[Int32[Array, "*n"]]) -> Int32[Array, "*n"]:
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


class Shelf(NamedTuple):
    """Both lists of each point, by its number: its digits read in base top + 1, the first digit lowest."""

    first: UInt16[np.ndarray, "numbers few"]  # the first rows of the short lists, the last one repeated
    long: Bool[np.ndarray, "numbers"]  # whether the short list goes on
    start: Int32[np.ndarray, "2 numbers"]  # of the full lists, then of the short ones
    count: Int32[np.ndarray, "2 numbers"]
    rows: UInt16[np.ndarray, "entries"]  # with room to read eight entries beyond the last


@functools.cache
def shelf(name: str, distances: int, few: int) -> Shelf:
    """The lists of book(name, distances), laid out for reading a few rows of many points at once."""
    lists = book(name, distances)
    base = lists.top + 1
    points = lists.pack([*np.indices((base,) * lists.width).reshape(lists.width, -1)[::-1].astype(np.int32)])
    count = lists.count[points]
    start = np.cumsum(count) - count
    owner = np.repeat(np.arange(len(points)), count)
    rows = lists.rows[np.arange(len(owner)) + (lists.start[points] - start)[owner]]
    kept = ~_outdone(lists, points[owner].astype(np.int32), rows.astype(np.int32), owner, start, count)
    short = rows[kept]
    short_count = np.bincount(owner[kept], minlength=len(points))
    short_start = np.cumsum(short_count) - short_count
    first = short[short_start[:, None] + np.minimum(np.arange(few), short_count[:, None] - 1)]
    return Shelf(
        first,
        short_count > few,
        np.stack([start, short_start + len(rows)]).astype(np.int32),
        np.stack([count, short_count]).astype(np.int32),
        np.concatenate([rows, short, np.zeros(8, np.uint16)]),
    )


def _outdone(lists, points, rows, owner, start, count):
    """Which entries stray from their point in all that another of the same list does, to the same side, as far."""
    # A bit for each step away: bit j where the digit is more than j above or below that of the point
    steps = lists.top
    strayed = np.zeros(len(rows), np.uint64)
    for i, (digit, own) in enumerate(zip(lists.digits(rows), lists.digits(points), strict=True)):
        for j in range(steps):
            strayed |= (digit - own > j).astype(np.uint64) << np.uint64(2 * steps * i + j)
            strayed |= (own - digit > j).astype(np.uint64) << np.uint64(2 * steps * i + steps + j)
    outdone = np.zeros(len(rows), bool)
    for k in range(count.max()):
        # Entry k of each list against all of that list
        against = strayed[start + np.minimum(k, count - 1)][owner]
        outdone |= (against & ~strayed == 0) & (against != strayed)
    return outdone
