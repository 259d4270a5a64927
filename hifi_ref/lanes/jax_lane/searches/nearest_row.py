"""The nearest rows of many groups at once: first a few rows of each list for all groups, then the rest for those left.

The rows are found from the short lists of grid_shelf, once the errors themselves have shown that these will do. The
first few rows are judged for all lanes at once, a lane being a group of a sub-block, in a grid of eight steps by
close_rows; lanes with more to judge are then gathered, side by side, until none is left.

A build that fuses adds errors unrounded, which takes binary64. For all lanes the errors are rounded all the same: a row
that leads by more than such sums may differ has the least sum of the build, too. Lanes without such a row are left to
those gathered, which are judged as the build does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hifi_ref import exact
from hifi_ref.exact import pair, unpair, wall
from hifi_ref.exact.traced_products import TracedProduct
from hifi_ref.formats.search.grid_lists import Lists
from hifi_ref.formats.search.nearest_row import LARGEST, Rows, Target
from hifi_ref.lanes.jax_lane.searches import close_rows
from hifi_ref.lanes.jax_lane.searches.grid_shelf import FULL_LIST, NOTHING, SHORT_LIST, shelf

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

    from hifi_ref.exact import Array

# How many rows of a list are judged for all lanes alike, by grid: a multiple of 8
FEW = {"IQ1_S": 16, "IQ2_XXS": 24, "IQ2_XS": 24, "IQ2_S": 16, "IQ3_XXS": 8, "IQ3_S": 8}
# Lanes that are gathered at a time
BATCH = 1024
# Sums of at most eight errors, rounded and unrounded, differ by less than this part of them
CLOSE = np.float32(2.0**-18)
# From here on one of two such sums may overflow
HUGE = np.float32(2.0**100)
# In the place of a row that binary64 does not tell; no row has all of these bits
UNSURE = np.uint32(0xFFFF)


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
    if book.width == 4 and exact.fusing_now() is None:
        points = wall(jax.vmap(lambda inverse: book.pack(digits(inverse)))(inverses))
        rows, left = close_rows.judge(lists, target, scales, points)
        found = (rows | points << 16).astype(np.uint32)
    else:
        found, left = _first_rows(book, listed, target, scales, inverses, digits)
    found = _finish(book, listed, target, scales, found, left)
    return (found & np.uint32(0xFFFF)).astype(np.int32), (found >> np.uint32(16)).astype(np.int32)


def _first_rows(book, shelf, target, scales, inverses, digits):
    """The first few rows of each lane's short list, and what is left to judge."""
    trials, n = scales.shape
    few = shelf.first.shape[1]
    is_fused = exact.fusing_now() is not None
    first, long = jnp.asarray(shelf.first.reshape(-1)), jnp.asarray(shelf.long)

    def trial(k, state):
        found, left = state
        own = digits(inverses[k])
        point, number = wall(book.pack(own), _number(book, own))
        errors = wall(exact.rounded(target.errors(scales[k], book.top)))
        codes = _read(first, number * few, few)

        def eight(j, best):
            return _judge(book, errors, lax.dynamic_slice_in_dim(codes, 8 * j, 8), best, flag_close=is_fused)

        best = lax.fori_loop(0, few // 8, eight, _none(codes[0]))
        rest = jnp.where(_look(long, number), SHORT_LIST, NOTHING)
        rest = jnp.where(_short_list_will_do(book, errors, point, is_fused), rest, FULL_LIST)
        if is_fused:
            least, row = unpair(best)
            is_close = lax.bitcast_convert_type(row, np.uint32) >> np.uint32(16) != 0
            rest = jnp.where(is_close & (rest == NOTHING), SHORT_LIST, jnp.where(least < HUGE, rest, FULL_LIST))
        return found.at[k].set(_as_one(best, point)), left.at[k].set(rest)

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
        own = _read(together, item % n * beside, beside)
        near = Target(own[: book.width], own[book.width : -1], target.slope, own[-1])
        with exact.watching() as doubts:
            errors = _held(near.errors(wall(_look(flat_scales, item)), book.top))
        point = wall((_look(found, item) >> np.uint32(16)).astype(np.int32))
        number = _number(book, book.digits(point))
        number = number + jnp.where(_look(left.reshape(-1), item) == FULL_LIST, 0, np.int32(len(shelf.long)))
        begin, length = wall(_look(start, number), jnp.where(live, _look(count, number), 0))

        def eight(state):
            j, best = state
            codes = _read(rows, jnp.minimum(begin + j, len(shelf.rows) - 8), 8)
            return j + 8, _judge(book, errors, codes, best, length - j)

        # Of a strict search _may_underflow has told
        best = _none(_look(rows, begin))
        state = np.int32(0), _doubted(doubts, best) if is_fused else best
        _, best = lax.while_loop(lambda state: state[0] < length.max(), eight, state)
        return found.at[jnp.where(live, item, size)].set(_as_one(best, point), mode="drop", unique_indices=True)

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


def _number(book, digits):
    """The number of a point on the shelf."""
    return sum(digit * np.int32((book.top + 1) ** i) for i, digit in enumerate(digits))


def _look(table, at):
    return table.at[at].get(mode="promise_in_bounds")


def _read(table, at, length):
    """[length, lanes]: table[at : at + length] for each lane. XLA copies runs far faster than single elements."""
    run = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return wall(wall(lax.gather(table, at[:, None], run, slice_sizes=(length,), mode=mode)).T)


def _none(codes):
    """The least sum so far, and its row, as a pair."""
    code = lax.bitcast_convert_type(codes.astype(np.int32), np.float32)
    return wall(pair(jnp.full(codes.shape, LARGEST), code))


def _as_one(best, point):
    """Row and point in 16 bits each."""
    least, row = unpair(wall(best))
    row = lax.bitcast_convert_type(row, np.uint32)
    if exact.fusing_now() is not None:
        row = jnp.where(least == least, row & np.uint32(0xFFFF), UNSURE)
    return row | point.astype(np.uint32) << np.uint32(16)


def _held(errors):
    """wall(errors), of which a build keeps what they are unrounded."""
    if isinstance(errors, TracedProduct):
        return TracedProduct(errors.value, *wall(*errors.factors))
    return wall(errors)


def _doubted(doubts, best):
    """best, the sum being NaN where there are marks: no other is below it."""
    if not doubts:
        return best
    least, row = unpair(best)
    return pair(jnp.where(exact.any_of(doubts, least.shape), np.float32(np.nan), least), row)


def _judge(book, errors, codes, best, length=None, flag_close=False):
    """best, after eight more rows were looked at; only the first ``length`` of them count.

    ``flag_close``: a row's bit 16 says that another row is as near to x, but for what sums may differ by.
    """
    least, row = unpair(best)
    codes = [code.astype(np.int32) for code in codes]
    # Taken apart once: what is traced for each of the eight rows, XLA works through eight times
    costs = [[errors[i][step] for step in range(book.top + 1)] for i in range(book.width)]
    totals = []
    with exact.watching() as doubts:
        for code in codes:
            total = exact.rounded(_pick(book, costs[0], 0, code))
            for i in range(1, book.width):
                total = total + _pick(book, costs[i], i, code)
            totals.append(total)
    for j, (code, total) in enumerate(zip(codes, totals, strict=True)):
        better = total < least if length is None else (total < least) & (j < length)
        if flag_close:
            # The last row of a short list is repeated
            is_other = (lax.bitcast_convert_type(row, np.int32) ^ code) & np.int32(0xFFFF) != 0
            is_close = is_other & (abs(total - least) * (np.float32(1) / CLOSE) <= least)
        row = jnp.where(better, lax.bitcast_convert_type(code, np.float32), row)
        if flag_close:
            flagged = lax.bitcast_convert_type(row, np.int32) | np.int32(1 << 16)
            row = jnp.where(is_close, lax.bitcast_convert_type(flagged, np.float32), row)
        least = jnp.where(better, total, least)
    return _doubted(doubts, pair(least, row))


def _pick(book, choices, i, code):
    """choices[digit i of the code], by the bits of the digit."""
    for bit in range(book.bits):
        is_set = code & np.int32(1 << (book.bits * i + bit)) != 0
        # Of three steps the last one has no partner
        choices = [
            _select(is_set, choices[k + 1], choices[k]) if k + 1 < len(choices) else choices[k]
            for k in range(0, len(choices), 2)
        ]
    return choices[0]


def _select(where, a, b):
    if isinstance(a, TracedProduct):
        factors = (lax.select(where, *both) for both in zip(a.factors, b.factors, strict=True))
        return TracedProduct(lax.select(where, a.value, b.value), *factors)
    return lax.select(where, a, b)


def _short_list_will_do(book, errors, point, clearly=False):
    """Whether in every digit the errors grow, or stay, with each step away from the point's own; never with a NaN.

    ``clearly``: they stay at zero, or grow by more than such sums may differ.
    """
    will_do = None
    for i, digit in enumerate(book.digits(point)):
        for step in range(book.top):
            here, next_one = errors[i][step], errors[i][step + 1]
            if clearly:
                nearer, farther = (jnp.where(step < digit, *both) for both in ((next_one, here), (here, next_one)))
                growing = nearer * (np.float32(1) + CLOSE) <= farther
            else:
                growing = jnp.where(step < digit, here >= next_one, here <= next_one)
            will_do = growing if will_do is None else will_do & growing
    return will_do
