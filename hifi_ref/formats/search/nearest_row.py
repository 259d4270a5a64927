"""The nearest row of a grid: of a point's list the row with the least weighted squared error, the first of equals.

Where all errors are infinite or no numbers, the release stops the process; defined here as the first of the list.

Source: iq2_find_best_neighbour, iq3_find_best_neighbour, iq1_find_best_neighbour2 (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import mul, product
from hifi_ref.formats.search.grid_lists import Book, Lists

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from hifi_ref.exact import Array

# No sum of errors that wins is larger
LARGEST = np.finfo(np.float32).max


class Target(NamedTuple):
    """What the rows are to come near: x[i] ~ scale * (slope * digit i + offset), squared errors counting w[i]."""

    x: Float32[Array, "digits *groups"]
    w: Float32[Array, "digits *groups"]
    slope: int
    offset: Float32[Array, "*groups"] | np.float32

    def errors(self, scale: Float32[Array, "*groups"], top: int) -> Float32[Array, "digits steps *groups"]:
        """What each digit costs at each step."""
        lib = exact.library(scale)
        steps = np.arange(top + 1, dtype=np.float32).reshape(-1, *[1] * scale.ndim)
        steps = np.float32(self.slope) * steps + self.offset
        spread = lib.broadcast_to(scale, (len(self.x), top + 1, *scale.shape))
        diff = product(spread, lib.broadcast_to(steps, spread.shape), "row difference") - self.x[:, None]
        return mul(mul(self.w[:, None], diff), diff, "row error")


class Rows(NamedTuple):
    """For each scale tried and each group: the nearest row, and the point it was looked up by."""

    rows: Int32[Array, "trials groups subs"]
    points: Int32[Array, "trials groups subs"]


@exact.has_faster_text
def nearest_rows(
    lists: Lists,
    target: Target,
    scales: Float32[Array, "trials subs"],
    inverses: Float32[Array, "trials subs"],
    digits: Callable[[Array, Array], Sequence[Int32[Array, "groups subs"]]],
) -> Rows:
    """The nearest rows for each scale tried, of those in the list of the point with digits(x, inverse).

    The groups of a sub-block share its scale. Sums of errors are added first digit to last.
    """
    points = [lists.book.pack(digits(target.x, inverse)) for inverse in inverses]
    rows = [_nearest_rows(lists.book, target, scale, p) for scale, p in zip(scales, points, strict=True)]
    return Rows(np.stack(rows), np.stack(points))


def _nearest_rows(
    book: Book, target: Target, scale: Float32[Array, "subs"], points: Int32[Array, "groups subs"]
) -> Int32[np.ndarray, "groups subs"]:
    # PAIRS of a group and an entry of its list, group after group
    count = book.length[points].reshape(-1)
    first = np.cumsum(count) - count
    group = np.repeat(np.arange(points.size), count)
    entry = np.arange(len(group)) + np.repeat(book.start[points].reshape(-1) - first, count)

    # ERRORS of all pairs, digit after digit
    errors = target.errors(np.broadcast_to(scale, points.shape), book.top).reshape(book.width, -1)
    total: Any = np.float32(0)
    for i, digit in enumerate(book.digits(book.rows[entry].astype(np.int32))):
        total = total + errors[i][digit * points.size + group]

    # THE FIRST OF THE LEAST
    least = np.fmin.reduceat(total, first)
    candidate = np.where(total == np.repeat(least, count), entry, len(book.rows))
    winner = np.minimum.reduceat(candidate, first)
    winner = np.where(least < LARGEST, winner, book.start[points].reshape(-1))
    return book.rows[winner].astype(np.int32).reshape(points.shape)
