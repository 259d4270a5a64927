"""Two quantizations of one tensor: how far their weights are from each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref import api
from hifi_ref.explain.files.place import Place
from hifi_ref.explain.files.survey import CELLS, CHUNK
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable


def compared(one: Place, other: Place) -> dict[str, Any]:
    """The difference of the decoded weights of two places of the same shape. Raises InputError where it is another."""
    if one.tensor.shape != other.tensor.shape:
        shapes = f"{list(one.tensor.shape)}, and {list(other.tensor.shape)} in {printable(other.path)}"
        raise InputError(f"the shape of tensor {printable(one.tensor.name)} is {shapes}")
    row, rows = one.row, one.tensor.elements // one.row
    sums = np.zeros(4)
    of_rows = np.empty(rows)
    step = max(1, CHUNK // row)
    for first in range(0, rows, step):
        last = min(rows, first + step)
        a, b = (_rows(place, first, last) for place in (one, other))
        lost = a - b
        of_rows[first:last] = np.einsum("ij,ij->i", lost, lost, dtype=np.float64)
        sums += [np.vdot(a, a), np.vdot(b, b), np.vdot(a, b), np.vdot(lost, lost)]
    bounds = np.linspace(0, rows, min(CELLS, rows) + 1).astype(int)
    usual = np.sqrt(sums[0] / one.tensor.elements) or 1.0
    cells = [float(np.sqrt(of_rows[a:b].mean() / row)) / usual for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return {
        "relative_difference": float(f"{np.sqrt(sums[3] / (sums[0] or 1)):.4g}"),
        "correlation": float(f"{sums[2] / (np.sqrt(sums[0] * sums[1]) or 1):.6g}"),
        "cells": {"first_row": bounds[:-1].tolist(), "relative_difference": [float(f"{c:.4g}") for c in cells]},
    }


def block_compared(one: Place, other: Place) -> dict[str, Any]:
    """The weights of a place's block beside those that the other place has there. Raises InputError."""
    if one.tensor.shape != other.tensor.shape:
        return compared(one, other)
    assert one.block is not None
    size = FORMATS[one.format].block_size
    first = one.block * size
    row = first // one.row
    both = [_rows(place, row, row + 1)[0][first % one.row :][:size] for place in (one, other)]
    return {"first_weight": first % one.row, "row": row, "weights": [[float(v) for v in w] for w in both]}


def _rows(place: Place, first: int, last: int) -> np.ndarray:
    """f32[rows, row length], what is not finite made 0."""
    per_row = place.row // FORMATS[place.format].block_size
    blocks = place.blocks()[first * per_row : last * per_row]
    with np.errstate(all="ignore"):
        w = api.decode(place.format, blocks.reshape(-1), lane="numpy").reshape(last - first, place.row)
    return np.nan_to_num(w, copy=False, nan=0, posinf=0, neginf=0)
