"""The drawings of check's page: a tensor's map of blocks as a picture, and the histogram of its blocks' errors.

A map shows the blocks in order, in up to 256 cells: blue where the error is what is usual in the tensor, darker above,
lighter below; orange to red where blocks differ from the reference's.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref.check.comparison import TensorResult

MAP_WIDTH = 32
# From few to many differing blocks in a cell, and from a small error to a large one.
HOT = np.array([(255, 205, 110), (240, 120, 40), (170, 20, 20)], float)
COLD = np.array([(222, 235, 247), (107, 160, 208), (8, 48, 107)], float)
EMPTY = (245, 245, 245)
LEGEND = tuple(
    (tuple(map(int, colour)), words)
    for colour, words in [
        (COLD[0], "half the usual error of the tensor,"), (COLD[1], "the usual error,"), (COLD[2], "twice that;"),
        (HOT[0], "a few blocks differ from the reference's,"), (HOT[2], "all of them differ"),
    ]
)  # fmt: skip
# Relative errors that a histogram's axis names: powers of two.
MARKS = ((-10, "0.1 %"), (-7, "0.8 %"), (-4, "6 %"), (-1, "50 %"))


class Picture(NamedTuple):
    """A picture as a data address, and what it shows in words."""

    data: str
    title: str


class Bar(NamedTuple):
    """One bar of a histogram, in pixels from the upper left, and the blocks that it stands for."""

    x: float
    y: float
    width: float
    height: float
    blocks: int


class Mark(NamedTuple):
    """A label of the axis."""

    x: int
    label: str


class Histogram(NamedTuple):
    """A histogram of ``width`` x ``height`` pixels; its bars stand on ``floor``."""

    width: int
    height: int
    floor: int
    bars: list[Bar]
    marks: list[Mark]


def block_map(result: TensorResult) -> Picture | None:
    """A tensor's map; None where all its cells would look alike."""
    errors = np.array(result.map.get("relative_error", []), float)
    if len(errors) < 2 or not (errors.any() or result.blocks_differing):
        return None
    differing = np.array(result.map["differing"], float)
    usual = np.median(errors[errors > 0]) if (errors > 0).any() else 1.0
    level = np.clip((np.log2(np.maximum(errors, 1e-30) / usual) + 1) / 2, 0, 1)
    share = differing / max(1.0, result.blocks_judged / len(errors))
    colours = np.where(differing[:, None] > 0, _shade(HOT, np.clip(share, 0, 1)), _shade(COLD, level))
    height = -(-len(errors) // MAP_WIDTH)
    pixels = np.empty((height * MAP_WIDTH, 3), np.uint8)
    pixels[:] = EMPTY
    pixels[: len(errors)] = colours
    data = base64.b64encode(_png(pixels.reshape(height, MAP_WIDTH, 3))).decode()
    title = f"{int(differing.sum())} differing blocks; error {errors.min():.3g} to {errors.max():.3g} of the weights"
    return Picture(f"data:image/png;base64,{data}", title)


def _shade(colours: np.ndarray, level: np.ndarray) -> np.ndarray:
    """[n] from 0 to 1 -> [n, 3]: between the first and the last of three colours."""
    return np.stack([np.interp(level, (0, 0.5, 1), colours[:, c]) for c in range(3)], axis=1)


def _png(pixels: np.ndarray) -> bytes:
    """u8[height, width, 3] as a PNG."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def histogram(counts: Sequence[int], width: int, height: int, with_axis: bool) -> Histogram:
    """Bars from a relative error of 2^-12, or less, to 1, or more, four per factor of two."""
    floor = height - (14 if with_axis else 1)
    most, step = max(1, *counts), width / len(counts)
    bars = [
        Bar(round(i * step, 1), round(floor - n / most * floor, 1), round(step - 0.6, 1), round(n / most * floor, 1), n)
        for i, n in enumerate(counts)
        if n
    ]
    marks = [Mark(round((4 * power + len(counts)) * step), label) for power, label in MARKS] if with_axis else []
    return Histogram(width, height, floor, bars, marks)
