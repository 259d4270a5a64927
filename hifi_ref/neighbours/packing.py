"""Flat blocks and packed codes, in the orders of the systems here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.codebooks import take

if TYPE_CHECKING:
    from jaxtyping import Float32, Integer, Shaped, UInt8

    from hifi_ref.exact import Array


def in_blocks(x: Shaped[Array, "*shape"], size: int, fill: np.floating | None = None) -> Shaped[Array, "blocks size"]:
    """Blocks over the flat row-major array; a short last one is filled up, with copies of the last value by default."""
    flat, lib = x.reshape(-1), exact.library(x)
    missing = -flat.shape[0] % size
    if missing:
        more = lib.broadcast_to(flat[-1:], (missing,)) if fill is None else lib.full(missing, fill)
        flat = lib.concatenate([flat, more])
    return flat.reshape(-1, size)


def blocks_of(count: int, size: int) -> int:
    """How many blocks so many weights fill. ValueError for a size that no block can have."""
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"a block must hold a whole number of weights, 1 or more, not {size!r}")
    return -(-count // size)


def join_pairs(codes: Integer[Array, "n"], even_is_high: bool) -> UInt8[Array, "half"]:
    """Two 4-bit codes a byte, of neighbours; an odd last one stands beside a 0."""
    codes = codes.astype(np.uint8)
    if codes.shape[0] % 2:
        codes = exact.library(codes).concatenate([codes, exact.library(codes).zeros(1, np.uint8)])
    even, odd = codes[0::2], codes[1::2]
    high, low = (even, odd) if even_is_high else (odd, even)
    return high << np.uint8(4) | low


def split_pairs(packed: UInt8[Array, "half"], count: int, even_is_high: bool) -> UInt8[Array, "n"]:
    """The inverse: the first ``count`` codes."""
    high, low = packed >> np.uint8(4), packed & np.uint8(15)
    pair = (high, low) if even_is_high else (low, high)
    return exact.library(packed).stack(pair, axis=-1).reshape(-1)[:count]


def values_of_pairs(
    values: Float32[np.ndarray, "16"], packed: UInt8[Array, "half"], count: int, even_is_high: bool
) -> Float32[Array, "n"]:
    """What the first ``count`` codes stand for: a byte is looked up once, for both."""
    high, low = values.repeat(16), np.tile(values, 16)
    pairs = np.stack((high, low) if even_is_high else (low, high), axis=-1)
    return take(pairs, packed).reshape(-1)[:count]
