"""The pictures of a format's bytes: each bit coloured by what it holds, and by what flipping it does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hifi_ref.explain import svg
from hifi_ref.explain.byte_map import Piece, pieces_of, runs_of
from hifi_ref.explain.places import numbers_of
from hifi_ref.formats import FORMATS

# Bytes in a row of a picture, and its width in pixels without the margin.
ROW, SPAN, MARGIN, BIT = 32, 704, 44, 11
# From no influence to a large one, and for a bit that makes a weight infinite or no number.
HEAT = ("#eef1f4", "#dbe8f4", "#bcd6ec", "#94bfe0", "#659fcc", "#3a7cb4", "#205d94", "#103f6d")
BROKEN = "#c0392b"
# The octaves of influence, in the weights' root mean square, at which the colours change.
OCTAVES = (-6, -4, -2, -1, 0, 2)


def tints(name: str) -> dict[str, str]:
    """A colour for each kind of number of a format."""
    return {numbers.kind: svg.TINTS[i % len(svg.TINTS)] for i, numbers in enumerate(numbers_of(name))}


# BYTES


def byte_picture(name: str) -> str:
    """The map of a block: a column a byte, bit 7 on top."""
    colours = tints(name)
    pieces = pieces_of(name)
    indexed = FORMATS[name].type_size <= 24

    def shapes(first: int, bytes_: Sequence[tuple[Piece, ...]], x0: float, y0: float, width: float) -> list[str]:
        made = []
        for at, count in _alike(bytes_, indexed):
            for piece in bytes_[at]:
                x, y = x0 + at * width, y0 + (7 - piece.high) * BIT
                height = (piece.high - piece.low + 1) * BIT
                made.append(
                    svg.rect(
                        x, y, count * width, height, colours[piece.kind], _title(first + at, count, piece), svg.EDGE
                    )
                )
                words = str(piece.at) if indexed and len(pieces) > 4 and piece.kind == "code" else piece.kind
                if 5.8 * len(words) < count * width and height >= BIT:
                    made.append(svg.text(x + count * width / 2, y + height / 2 + 3.5, words, "middle", svg.ON_TINT, 10))
        return made

    title = f"The {len(pieces)} bytes of a {name} block, bit 7 on top: {_in_words(name)}"
    return _rows(title, pieces, shapes, [(colours[n.kind], n.kind) for n in numbers_of(name)])


def _alike(bytes_: Sequence[tuple[Piece, ...]], single: bool) -> list[tuple[int, int]]:
    """Neighbouring bytes whose bits hold the same kinds, as (first, count); each alone where ``single``."""
    kinds = [[(piece.low, piece.high, piece.kind) for piece in pieces] for pieces in bytes_]
    counts = [1] * len(kinds) if single else [len(list(group)) for _, group in itertools.groupby(kinds)]
    return list(zip(itertools.accumulate([0, *counts]), counts, strict=False))


def _title(byte: int, count: int, piece: Piece) -> str:
    where = f"bytes {byte}-{byte + count - 1}" if count > 1 else f"byte {byte}"
    return f"{where}, bits {piece.low}-{piece.high}: {piece.kind}"


def _in_words(name: str) -> str:
    spans: list[tuple[int, int, list[str]]] = []
    for run in runs_of(name):
        kinds = list(dict.fromkeys(piece.kind for piece in run.pieces))
        if spans and spans[-1][2] == kinds:
            spans[-1] = (spans[-1][0], run.byte + run.size - 1, kinds)
        else:
            spans.append((run.byte, run.byte + run.size - 1, kinds))
    return "; ".join(f"bytes {a}-{b} {' and '.join(kinds)}" for a, b, kinds in spans[:12])


def _rows(title: str, cells: Any, shapes: Callable[..., list[str]], legend: Sequence[tuple[str, str]]) -> str:
    """A picture of rows of bytes, with their numbers at the left and lines between bytes."""
    per_row = ROW if len(cells) > 36 else len(cells)
    width, height = SPAN / max(per_row, 8), 8 * BIT
    made = svg.legend(MARGIN, 2, legend)
    y = 22.0
    for first in range(0, len(cells), per_row):
        part = cells[first : first + per_row]
        made.append(svg.text(MARGIN - 6, y + height / 2 + 4, str(first), "end"))
        made += shapes(first, part, MARGIN, y, width)
        lines = " ".join(f"M{MARGIN + i * width:g} {y:g}v{height}" for i in range(len(part) + 1))
        made.append(f'<path d="{lines}" stroke="{svg.ON_TINT}" stroke-opacity=".35" stroke-width=".6"/>')
        y += height + 8
    return svg.picture(MARGIN + SPAN + 4, y, title, made)


# INFLUENCE


def influence_picture(name: str, change: Sequence[float | None]) -> str:
    """Each bit of a block coloured by how far flipping it moves a weight, in the weights' root mean square.

    None stands for a weight that becomes infinite or no number.
    """
    levels = _levels(change).reshape(-1, 8)

    def shapes(first: int, part: np.ndarray, x0: float, y0: float, width: float) -> list[str]:
        made = []
        for bit in range(8):
            at = 0
            for level, group in itertools.groupby(part[:, bit].tolist()):
                count = len(list(group))
                fill = BROKEN if level < 0 else HEAT[level]
                made.append(svg.rect(x0 + at * width, y0 + (7 - bit) * BIT, count * width, BIT, fill))
                at += count
        return made

    words = ("none", "below 1/64", "1/16", "1/4", "1/2", "1", "4", "from 4 on")
    legend = [*zip(HEAT, words, strict=True), (BROKEN, "no number")]
    title = f"How far flipping each bit of a {name} block moves a weight, in the weights' root mean square"
    return _rows(title, levels, shapes, legend)


def _levels(change: Sequence[float | None]) -> np.ndarray:
    """Indexes of HEAT; -1 for None."""
    known = np.array([np.inf if one is None else one for one in change])
    with np.errstate(divide="ignore"):
        octaves = np.log2(known)
    levels = np.where(known == 0, 0, 1 + np.searchsorted(OCTAVES, octaves))
    return np.where(np.isinf(known), -1, np.minimum(levels, len(HEAT) - 1))
