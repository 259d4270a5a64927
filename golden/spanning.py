"""Rows of several blocks, and several rows: what a wrong stride, or a number that stays behind, would spoil."""

from __future__ import annotations

import numpy as np

from hifi_ref.formats import Format
from hifi_ref.formats import hard_inputs as inputs


def blocks(f: Format, rng: np.random.Generator, count: int) -> np.ndarray:
    """u8[count, type_size]: random codes, scales that give finite weights of like size."""
    return inputs.tame_scales(f, inputs.random_blocks(f, rng, count), rng)


def blocks_a_row(f: Format) -> int:
    return 2 if f.block_size == 256 else 4


def weights(f: Format, rng: np.random.Generator, rows: int, blocks: int) -> np.ndarray:
    """f32[rows, n]: gaussian, each block and each row of another size."""
    sizes = rng.permutation(np.arange(rows * blocks)).reshape(rows, blocks)
    x = inputs.weights("gauss", rng, rows, blocks * f.block_size)
    return (x * np.repeat(np.exp2(sizes - rows), f.block_size, axis=1)).astype(np.float32)


def importance(f: Format, rng: np.random.Generator, blocks: int) -> np.ndarray:
    """f32[n]: lognormal, and of another size for each block."""
    drawn = inputs.importance("lognormal", int(rng.integers(1 << 30)), blocks * f.block_size)
    assert drawn is not None
    return (drawn * np.repeat(np.arange(1, blocks + 1) ** 2, f.block_size)).astype(np.float32)
