"""The lists of formats.search.grid_lists, laid out for reading a few rows of many points at once; and shorter ones.

**Short lists.** Let the errors of each digit grow, or stay, with every step away from the point's digit. Then a row
that strays from the point in all that another row of the list does, as far or farther and to the same side, has errors
at least as large in every digit. Rounded addition is monotonic, so its sum is at least as large too; and its distance
is larger, so it stands later in the list. Such a row never is the first of the least, and the short list goes without.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.formats.search.grid_lists import Lists

if TYPE_CHECKING:
    from jaxtyping import Bool, Int32, UInt16

# What is left to judge of a point's lists after the first few rows
NOTHING, SHORT_LIST, FULL_LIST = np.arange(3, dtype=np.uint8)


class Shelf(NamedTuple):
    """Both lists of each point, by its number: its digits read in base top + 1, the first digit lowest."""

    first: UInt16[np.ndarray, "numbers few"]  # the first rows of the short lists, the last one repeated
    long: Bool[np.ndarray, "numbers"]  # whether the short list goes on
    start: Int32[np.ndarray, "2 numbers"]  # of the full lists, then of the short ones
    length: Int32[np.ndarray, "2 numbers"]
    rows: UInt16[np.ndarray, "entries"]  # with room to read eight entries beyond the last


@functools.cache
def shelf(asked: Lists, few: int) -> Shelf:
    lists = asked.book
    base = lists.top + 1
    points = lists.pack([*np.indices((base,) * lists.width).reshape(lists.width, -1)[::-1].astype(np.int32)])
    count = lists.length[points]
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
