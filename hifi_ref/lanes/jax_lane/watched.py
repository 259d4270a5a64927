"""The format files' operations while underflow is watched: what they give, and where that may not be the defined bits.

All functions here are traced by jax. What they mark, the lane computes again in NumPy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hifi_ref import exact
from hifi_ref.formats import Format
from hifi_ref.lanes.jax_lane.searches import FASTER_TEXTS

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, UInt8

    from hifi_ref.exact import Array

# Super-blocks at a time on a CPU, so that the arrays of a search stay in the second-level cache
PIECES = {"IQ1_S": 128, "IQ1_M": 128, "IQ2_XXS": 64, "IQ2_XS": 64, "IQ2_S": 64, "IQ3_XXS": 32, "IQ3_S": 32}
# Blocks at a time where there are more cores than a CPU has, and less memory for each.
MANY_BLOCKS = 1 << 16


def encode(
    f: Format, x: Float32[Array, "rows blocks size"], weights: Float32[Array, "blocks size"] | None
) -> tuple[UInt8[Array, "rows blocks bytes"], Bool[Array, "rows blocks"]]:
    """The blocks, and which of them are to be encoded again."""
    with exact.faster_texts(FASTER_TEXTS):
        if f.name in PIECES:
            return _encode_in_pieces(f, PIECES[f.name], x, weights)
        return _encode(f, x, weights)


def _encode(f, x, weights):
    rows, blocks, _ = x.shape
    with exact.watching() as marks:
        result = f.encode(x, weights)
        if marks:
            # Where there is arithmetic, on all that it takes
            exact.watched_input(x, exact.FAINT)
            if weights is not None:
                exact.watched_input(jnp.broadcast_to(weights, x.shape), exact.FAINT)
        return result, exact.blocks_marked(marks, rows, blocks)


def _encode_in_pieces(f, size, x, weights):
    """On a CPU ``size`` blocks at a time. Elsewhere pieces are equal ones of MANY_BLOCKS at most."""
    rows, blocks, n = x.shape
    count = rows * blocks
    size = max(1, min(size, count) if exact.is_for_cpu() else -(-count // max(1, -(-count // MANY_BLOCKS))))
    given = [x.reshape(count, n)]
    if weights is not None:
        given.append(jnp.broadcast_to(weights, x.shape).reshape(count, n))
    missing = -count % size
    pieces = [jnp.pad(a, [(0, missing), (0, 0)]).reshape(-1, 1, size, n) for a in given]
    done = jax.lax.map(lambda piece: _encode(f, piece[0], piece[1][0] if len(piece) > 1 else None), pieces)
    return tuple(a.reshape(-1, *a.shape[3:])[:count].reshape(rows, blocks, *a.shape[3:]) for a in done)


def decode(f: Format, blocks: UInt8[Array, "n bytes"]) -> tuple[Any, Bool[Array, ""] | None]:
    """The values in the decoder's own shape, and whether they are to be decoded again; None where that never is."""
    with exact.watching() as marks:
        return f.decode(blocks), _any(marks)


def dot(
    f: Format, w: UInt8[Array, "rows blocks bytes"], a: UInt8[Array, "blocks bytes"]
) -> tuple[Float32[Array, "rows"], Bool[Array, ""] | None]:
    """The products, and whether they are to be computed again; None where that never is."""
    assert f.dot is not None
    with exact.watching() as marks:
        return f.dot(w, a), _any(marks)


def _any(marks: list[Array]) -> Bool[Array, ""] | None:
    found: list[Any] = [mark.any() for mark in marks]
    return functools.reduce(jnp.logical_or, found) if marks else None


@functools.cache
def may_decode_again(f: Format) -> bool:
    """Whether there is a block of this format that jax may not decode rightly."""
    return _makes_marks(lambda: f.decode(jnp.zeros((1, f.type_size), np.uint8)))


@functools.cache
def may_multiply_again(f: Format, partner: Format) -> bool:
    """Whether there are blocks of this format whose dot product jax may not compute rightly."""
    size = max(f.block_size, partner.block_size)
    w = jnp.zeros((1, size // f.block_size, f.type_size), np.uint8)
    multiply = f.dot
    assert multiply is not None
    return _makes_marks(lambda: multiply(w, jnp.zeros((size // partner.block_size, partner.type_size), np.uint8)))


def _makes_marks(work: Any) -> bool:
    with exact.watching() as marks:
        jax.eval_shape(work)
    return bool(marks)
