"""What each bit of a block does, found by flipping it and decoding: which weights move, and by how much."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.explain import places
from hifi_ref.formats import FORMATS

# Random blocks that tell which weights a bit can move; a scale does not move a weight whose code is 0.
BLOCKS = 4


class Effects(NamedTuple):
    """What flipping each bit of one block does.

    moved: bool[bits, block_size]
    change: f32[bits], the largest distance that a weight moves; infinite where one becomes infinite or no number
    """

    moved: np.ndarray
    change: np.ndarray


def effects(name: str, block: np.ndarray) -> Effects:
    """Flip each bit of a block, u8[type_size], and decode."""
    size = FORMATS[name].type_size
    masks = np.packbits(np.eye(8 * size, dtype=np.uint8), axis=1, bitorder="little")
    blocks = np.concatenate([block[None], block[None] ^ masks])
    # A float's bit turned may give what is no number.
    with np.errstate(all="ignore"):
        weights = api.decode(name, blocks.reshape(-1), lane="numpy").reshape(len(blocks), -1)
        before, after = weights[0], weights[1:]
        moved = before.view(np.uint32) != after.view(np.uint32)
        moved &= ~(np.isnan(before) & np.isnan(after))
        change = np.where(moved, abs(after - before), 0)
        largest = np.where(np.isnan(change), np.inf, change).max(axis=1)
    return Effects(moved, largest.astype(np.float32))


@functools.cache
def reach(name: str) -> np.ndarray:
    """bool[bits, block_size]: the weights that a bit moves in some block of any bytes."""
    rng = np.random.Generator(np.random.PCG64(1))
    found = np.zeros((8 * FORMATS[name].type_size, FORMATS[name].block_size), bool)
    for i in range(BLOCKS):
        found |= effects(name, some_block(name, rng, i)).moved
    return found


def some_block(name: str, rng: np.random.Generator, i: int) -> np.ndarray:
    """Random bytes, or first all ones, but finite scales that are not 0, and slots of outliers in use."""
    block = rng.integers(0, 256, FORMATS[name].type_size).astype(np.uint8) | np.uint8(255 * (i == 0))
    for numbers in places.numbers_of(name):
        bits = numbers.bits
        if numbers.dtype in ("f16", "f32") and FORMATS[name].block_size > 1:
            width = bits.shape[1]
            word = {16: 0x3C00, 32: 0x3F800000}[width] + i
            _set(block, bits, np.full(len(bits), word))
        if numbers.kind == "outlier count":
            slots = next(n for n in places.numbers_of(name) if n.kind == "outlier at")
            _set(block, bits, np.array([len(slots.bits) | 128 * (i % 2) * (name == "Q2_K_HIFI")]))
    return block


def _set(block: np.ndarray, bits: np.ndarray, words: np.ndarray) -> None:
    """Write numbers at their places of a block."""
    raw = np.unpackbits(block, bitorder="little")
    raw[bits] = words[:, None] >> np.arange(bits.shape[1]) & 1
    block[:] = np.packbits(raw, bitorder="little")


def weights_of(name: str, numbers: places.Numbers) -> list[np.ndarray]:
    """For each number of a kind the weights that its bits move, ascending; none for what decoding ignores."""
    found = reach(name)
    return [np.flatnonzero(found[bits].any(axis=0)) for bits in numbers.bits]
