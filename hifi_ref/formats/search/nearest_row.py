"""The nearest row of a grid: of a point's list the row with the least weighted squared error, the first of equals.

Where all errors are infinite or no numbers, the release stops the process; defined here as the first of the list.

The NumPy lane is the definition: all pairs of a point and an entry of its list, one by one. The JAX lane finds the same
rows from the short lists of grid_lists, after it has seen in the errors themselves that these will do. The first few
rows are judged for all lanes at once; lanes with more to judge are then gathered, side by side, until none is left.

Source: iq2_find_best_neighbour, iq3_find_best_neighbour, iq1_find_best_neighbour2 (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import mul, pair, unpair, wall
from hifi_ref.formats.search.grid_lists import Book, Shelf

if TYPE_CHECKING:
    from jaxtyping import Array, Float32, Int32

# No sum of errors that wins is larger
LARGEST = np.finfo(np.float32).max
# Lanes that are gathered at a time
BATCH = 1024


class Target(NamedTuple):
    """What the rows are to come near: x[i] ~ scale * (slope * digit i + offset), squared errors counting w[i]."""

    x: Float32[Array, "digits lanes"]
    w: Float32[Array, "digits lanes"]
    slope: int
    offset: Float32[Array, "lanes"] | np.float32

    def errors(self, scale: Float32[Array, "lanes"], top: int) -> Float32[Array, "digits steps lanes"]:
        """What each digit costs at each step."""
        steps = np.float32(self.slope) * np.arange(top + 1, dtype=np.float32)[:, None] + self.offset
        lib = exact.library(scale)
        spread = lib.broadcast_to(scale, (len(self.x), top + 1, scale.size))
        diff = mul(spread, lib.broadcast_to(steps, spread.shape)) - self.x[:, None]
        return mul(self.w[:, None] * diff, diff)


def nearest_rows(
    book: Book,
    shelf: Shelf,
    target: Target,
    scales: Float32[Array, "trials lanes"],
    digits: Callable[[int], list[Int32[Array, "lanes"]]],
) -> tuple[Int32[Array, "trials lanes"], Int32[Array, "trials lanes"]]:
    """For each scale tried: the nearest rows, and the points they were looked up by, of which digits(trial) tells.

    Sums of errors are added first digit to last. ``shelf`` has the lists of ``book``.
    """
    if exact.is_jax(scales):
        return _nearest_rows_jax(book, shelf, target, scales, digits)
    points = [book.pack(digits(k)) for k in range(len(scales))]
    rows = [_nearest_rows(book, target, scale, p) for scale, p in zip(scales, points, strict=True)]
    return np.stack(rows), np.stack(points)


def _nearest_rows(book, target, scale, points):
    n = len(points)
    count = book.count[points]
    first = np.cumsum(count) - count
    lane = np.repeat(np.arange(n), count)
    entry = np.arange(len(lane)) + np.repeat(book.start[points] - first, count)
    total = np.float32(0)
    errors = target.errors(scale, book.top).reshape(book.width, -1)
    for i, digit in enumerate(book.digits(book.rows[entry].astype(np.int32))):
        total = total + errors[i][digit * n + lane]
    least = np.fmin.reduceat(total, first)
    candidate = np.where(total == np.repeat(least, count), entry, len(book.rows))
    winner = np.minimum.reduceat(candidate, first)
    winner = np.where(least < LARGEST, winner, book.start[points])
    return book.rows[winner].astype(np.int32)


# THE JAX LANE


def _nearest_rows_jax(book, shelf, target, scales, digits):
    jax = sys.modules["jax"]
    jnp, lax = jax.numpy, jax.lax
    trials, n = scales.shape
    few = shelf.first.shape[1]
    first, long = jnp.asarray(shelf.first.reshape(-1)), jnp.asarray(shelf.long)

    def trial(k, state):
        """The first few rows of each lane's short list."""
        found, is_open = state
        own = digits(k)
        point, number = wall(book.pack(own), _number(book, own))
        errors = wall(target.errors(scales[k], book.top))
        codes = _read(first, number * few, few)

        def eight(j, best):
            return _judge(book, errors, lax.dynamic_slice_in_dim(codes, 8 * j, 8), best)

        best = lax.fori_loop(0, few // 8, eight, _none(codes[0]))
        unfinished = _look(long, number) | ~_short_list_will_do(book, errors, point)
        return found.at[k].set(_as_one(best, point)), is_open.at[k].set(unfinished)

    state = jnp.zeros((trials, n), np.uint32), jnp.zeros((trials, n), bool)
    found, is_open = lax.fori_loop(0, trials, trial, state)
    found = _finish(book, shelf, target, scales, found, is_open)
    return (found & np.uint32(0xFFFF)).astype(np.int32), (found >> np.uint32(16)).astype(np.int32)


def _finish(book, shelf, target, scales, found, is_open):
    """The open lanes of all trials, side by side: the whole short list, or where it will not do the full one."""
    jax = sys.modules["jax"]
    jnp, lax = jax.numpy, jax.lax
    n, size = scales.shape[1], found.size
    batch = min(BATCH, size)
    items, total = _places(is_open.reshape(-1), batch)
    rows, start, count = (jnp.asarray(a.reshape(-1)) for a in (shelf.rows, shelf.start, shelf.count))
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
        errors = wall(near.errors(wall(_look(flat_scales, item)), book.top))
        point = wall((_look(found, item) >> np.uint32(16)).astype(np.int32))
        number = _number(book, book.digits(point))
        number = number + jnp.where(_short_list_will_do(book, errors, point), np.int32(len(shelf.long)), 0)
        begin, length = wall(_look(start, number), jnp.where(live, _look(count, number), 0))

        def eight(state):
            j, best = state
            codes = _read(rows, jnp.minimum(begin + j, len(shelf.rows) - 8), 8)
            return j + 8, _judge(book, errors, codes, best, length - j)

        state = np.int32(0), _none(_look(rows, begin))
        _, best = lax.while_loop(lambda state: state[0] < length.max(), eight, state)
        return found.at[jnp.where(live, item, size)].set(_as_one(best, point), mode="drop", unique_indices=True)

    return lax.fori_loop(0, (total + batch - 1) // batch, go_on, found.reshape(-1)).reshape(found.shape)


def _places(chosen, spare):
    """The places of those chosen, in some order, in an array with ``spare`` more; and their number."""
    jax = sys.modules["jax"]
    jnp, lax = jax.numpy, jax.lax
    n = chosen.size
    # Thirty-two flags a word, for counting the flags before a place is then counting bits
    flags = jnp.pad(chosen, (0, -n % 32)).reshape(32, -1)
    word = wall(sum(flags[i].astype(np.uint32) << np.uint32(i) for i in range(32)))
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
    lax = sys.modules["jax"].lax
    run = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return wall(wall(lax.gather(table, at[:, None], run, slice_sizes=(length,), mode=mode)).T)


def _none(codes):
    """The least sum so far, and its row, as a pair."""
    lax, jnp = sys.modules["jax"].lax, sys.modules["jax"].numpy
    code = lax.bitcast_convert_type(codes.astype(np.int32), np.float32)
    return wall(pair(jnp.full(codes.shape, LARGEST), code))


def _as_one(best, point):
    """Row and point in 16 bits each."""
    row = sys.modules["jax"].lax.bitcast_convert_type(unpair(wall(best))[1], np.uint32)
    return row | point.astype(np.uint32) << np.uint32(16)


def _judge(book, errors, codes, best, length=None):
    """best, after eight more rows were looked at; only the first ``length`` of them count."""
    jnp, lax = sys.modules["jax"].numpy, sys.modules["jax"].lax
    least, row = unpair(best)
    codes = [code.astype(np.int32) for code in codes]
    totals = []
    for code in codes:
        total = _pick(book, errors[0], 0, code)
        for i in range(1, book.width):
            total = total + _pick(book, errors[i], i, code)
        totals.append(total)
    for j, (code, total) in enumerate(zip(codes, totals, strict=True)):
        better = total < least if length is None else (total < least) & (j < length)
        least = jnp.where(better, total, least)
        row = jnp.where(better, lax.bitcast_convert_type(code, np.float32), row)
    return pair(least, row)


def _pick(book, errors, i, code):
    """errors[digit i of the code], by the bits of the digit."""
    jnp = sys.modules["jax"].numpy
    choices = [errors[step] for step in range(book.top + 1)]
    for bit in range(book.bits):
        is_set = code & np.int32(1 << (book.bits * i + bit)) != 0
        # Of three steps the last one has no partner
        choices = [
            jnp.where(is_set, choices[k + 1], choices[k]) if k + 1 < len(choices) else choices[k]
            for k in range(0, len(choices), 2)
        ]
    return choices[0]


def _short_list_will_do(book, errors, point):
    """Whether in every digit the errors grow, or stay, with each step away from the point's own; never with a NaN."""
    jnp = sys.modules["jax"].numpy
    will_do = None
    for i, digit in enumerate(book.digits(point)):
        for step in range(book.top):
            here, next_one = errors[i][step], errors[i][step + 1]
            growing = jnp.where(step < digit, here >= next_one, here <= next_one)
            will_do = growing if will_do is None else will_do & growing
    return will_do
