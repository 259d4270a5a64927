"""Rows judged for many lanes at once: what each costs, the best so far, and whether a short list will do."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from hifi_ref import exact
from hifi_ref.exact import pair, unpair, wall
from hifi_ref.exact.traced_products import TracedProduct
from hifi_ref.formats.search.nearest_row import LARGEST

# Sums of at most eight errors, rounded and unrounded, differ by less than this part of them
CLOSE = np.float32(2.0**-18)
# From here on one of two such sums may overflow
HUGE = np.float32(2.0**100)
# In the place of a row that binary64 does not tell; no row has all of these bits
UNSURE = np.uint32(0xFFFF)


def shelf_number(book, digits):
    """The number of a point on the shelf."""
    return sum(digit * np.int32((book.top + 1) ** i) for i, digit in enumerate(digits))


def look(table, at):
    return table.at[at].get(mode="promise_in_bounds")


def read(table, at, length):
    """[length, lanes]: table[at : at + length] for each lane. XLA copies runs far faster than single elements."""
    run = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return wall(wall(lax.gather(table, at[:, None], run, slice_sizes=(length,), mode=mode)).T)


def none_yet(codes):
    """The least sum so far, and its row, as a pair."""
    code = lax.bitcast_convert_type(codes.astype(np.int32), np.float32)
    return wall(pair(jnp.full(codes.shape, LARGEST), code))


def as_one(best, point):
    """Row and point in 16 bits each."""
    least, row = unpair(wall(best))
    row = lax.bitcast_convert_type(row, np.uint32)
    if exact.fusing_now() is not None:
        row = jnp.where(least == least, row & np.uint32(0xFFFF), UNSURE)
    return row | point.astype(np.uint32) << np.uint32(16)


def held(errors):
    """wall(errors), of which a build keeps what they are unrounded."""
    if isinstance(errors, TracedProduct):
        return TracedProduct(errors.value, *wall(*errors.factors))
    return wall(errors)


def doubted(doubts, best):
    """best, the sum being NaN where there are marks: no other is below it."""
    if not doubts:
        return best
    least, row = unpair(best)
    return pair(jnp.where(exact.any_of(doubts, least.shape), np.float32(np.nan), least), row)


def judge(book, errors, codes, best, length=None, flag_close=False):
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
            total = exact.rounded(pick(book, costs[0], 0, code))
            for i in range(1, book.width):
                total = total + pick(book, costs[i], i, code)
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
    return doubted(doubts, pair(least, row))


def pick(book, choices, i, code):
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


def short_list_will_do(book, errors, point, clearly=False):
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
