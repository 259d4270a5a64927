"""Rows on both sides of a threshold of an encoder: they differ in the last bit of one weight, and give other blocks.

Whatever an encoder rounds, cuts off or compares, its blocks change somewhere between one row and another. Bisection
over the floats between the two finds where, and there an error of a last bit shows that random rows meet once in
thousands.
"""

from __future__ import annotations

import numpy as np

from hifi_ref.formats import Format
from reference import refusals

SIGN = np.uint32(1 << 31)


def ordered(x: np.ndarray) -> np.ndarray:
    """int64: the float's number, counted from 0 in steps of one last bit."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    size = (bits & ~SIGN).astype(np.int64)
    return np.where(bits & SIGN != 0, -size, size)


def floats(numbers: np.ndarray) -> np.ndarray:
    """float32: what ordered numbers."""
    bits = abs(numbers).astype(np.uint32) | np.where(numbers < 0, SIGN, np.uint32(0))
    return bits.view(np.float32)


def thresholds(
    f: Format, x: np.ndarray, importance: np.ndarray | None, at: np.ndarray, to: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(int[found] rows, f32[found, 2] values): weight at[i] of row i just before and behind a change of its blocks.

    x is f32[rows, n]; the weight goes from what it is towards to[i]. Rows whose blocks stay the same are left out. The
    blocks are those of the pinned release.
    """
    rows = np.arange(len(x))

    def blocks(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moved = x.copy()
        moved[rows, at] = floats(numbers)
        return refusals.encode_or_refuse(f.name, moved, importance)

    before, behind = ordered(x[rows, at]), ordered(to)
    first, accepted = blocks(before)
    last, _ = blocks(behind)
    found = accepted & (first != last).any(axis=1)
    while (found & (abs(behind - before) > 1)).any():
        middle = (before + behind) // 2
        same = (blocks(middle)[0] == first).all(axis=1)
        before, behind = np.where(same, middle, before), np.where(same, behind, middle)
    return rows[found], np.stack([floats(before), floats(behind)], axis=1)[found]
