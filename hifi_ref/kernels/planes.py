"""Codes in the one packing that kernels read, whatever the format: planes of bits over the 32 places of a run.

A plane of ``width`` bits is uint8[groups, 32 * width, rows]. Run p stands in bytes 32 (p width / 8) .. + 31, from bit
p width % 8 on. Codes of 5 and 6 bits have a plane for the low four and one for the rest. A group thus takes as many
bits as in its format (grids, whose rows cannot be looked up in a kernel, take two or four bits a weight instead).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jax import numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt8

    from hifi_ref.exact import Array


def pack(codes: UInt8[Array, "groups 8 32 rows"], widths: tuple[int, ...]) -> tuple[UInt8[Array, "..."], ...]:
    """Codes from 0 on -> one plane for each width, the low bits first."""
    planes, shift = [], 0
    for width in widths:
        part = codes.astype(np.uint8) >> np.uint8(shift) & np.uint8(2**width - 1)
        part = part.reshape(codes.shape[0], width, 8 // width, 32, codes.shape[-1])
        joined = part[:, :, 0]
        for i in range(1, 8 // width):
            joined = joined | part[:, :, i] << np.uint8(width * i)
        planes.append(joined.reshape(codes.shape[0], 32 * width, codes.shape[-1]))
        shift += width
    return tuple(planes)


def unpack(planes, widths: tuple[int, ...], g, first: int, count: int) -> Int32[Array, "count rows"]:
    """Codes first .. first + count - 1 of group g, inside one run; planes may be a kernel's references."""
    run, place = first // 32, first % 32
    codes: Any = 0
    shift = 0
    for plane, width in zip(planes, widths, strict=True):
        start = 32 * (run * width // 8) + place
        part = plane[g, start : start + count, :].astype(np.int32)
        part = part >> np.int32(run * width % 8) & np.int32(2**width - 1) if width < 8 else part
        codes = codes | part << np.int32(shift) if shift else part
        shift += width
    return codes


def code_at(planes, widths: tuple[int, ...], j) -> Int32[Array, "*n"]:
    """Codes j of planes that have the bytes on their first axis; j may be a loop's, which Triton cannot divide."""
    run, place = j >> 5, j & 31
    codes: Any = 0
    shift = 0
    for plane, width in zip(planes, widths, strict=True):
        part = plane[32 * (run * width >> 3) + place].astype(np.int32)
        part = part >> (run * width & 7) & np.int32(2**width - 1)
        codes = codes | part << np.int32(shift)
        shift += width
    return codes


def words(scales) -> Int32[Array, "groups words rows"]:
    """Whole scales, -128..127 or 0..127, four a word: [groups, subs, rows] -> [groups, subs / 4, rows]."""
    parts = (scales.astype(np.int32) & np.int32(255)).reshape(scales.shape[0], -1, 4, scales.shape[-1])
    shifts = jnp.arange(0, 32, 8, dtype=np.int32)[:, None]
    return (parts << shifts).sum(axis=2, dtype=np.int32)


def scale_at(words, g, s: int) -> Int32[Array, "1 rows"]:
    """Scale s of group g, from the words."""
    return scale_of(words[g, s // 4 : s // 4 + 1, :], s)


def scale_of(word: Int32[Array, "*n"], s: int) -> Int32[Array, "*n"]:
    """Scale s of a group, from its word."""
    return (word << (24 - 8 * (s & 3))) >> np.int32(24)
