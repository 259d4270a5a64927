"""A tensor as numbers: how large its weights and steps are, how its codes are used, and what stands out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.explain.files.place import Place
from hifi_ref.explain.places import Numbers, numbers_of
from hifi_ref.explain.reading import read_blocks
from hifi_ref.explain.steps import scales
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import release

# Weights that are looked at in one go, cells of a tensor's map, and weights or blocks that are named.
CHUNK, CELLS, NAMED = 1 << 20, 128, 8
# A weight stands out from so many times the weights' root mean square on.
FAR = 6
# Kinds of numbers that say nothing by how often each value comes.
NOT_COUNTED = ("bsums", "outlier at", "outlier values", "outlier pad")
QUANTILES = (0, 1, 25, 50, 75, 99, 100)


class Seen(NamedTuple):
    """What is kept of each block, and the counts of numbers over all: kind -> int[values]."""

    largest: np.ndarray
    squares: np.ndarray
    steps: np.ndarray
    zeros: int
    counts: dict[str, np.ndarray]


def survey(place: Place) -> dict[str, Any]:
    """A whole tensor, whatever its size, in little memory."""
    seen = _look(place)
    size = FORMATS[place.format].block_size
    finite = np.isfinite(seen.largest)
    weights = int(finite.sum()) * size
    size_of_weights = float(np.sqrt(seen.squares[finite].sum() / weights)) if weights else 0.0
    far = np.flatnonzero(finite & (seen.largest > FAR * size_of_weights))
    return {
        "weights": place.tensor.elements,
        "blocks": len(seen.largest),
        "blocks_not_finite": int((~finite).sum()),
        "root_mean_square": float(f"{size_of_weights:.6g}"),
        "zero_share": seen.zeros / place.tensor.elements,
        "steps": _steps(seen.steps),
        "codes": [_use(numbers, seen.counts[numbers.kind]) for numbers in _counted(place.format)],
        "blocks_with_outliers": len(far),
        "largest": _largest(place, seen.largest, size_of_weights),
        "cells": _cells(seen, size),
    }


def _look(place: Place) -> Seen:
    name, blocks = place.format, place.blocks()
    f, kinds = FORMATS[name], _counted(name)
    largest, squares = np.empty(len(blocks), np.float32), np.empty(len(blocks), np.float64)
    counts = {numbers.kind: np.zeros(1 << numbers.bits.shape[1], np.int64) for numbers in kinds}
    steps, zeros = [], 0
    at_a_time = max(1, CHUNK // f.block_size)
    for at in range(0, len(blocks), at_a_time):
        part = blocks[at : at + at_a_time]
        with np.errstate(all="ignore"):
            w = api.decode(name, part.reshape(-1), lane="numpy").reshape(len(part), -1)
            zeros += int(w.size - np.count_nonzero(w))
            squares[at : at + len(part)] = np.einsum("ij,ij->i", w, w)
            largest[at : at + len(part)] = np.abs(w, out=w).max(axis=1)
            numbers = read_blocks(name, part)
            if f.block_size > 1:
                steps.append(abs(scales(name, numbers)[-1].values).astype(np.float32))
        for kind in kinds:
            counts[kind.kind] += _count(numbers[kind.kind], len(counts[kind.kind]))
        start = place.tensor.start + at * f.type_size
        release(place.gguf.data, start, start + part.nbytes)
    return Seen(largest, squares, np.concatenate(steps) if steps else np.zeros((0, 1)), zeros, counts)


def _counted(name: str) -> list[Numbers]:
    """The kinds whose values are counted: whole numbers of not too many bits."""
    return [n for n in numbers_of(name) if n.dtype[0] in "ui" and n.kind not in NOT_COUNTED and n.bits.shape[1] <= 11]


def _count(numbers: np.ndarray, values: int) -> np.ndarray:
    """How often each value comes; of signed numbers as their bits. A comparison is faster than a table of few."""
    unsigned = np.ascontiguousarray(numbers).view(f"u{numbers.itemsize}")
    if values <= 16:
        return np.array([np.count_nonzero(unsigned == value) for value in range(values)])
    return np.bincount(unsigned.reshape(-1), minlength=values)[:values]


def _steps(steps: np.ndarray) -> dict[str, float] | None:
    """Quantiles of the sizes of steps: of each sub-block, what one unit of its codes is worth."""
    known = steps[np.isfinite(steps)]
    if not known.size:
        return None
    values = np.percentile(known, QUANTILES)
    return {f"{q} %": float(f"{value:.5g}") for q, value in zip(QUANTILES, values, strict=True)}


def _use(numbers: Numbers, counts: np.ndarray) -> dict[str, Any]:
    """How a kind of number is used: how much of its bits is information, and how often it is at an end."""
    total, width = int(counts.sum()), numbers.bits.shape[1]
    share = counts[counts > 0] / max(1, total)
    if numbers.dtype == "i8":
        counts = np.roll(counts, 128)
    return {
        "kind": numbers.kind,
        "bits": width,
        "lowest_value": -128 if numbers.dtype == "i8" else 0,
        "counts": counts.tolist(),
        "entropy": float(f"{-(share * np.log2(share)).sum():.4g}") + 0.0,
        "values_used": len(share),
        "lowest_share": int(counts[0]) / max(1, total),
        "highest_share": int(counts[-1]) / max(1, total),
    }


def _largest(place: Place, largest: np.ndarray, size_of_weights: float) -> list[dict[str, Any]]:
    """The blocks with the largest weights, each with that weight."""
    known = np.where(np.isfinite(largest), largest, -1)
    named = []
    for block in np.argsort(-known, kind="stable")[:NAMED].tolist():
        if known[block] > 0:
            w = api.decode(place.format, place.blocks()[block], lane="numpy")
            at = int(abs(w).argmax())
            times = abs(float(w[at])) / (size_of_weights or 1.0)
            named.append({"block": block, "weight": at, "value": float(w[at]), "times": float(f"{times:.4g}")})
    return named


def _cells(seen: Seen, size: int) -> dict[str, list[float]]:
    """The tensor from its first block to its last, in cells: root mean square and largest weight."""
    bounds = np.linspace(0, len(seen.largest), min(CELLS, len(seen.largest)) + 1).astype(int)
    spans = list(zip(bounds[:-1], bounds[1:], strict=True))
    with np.errstate(all="ignore"):
        rms = [float(np.sqrt(np.nan_to_num(seen.squares[a:b], posinf=0).mean() / size)) for a, b in spans]
        largest = [float(np.nan_to_num(seen.largest[a:b], posinf=0).max()) for a, b in spans]
    return {"first_block": bounds[:-1].tolist(), "root_mean_square": rms, "largest": largest}
