"""The nearest of the first rows of each list, in a grid of eight steps, told by how far they are from the point.

Few rows of a short list are more than two steps from the point in any digit. So the errors of five steps a digit are
computed, not of eight, and those of a row are chosen by two bits a digit. All trials are judged at once, in one loop.

**Five errors will do.** Let the scale be positive and no w negative. Rounding is monotonic, so scale * step - x grows,
or stays, from step to step. Where it is not below zero one step above the point, nor the error there below that of the
point, errors grow, or stay, with all steps above; below the point likewise. Then the short list will do (grid_shelf).
And a row that is two steps away in a digit, or more, has at least the error of two steps there, and in the other digits
at least those of the point.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from hifi_ref import exact
from hifi_ref.exact import f32, wall
from hifi_ref.formats.search.grid_lists import Book, Lists
from hifi_ref.formats.search.nearest_row import LARGEST, Target
from hifi_ref.lanes.jax_lane.searches.grid_shelf import FULL_LIST, NOTHING, SHORT_LIST, shelf
from hifi_ref.lanes.jax_lane.searches.judging import CLOSE, HUGE

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex64, Float32, Int32, UInt8

    from hifi_ref.exact import Array

# Rows of a list that are judged: four a word, and a fourth word for what else is known of the list
ROWS, WORDS = 12, 4
# Bits of the fourth word, by digit: rows that are left out are two steps or more away; and two steps away is below
FAR, BELOW = 0, 4
# And of the list: rows that are near are left out; the first row is
LONG, STRAY = np.int32(1 << 8), np.int32(1 << 9)


@functools.cache
def close(asked: Lists) -> Complex64[np.ndarray, "2 numbers"]:
    """Four words by the number of a point, as two pairs: XLA reads each pair at one go.

    A row has a byte. Its bit i tells that digit i is above the point's, its bit 4 + i that it is below; both together
    stand for two steps, to the side where the list has such a row.
    """
    book, lists = asked.book, shelf(asked, ROWS)
    numbers, start, length = len(lists.long), lists.start[1], lists.length[1]
    owner = np.repeat(np.arange(numbers), length)
    rows = lists.rows[start[0] :][: len(owner)].astype(np.int32)
    point = np.indices((book.top + 1,) * book.width).reshape(book.width, numbers)[::-1]
    away = np.stack(book.digits(rows)) - point[:, owner]

    # ROWS that have a byte
    begin = start - start[0]
    is_below = ~np.logical_or.reduceat(away == 2, begin, axis=1)
    two = np.where(is_below, -2, 2)[:, owner]
    near = ((abs(away) < 2) | (away == two)).all(axis=0)
    bit = 1 << np.arange(book.width)[:, None]
    row = (bit * ((away > 0) | (away == two)) | (bit << 4) * ((away < 0) | (away == two))).sum(axis=0)

    # BYTES: of a list with fewer the last one is repeated
    count = np.add.reduceat(near.astype(np.int32), begin)
    first = np.cumsum(count) - count
    at = first[:, None] + np.minimum(np.arange(ROWS), np.maximum(count, 1)[:, None] - 1)
    found = np.append(row[near], 0)[at].astype(np.uint32).reshape(numbers, WORDS - 1, 4)
    words = (found << np.uint32(8) * np.arange(4, dtype=np.uint32)).sum(axis=-1, dtype=np.uint32)

    # THE LIST
    far = np.logical_or.reduceat((abs(away) > 1) & ~near, begin, axis=1)
    known = (bit * far << FAR | bit * is_below << BELOW).sum(axis=0)
    known = known | LONG * (count > ROWS) | STRAY * ~near[begin]
    return np.column_stack([words, known.astype(np.uint32)]).view(np.complex64).T.copy()


def judge(
    asked: Lists,
    target: Target,
    scales: Float32[Array, "trials lanes"],
    points: Int32[Array, "trials lanes"],
) -> tuple[Int32[Array, "trials lanes"], UInt8[Array, "trials lanes"]]:
    """The nearest of these rows, and what is left to judge."""
    words = wall(*(jnp.asarray(pair).at[points].get(mode="promise_in_bounds") for pair in close(asked)))
    *rows, known = (lax.bitcast_convert_type(part, np.int32) for pair in words for part in (pair.real, pair.imag))
    will_do = scales > 0
    rise: Any = LARGEST
    errors = []
    for i, digit in enumerate(asked.book.digits(points)):
        digit_errors, grows = _errors(asked.book, target, i, scales, digit)
        here, above, below, two_above, two_below = digit_errors
        errors.append((here, above, below, lax.select(_has(known, BELOW + i), two_below, two_above)))
        will_do = will_do & grows
        beyond = jnp.minimum(two_above, two_below) - here
        rise = jnp.minimum(rise, jnp.where(_has(known, FAR + i), beyond, LARGEST))
    base = functools.reduce(operator.add, [here for here, *_ in errors])

    least, best = jnp.full(points.shape, LARGEST), jnp.zeros(points.shape, np.int32)
    for j in range(ROWS):
        costs = [_pick(rows[j // 4], 8 * (j % 4) + i, *choices) for i, choices in enumerate(errors)]
        total = functools.reduce(operator.add, costs)
        better = total < least
        least, best = jnp.where(better, total, least), jnp.where(better, np.int32(j), best)

    # THE ROW of the best byte
    word = lax.select_n(best >> 2, *rows)
    byte = lax.shift_right_logical(word, (best & 3) << 3)
    found = points
    for i in range(asked.book.width):
        two = jnp.where(_has(known, BELOW + i), np.int32(-2), np.int32(2))
        found = found + (_pick(byte, i, np.int32(0), np.int32(1), np.int32(-1), two) << asked.book.bits * i)

    bound = jnp.minimum((base + rise) * (np.float32(1) - CLOSE), HUGE)
    is_done = (known & (LONG | STRAY) == 0) & ((known & np.int32(15 << FAR) == 0) | (least < bound))
    left = jnp.where(will_do, jnp.where(is_done, NOTHING, SHORT_LIST), FULL_LIST)
    # As one number: for a second one XLA would compute all of it again
    both = wall(found | left.astype(np.int32) << 16)
    return both & np.int32(0xFFFF), (both >> 16).astype(np.uint8)


def _errors(book: Book, target: Target, i: int, scales: Float32[Array, "*n"], digit: Int32[Array, "*n"]):
    """What digit i costs at the point, and one and two steps above and below; and whether errors grow on both sides."""
    mul, product = exact.sealed_by(scales)
    step = f32(target.slope * digit) + target.offset
    differences = [product(scales, step + np.float32(target.slope * k)) - target.x[i] for k in (0, 1, -1, 2, -2)]
    here, above, below, *two = (mul(mul(target.w[i], difference), difference) for difference in differences)
    up = (digit == book.top) | (above >= here) & (differences[1] >= 0)
    down = (digit == 0) | (below >= here) & (differences[2] <= 0)
    return (here, above, below, *two), up & down


def _has(word: Int32[Array, "*n"], bit: int) -> Bool[Array, "*n"]:
    return word & np.uint32(1 << bit).astype(np.int32) != 0


def _pick(word, bit, here, above, below, two):
    """By two bits of the word: what is above the point, below, both, or neither."""
    is_above, is_below = _has(word, bit), _has(word, bit + 4)
    return jnp.where(is_below, jnp.where(is_above, two, below), jnp.where(is_above, above, here))
