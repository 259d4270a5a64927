"""The nearest rows of many groups at once: first a few rows of each list for all groups, then the rest for those left.

The rows are found from the short lists of grid_shelf, once the errors themselves have shown that these will do. The
first few rows are judged for all lanes at once, a lane being a group of a sub-block, in a grid of eight steps by
close_rows; lanes with more to judge are then gathered, side by side, until none is left.

A build that fuses adds errors unrounded, which takes binary64. For all lanes the errors are rounded all the same: a row
that leads by more than such sums may differ has the least sum of the build, too. Lanes without such a row are left to
those gathered, which are judged as the build does.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hifi_ref import exact
from hifi_ref.exact import unpair, wall
from hifi_ref.formats.search.grid_lists import Lists
from hifi_ref.formats.search.nearest_row import LARGEST, Rows, Target
from hifi_ref.lanes.jax_lane.searches import close_rows
from hifi_ref.lanes.jax_lane.searches.grid_shelf import FULL_LIST, NOTHING, SHORT_LIST, shelf
from hifi_ref.lanes.jax_lane.searches.judging import (
    HUGE,
    UNSURE,
    as_one,
    doubted,
    held,
    judge,
    look,
    none_yet,
    pick,
    read,
    shelf_number,
    short_list_will_do,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

    from hifi_ref.exact import Array

# How many rows of a list are judged for all lanes alike, by grid: a multiple of 8
FEW = {"IQ1_S": 16, "IQ2_XXS": 24, "IQ2_XS": 24, "IQ2_S": 16, "IQ3_XXS": 8, "IQ3_S": 8}
# Lanes that are gathered at a time
BATCH = 1024


def nearest_rows(
    lists: Lists,
    target: Target,
    scales: Float32[Array, "trials subs"],
    inverses: Float32[Array, "trials subs"],
    digits: Callable[[Array, Array], Sequence[Int32[Array, "groups subs"]]],
) -> Rows:
    """formats.search.nearest_row.nearest_rows."""
    exact.mark(_may_underflow(target, scales))
    groups, subs = target.x.shape[1:]
    flat = Target(
        target.x.reshape(len(target.x), -1),
        target.w.reshape(len(target.w), -1),
        target.slope,
        jnp.broadcast_to(target.offset, (groups, subs)).reshape(-1),
    )
    scales_of_lanes, inverses_of_lanes = wall(jnp.tile(scales, (1, groups)), jnp.tile(inverses, (1, groups)))

    def digits_of_lanes(inverse):
        return [digit.reshape(-1) for digit in digits(flat.x, inverse)]

    is_fused = exact.fusing_now() is not None
    # Of a build's marks only those count that UNSURE stands for
    with exact.watching() if is_fused else exact.unwatched():
        rows, points = _nearest_rows(lists, flat, scales_of_lanes, inverses_of_lanes, digits_of_lanes)
    rows, points = (a.reshape(len(scales), groups, subs) for a in (rows, points))
    if is_fused:
        exact.mark(rows == UNSURE.astype(np.int32))
    return Rows(rows, points)


def _may_underflow(target: Target, scales: Float32[Array, "trials subs"]) -> Bool[Array, "subs"]:
    """Where a product of the errors may be below 2^-126; watching these products would cost a tenth of the search.

    A step is at least an eighth. An error scale * step - x that is not zero is then at least a sixteenth of the scale
    where x is below that, else a multiple of 2^-28 times the scale. With scales of at least 2^es and nonzero w of at
    least 2^ew its weighted square is at least 2^(ew + 2 (es - 28)). Sums of such squares are normal numbers where no w
    is below zero. Of a build scale * step is not rounded, which changes nothing of this.
    """
    sizes = exact.bits(target.w) & np.uint32(0x7FFFFFFF)
    # Zero is above all others
    least = jnp.min(sizes - np.uint32(1), axis=(0, 1))
    ew = exact.exponent(exact.from_bits(jnp.minimum(least, np.uint32(0x7F7FFFFF)) + np.uint32(1)))
    es = exact.exponent(jnp.min(jnp.abs(scales), axis=0))
    large = jnp.max(jnp.abs(scales), axis=0) >= np.float32(2.0**40)
    negative = jnp.min(target.w, axis=(0, 1)) < 0
    return (ew + 2 * es < -70) | (ew < -60) | (es < -60) | large | negative


def _nearest_rows(lists, target, scales, inverses, digits):
    book, listed = lists.book, shelf(lists, FEW[lists.grid])
    if exact.fusing_now() is not None:
        found, left = _first_rows_of_a_build(book, listed, target, scales, inverses, digits)
    else:
        points = wall(jax.vmap(lambda inverse: book.pack(digits(inverse)))(inverses))
        if book.width == 4:
            rows, left = close_rows.judge(lists, target, scales, points)
        else:
            rows, left = _first_rows(book, listed, target, scales, points)
        found = (rows | points << 16).astype(np.uint32)
    found = _finish(book, listed, target, scales, found, left)
    return (found & np.uint32(0xFFFF)).astype(np.int32), (found >> np.uint32(16)).astype(np.int32)


def _first_rows(book, shelf, target, scales, points):
    """The nearest of the first few rows of each lane's short list, of all trials at once; and what is left to judge."""
    number = wall(shelf_number(book, book.digits(points)))
    # Four rows a pair of words, which XLA reads at one go
    pairs = wall(*(look(jnp.asarray(pair), number) for pair in shelf.first.view(np.complex64).T.copy()))
    words = [lax.bitcast_convert_type(part, np.int32) for pair in pairs for part in (pair.real, pair.imag)]
    mul, product = exact.sealed_by(scales)
    values = [product(scales, np.float32(target.slope * step) + target.offset) for step in range(book.top + 1)]
    differences = [[value - target.x[i] for value in values] for i in range(book.width)]
    errors = [[mul(mul(target.w[i], d), d) for d in own] for i, own in enumerate(differences)]

    least, best = jnp.full(points.shape, LARGEST), words[0]
    for j in range(shelf.first.shape[1]):
        code = words[j // 2] >> 16 * (j % 2)
        total = functools.reduce(operator.add, [pick(book, errors[i], i, code) for i in range(book.width)])
        best, least = jnp.where(total < least, code, best), jnp.where(total < least, total, least)
    left = jnp.where(look(jnp.asarray(shelf.long), number), SHORT_LIST, NOTHING)
    left = jnp.where(short_list_will_do(book, errors, points), left, FULL_LIST)
    # As one number: for a second one XLA would compute all of it again
    both = wall(best & np.int32(0xFFFF) | left.astype(np.int32) << 16)
    return both & np.int32(0xFFFF), (both >> 16).astype(np.uint8)


def _first_rows_of_a_build(book, shelf, target, scales, inverses, digits):
    """The same, one trial after the other. What is near to another is left to judge unrounded."""
    trials, n = scales.shape
    few = shelf.first.shape[1]
    first, long = jnp.asarray(shelf.first.reshape(-1)), jnp.asarray(shelf.long)

    def trial(k, state):
        found, left = state
        own = digits(inverses[k])
        point, number = wall(book.pack(own), shelf_number(book, own))
        errors = wall(exact.rounded(target.errors(scales[k], book.top)))
        codes = read(first, number * few, few)

        def eight(j, best):
            return judge(book, errors, lax.dynamic_slice_in_dim(codes, 8 * j, 8), best, flag_close=True)

        best = lax.fori_loop(0, few // 8, eight, none_yet(codes[0]))
        rest = jnp.where(look(long, number), SHORT_LIST, NOTHING)
        rest = jnp.where(short_list_will_do(book, errors, point, clearly=True), rest, FULL_LIST)
        least, row = unpair(best)
        is_close = lax.bitcast_convert_type(row, np.uint32) >> np.uint32(16) != 0
        rest = jnp.where(is_close & (rest == NOTHING), SHORT_LIST, jnp.where(least < HUGE, rest, FULL_LIST))
        return found.at[k].set(as_one(best, point)), left.at[k].set(rest)

    return lax.fori_loop(0, trials, trial, (jnp.zeros((trials, n), np.uint32), jnp.zeros((trials, n), np.uint8)))


def _finish(book, shelf, target, scales, found, left):
    """The open lanes of all trials, side by side: the whole short list, or where it will not do the full one."""
    n, size = scales.shape[1], found.size
    batch = min(BATCH, size)
    is_fused = exact.fusing_now() is not None
    items, total = _places(left.reshape(-1) != NOTHING, batch)
    rows, start, count = (jnp.asarray(a.reshape(-1)) for a in (shelf.rows, shelf.start, shelf.length))
    # A lane's numbers next to each other, so that they are read at one go
    offset = jnp.broadcast_to(target.offset, (1, n))
    beside = 2 * book.width + 1
    together = wall(wall(jnp.concatenate([target.x, target.w, offset])).T).reshape(-1)
    flat_scales = scales.reshape(-1)

    def go_on(b, found):
        live = b * batch + np.arange(batch, dtype=np.int32) < total
        item = lax.dynamic_slice(items, (b * batch,), (batch,))
        own = read(together, item % n * beside, beside)
        near = Target(own[: book.width], own[book.width : -1], target.slope, own[-1])
        with exact.watching() as doubts:
            errors = held(near.errors(wall(look(flat_scales, item)), book.top))
        point = wall((look(found, item) >> np.uint32(16)).astype(np.int32))
        number = shelf_number(book, book.digits(point))
        number = number + jnp.where(look(left.reshape(-1), item) == FULL_LIST, 0, np.int32(len(shelf.long)))
        begin, length = wall(look(start, number), jnp.where(live, look(count, number), 0))

        def eight(state):
            j, best = state
            codes = read(rows, jnp.minimum(begin + j, len(shelf.rows) - 8), 8)
            return j + 8, judge(book, errors, codes, best, length - j)

        # Of a strict search _may_underflow has told
        best = none_yet(look(rows, begin))
        state = np.int32(0), doubted(doubts, best) if is_fused else best
        _, best = lax.while_loop(lambda state: state[0] < length.max(), eight, state)
        return found.at[jnp.where(live, item, size)].set(as_one(best, point), mode="drop", unique_indices=True)

    return lax.fori_loop(0, (total + batch - 1) // batch, go_on, found.reshape(-1)).reshape(found.shape)


def _places(chosen, spare):
    """The places of those chosen, in some order, in an array with ``spare`` more; and their number."""
    n = chosen.size
    # Thirty-two flags a word, for counting the flags before a place is then counting bits
    flags = jnp.pad(chosen, (0, -n % 32)).reshape(32, -1)
    words: Any = sum(flags[i].astype(np.uint32) << np.uint32(i) for i in range(32))
    word = wall(words)
    held = lax.population_count(word).astype(np.int32)
    upto = lax.associative_scan(jnp.add, held)
    before = wall(upto - held)
    bit = np.uint32(1) << np.arange(32, dtype=np.uint32)[:, None]
    at = before + lax.population_count(word & (bit - np.uint32(1))).astype(np.int32)
    at = jnp.where(word & bit != 0, at, n + spare).reshape(-1)[:n]
    places = jnp.zeros(n + spare, np.int32)
    return places.at[at].set(np.arange(n, dtype=np.int32), mode="drop", unique_indices=True), upto[-1]
