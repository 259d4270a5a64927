"""Passes over the codes of many sub-blocks: the first for all of them, the others for those that it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from hifi_ref import exact
from hifi_ref.exact import f32, mul, nearest_int, pair, product, ratio, running_sums, score, unpair, wall
from hifi_ref.formats.search.single_steps import Codes

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

    from hifi_ref.exact import Array


def improve_by_single_steps(
    x: Float32[Array, "n subs"],
    w: Float32[Array, "n subs"],
    codes: Int32[Array, "n subs"],
    counted: Int32[Array, "n subs"],
    low: int,
    high: int,
    above_zero: bool = False,
) -> Codes:
    """formats.search.single_steps.improve_by_single_steps."""
    n = x.shape[0]

    def terms(i):
        code = f32(counted[i])
        return product(mul(w[i], x[i]), code, "start w x l"), product(product(w[i], code), code, "start w l l")

    def move(x, w, old, sums):
        xl, l2 = unpair(sums)
        with exact.watching() as in_sums:
            wx = mul(w, x)
            rest_xl = xl - product(wx, old, "without w x l")
            rest_l2 = l2 - product(product(w, old), old, "without w l l")
            possible = rest_xl > 0
            if above_zero:
                possible = possible & (rest_l2 > 0)
            best = ratio(score(x, rest_l2), jnp.where(possible, rest_xl, np.float32(1)))
            new = f32(jnp.clip(nearest_int(best), low, high))
            new_xl = rest_xl + product(wx, new, "with w x l")
            new_l2 = rest_l2 + product(product(w, new), new, "with w l l")
        tried = possible & (new != old) & (new_l2 > 0)
        with exact.watching() as in_scores:
            gain, bar = score(score(new_xl, new_xl), l2), score(score(xl, xl), new_l2)
        better = tried & (gain > bar)
        # NaN where something is to be marked, and so in all that follows
        marked = exact.any_of(in_sums, x.shape) | tried & exact.any_of(in_scores, x.shape)
        kept = f32(exact.i32(new) & 255) if above_zero else new
        xl = jnp.where(marked, np.float32(np.nan), jnp.where(better, new_xl, xl))
        return wall(jnp.where(better, kept, old), pair(xl, jnp.where(better, new_l2, l2)))

    def passes(most, unroll, x, w, codes, sums):
        def step(i, state):
            codes, sums = state
            row, sums = move(x[i], w[i], codes[i], sums)
            return exact.with_row(codes, i, row), sums

        def a_pass(state):
            codes, sums, _ = state
            xl, l2 = unpair(sums)
            codes, sums = exact.unmarked_fold(n, step, (codes, sums), unroll)
            new_xl, new_l2 = unpair(sums)
            # Not the codes: one that wraps around can come back to its byte and still have moved the sums.
            return codes, sums, (new_xl != xl) | (new_l2 != l2)

        start = (codes, sums, jnp.ones(codes.shape[1:], bool))
        return _repeat(most, a_pass, start, going_on=lambda state: state[2].any())

    codes, sums, changed = passes(1, 4, x, w, f32(codes), pair(*running_sums(n, terms)))
    # Few sub-blocks change in the first pass, and only these can change again.
    codes, sums = _where_needed(changed, lambda *rest: passes(4, 1, *rest)[:2], (x, w), (codes, sums))
    xl, l2 = unpair(sums)
    exact.mark(xl != xl)
    return Codes(exact.i32(codes), xl, l2)


def _repeat(most: int, body: Callable[[Any], Any], state: Any, going_on: Callable[[Any], Any]) -> Any:
    """body(body(... state)), at most ``most`` times, while going_on(state). It must be the identity from then on."""

    def more(counted: Any) -> Any:
        return (counted[0] < most) & going_on(counted[1])

    return lax.while_loop(more, lambda counted: (counted[0] + 1, body(counted[1])), (np.int32(0), state))[1]


def _where_needed(
    needed: Bool[Array, "subs"], work: Callable[..., Any], given: tuple[Any, ...], state: tuple[Any, ...]
) -> Any:
    """work(*given, *state) in those lanes (last axis) where it is needed, state elsewhere.

    The lanes are gathered in batches of a fixed size, an eighth of them all, until none is left.
    """
    room = -(-needed.size // 8)

    def batch(left_and_state: Any) -> Any:
        left, state = left_and_state
        (lanes,) = jnp.nonzero(left, size=room, fill_value=left.size)
        done = work(*(v.at[..., lanes].get(mode="clip") for v in (*given, *state)))
        state = tuple(v.at[..., lanes].set(d, mode="drop") for v, d in zip(state, done, strict=True))
        return left.at[lanes].set(False, mode="drop"), state

    return lax.while_loop(lambda left_and_state: left_and_state[0].any(), batch, (needed, state))[1]
