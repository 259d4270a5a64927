"""Rows that know nothing of each other, computed by NumPy in pieces that stay in a cache, on all cores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.lanes.numpy_lane import each
from hifi_ref.neighbours.either_lane import run

if TYPE_CHECKING:
    from hifi_ref.neighbours.scheme import Scheme, Shape

# Weights a piece.
PIECE = 1 << 16


def rows_a_piece(scheme: Scheme, shape: Shape, given: dict[str, Any]) -> int:
    """How many rows a piece has; 0 where the weights are to be taken as a whole."""
    count, length = math.prod(shape), shape[-1]
    if count < 2 * PIECE or not scheme.rows_apart(length, **given):
        return 0
    return min(max(1, PIECE // length), count // length)


def encode(scheme: Scheme, x: Any, rows: int, given: dict[str, Any]) -> dict[str, Any]:
    """f32[...] -> the stored arrays, each in the shape that the scheme names."""
    shapes, flat = scheme.shapes(x.shape, **given), x.reshape(-1, x.shape[-1])
    work: Any = scheme.encode
    # One row tells which arrays there are, and of which dtype
    stored = {
        name: np.empty((len(flat), array.size), array.dtype) for name, array in run(work, flat[:1], **given).items()
    }

    def part(first: int) -> None:
        piece = flat[first : first + rows]
        for name, array in run(work, piece, **given).items():
            stored[name][first : first + rows] = array.reshape(len(piece), -1)

    each(part, range(0, len(flat), rows))
    return {name: array.reshape(shapes[name]) for name, array in stored.items()}


def decode(scheme: Scheme, stored: Any, shape: Shape, rows: int, given: dict[str, Any]) -> np.ndarray:
    """The stored arrays, of rows that are apart, -> f32[shape]."""
    result = np.empty((math.prod(shape[:-1]), shape[-1]), np.float32)
    by_row = {name: array.reshape(len(result), -1) for name, array in stored.items()}

    def part(first: int) -> None:
        own = (min(rows, len(result) - first), shape[-1])
        shapes = scheme.shapes(own, **given)
        piece = {name: array[first : first + rows].reshape(shapes[name]) for name, array in by_row.items()}
        result[first : first + rows] = run(scheme.decode, piece, shape=own, **given)

    each(part, range(0, len(result), rows))
    return result.reshape(shape)
