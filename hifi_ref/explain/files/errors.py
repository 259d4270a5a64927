"""A tensor against its source, block by block: how large errors are, where they are worst, and what the reference
would have written, for the worst rows and some drawn evenly."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref import api
from hifi_ref.explain.files.expected import Sourced, differing_numbers, listed_differences, why
from hifi_ref.explain.files.survey import CELLS, CHUNK, NAMED
from hifi_ref.formats import FORMATS, builds
from hifi_ref.model_files.files import InputError

# Weights whose rows are encoded again, besides those of the worst blocks.
SAMPLE, WORST_ROWS = 1 << 16, 2


def errors(sourced: Sourced) -> dict[str, Any]:
    """The error of every block, and the reference's blocks for a sample of rows. Raises InputError."""
    error, square = _block_errors(sourced)
    total = float(square.sum())
    worst = np.argsort(-error, kind="stable")[:NAMED]
    with np.errstate(all="ignore"):
        relative = np.sqrt(np.where(square > 0, error / square, 0))
    bounds = np.linspace(0, len(error), min(CELLS, len(error)) + 1).astype(int)
    cells = [
        float(np.sqrt(error[a:b].sum() / (square[a:b].sum() or 1)))
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    return {
        "relative_error": float(f"{np.sqrt(error.sum() / (total or 1)):.4g}"),
        "quantiles": {f"{q} %": float(f"{np.percentile(relative, q):.4g}") for q in (0, 25, 50, 75, 99, 100)},
        "cells": {"first_block": bounds[:-1].tolist(), "relative_error": cells},
        "worst": [
            {"block": int(b), "share": float(f"{error[b] / (error.sum() or 1):.3g}"),
             "relative_error": float(f"{relative[b]:.4g}")}
            for b in worst if error[b] > 0
        ],
        "reference": _against_reference(sourced, worst[:WORST_ROWS]),
    }  # fmt: skip


def _block_errors(sourced: Sourced) -> tuple[np.ndarray, np.ndarray]:
    """f64[blocks] each: the sum of squares of the errors of a block, and of its weights in the source."""
    place = sourced.place
    name, blocks, row = place.format, place.blocks(), place.row
    size = FORMATS[name].block_size
    per_row, rows = row // size, place.tensor.elements // row
    error, square = np.empty(len(blocks)), np.empty(len(blocks))
    step = max(1, CHUNK // row)
    for first in range(0, rows, step):
        last = min(rows, first + step)
        x = sourced.rows(slice(first, last)).reshape(-1, size)
        if not np.isfinite(x).all():
            raise InputError(f"tensor {place.tensor.name} of the source is not finite in rows {first} to {last - 1}")
        part = slice(first * per_row, last * per_row)
        with np.errstate(all="ignore"):
            w = api.decode(name, blocks[part].reshape(-1), lane="numpy").reshape(-1, size)
            lost = np.nan_to_num(w - x, nan=0, posinf=3e38, neginf=-3e38)
        error[part] = np.einsum("ij,ij->i", lost, lost, dtype=np.float64)
        square[part] = np.einsum("ij,ij->i", x, x, dtype=np.float64)
    sourced.weights.forget()
    return error, square


def _against_reference(sourced: Sourced, worst: np.ndarray) -> dict[str, Any] | None:
    """The rows of the worst blocks and some drawn evenly, encoded again; None where there is no encoder."""
    place = sourced.place
    name, row = place.format, place.row
    f = FORMATS[name]
    if f.encode is None or f.block_size == 1:
        return None
    per_row, rows = row // f.block_size, place.tensor.elements // row
    drawn = np.linspace(0, rows - 1, max(1, min(rows, SAMPLE // row))).astype(int)
    chosen = np.unique(np.concatenate([drawn, worst // per_row]))
    observed = np.concatenate([place.blocks()[r * per_row : (r + 1) * per_row] for r in chosen])
    expected = sourced.expected(chosen).reshape(observed.shape)
    x = np.ascontiguousarray(sourced.rows(chosen)).reshape(-1, f.block_size)
    numbers = (chosen[:, None] * per_row + np.arange(per_row)).reshape(-1)
    differs = (observed != expected).any(axis=1)
    report: dict[str, Any] = {
        "blocks": len(observed),
        "differing": int(differs.sum()),
        "importance": "given" if sourced.importance is not None else "one for each" if f.requires_weights else "none",
    }
    if differs.any():
        report |= _difference(name, numbers[differs], observed[differs], expected[differs], x[differs])
        report["profile"] = _profile(sourced, chosen, observed)
    return report


def _difference(
    name: str, numbers: np.ndarray, observed: np.ndarray, expected: np.ndarray, x: np.ndarray
) -> dict[str, Any]:
    """In which kinds of numbers blocks differ, which are better, and the first block number by number."""
    ours, theirs = (_root_mean_square(name, blocks, x) for blocks in (observed, expected))
    kinds = differing_numbers(name, observed, expected)
    return {
        "kinds": kinds,
        "error_of_file": float(f"{ours:.5g}"),
        "error_of_reference": float(f"{theirs:.5g}"),
        "first": {"block": int(numbers[0]), "numbers": listed_differences(name, observed[0], expected[0])},
        "why": why(name, kinds, ours, theirs),
    }


def _root_mean_square(name: str, blocks: np.ndarray, x: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        lost = api.decode(name, blocks.reshape(-1), lane="numpy").reshape(x.shape).astype(np.float64) - x
        return float(np.sqrt(np.nan_to_num(lost * lost, posinf=1e76).mean()))


def _profile(sourced: Sourced, rows: np.ndarray, observed: np.ndarray) -> str | None:
    """The known builds that write just these rows, joined by "or", where the reference does not."""
    known = (profile for profile in builds.BUILDS if sourced.place.format in builds.known_formats(profile))
    found = [p for p in known if np.array_equal(sourced.expected(rows, p).reshape(observed.shape), observed)]
    return " or ".join(found) or None
