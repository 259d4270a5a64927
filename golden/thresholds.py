"""Rows on both sides of a threshold of an encoder: they differ in the last bit of one weight, and give other blocks.

Whatever an encoder rounds, cuts off or compares, its blocks change somewhere between one row and another. Bisection
over the floats between the two finds where, and there an error of a last bit shows that random rows meet once in
thousands. Of the thresholds between two rows it finds one of a kind: any change, most often that of a code; one of a
binary16 scale, which nearly all that an encoder computes goes into; one of a sub-block's scale; or the largest jump,
where a choice between trials turns.
"""

from __future__ import annotations

import functools

import numpy as np

from golden import places
from hifi_ref.formats import Format
from reference import refusals

SIGN = np.uint32(1 << 31)
KINDS = ("any", "scale", "sub-scale", "jump")


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
    f: Format, x: np.ndarray, importance: np.ndarray | None, at: np.ndarray, to: np.ndarray, kind: str = "any"
) -> tuple[np.ndarray, np.ndarray]:
    """(int[found] rows, f32[found, 2] values): weight at[i] of row i just before and behind a change of its blocks.

    x is f32[rows, n]; the weight goes from what it is towards to[i]. Rows whose blocks stay the same are left out. The
    blocks are those of the pinned release. kind: one of KINDS, which change is followed where there are several.
    """
    rows = np.arange(len(x))

    def blocks(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moved = x.copy()
        moved[rows, at] = floats(numbers)
        return refusals.encode_or_refuse(f.name, moved, importance)

    before, behind = ordered(x[rows, at]), ordered(to)
    first, accepted = blocks(before)
    last, _ = blocks(behind)
    found = accepted & (changes(f, kind, first, last) > 0)
    while (found & (abs(behind - before) > 1)).any():
        middle = (before + behind) // 2
        between, _ = blocks(middle)
        change = changes(f, kind, first, between)
        early = change >= changes(f, kind, between, last) if kind == "jump" else change > 0
        before, behind = np.where(early, before, middle), np.where(early, middle, behind)
        first, last = (np.where(early[:, None], *both) for both in ((first, between), (between, last)))
    return rows[found], np.stack([floats(before), floats(behind)], axis=1)[found]


def changes(f: Format, kind: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """int[rows]: in how many bytes blocks u8[rows, bytes] differ from others, of the bits that the kind looks at."""
    differ = (a ^ b).reshape(len(a), -1, f.type_size) & _looked_at(f, kind)
    return (differ != 0).sum(axis=(1, 2))


@functools.cache
def _looked_at(f: Format, kind: str) -> np.ndarray:
    """u8[type_size]: the bits of a block."""
    if kind in ("any", "jump"):
        return np.full(f.type_size, 255, np.uint8)
    scales, sub_scales = np.zeros((2, 8 * f.type_size), np.uint8)
    for number in ("scale", "min"):
        sub_scales[places.bits(f.name).get(number, [])] = 1
    for field in f.layout.fields:
        at = f.layout.offset(field.name)
        # The scale of IQ1_M is what else its field of scales holds
        if field.dtype == "f16" or (f.name, field.name) == ("IQ1_M", "scales"):
            scales[8 * at : 8 * (at + field.size)] = 1
    return np.packbits(scales & ~sub_scales if kind == "scale" else sub_scales, bitorder="little")
