"""One block of a file taken apart, beside its source and what the reference would have written, where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref import api
from hifi_ref.explain import worked
from hifi_ref.explain.files.expected import Sourced, differing_numbers, listed_differences, why
from hifi_ref.explain.files.place import Place
from hifi_ref.explain.search.data import search_data
from hifi_ref.explain.steps import steps
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import InputError


def block_of(place: Place, sourced: Sourced | None) -> dict[str, Any]:
    """The block that a place names. Raises InputError where its source is not finite."""
    block = place.one_block()
    taken = steps(place.format, block)
    decoded = taken[-1].values
    x = None if sourced is None else _source_of(place, sourced)
    work = worked.Worked(place.format, decoded if x is None else x, False, block, taken)
    largest = int(np.argmax(np.nan_to_num(abs(decoded), nan=0)))
    chosen = dict.fromkeys([0, largest] if x is None else [largest, int(np.argmax(abs(decoded - x)))])
    return {
        "block": place.block,
        "row": _row(place),
        "first_weight_of_row": _first(place),
        "bytes": block.tobytes().hex(),
        "steps": [
            {"name": step.name, "formula": step.formula, "values": [worked.number(v) for v in step.values]}
            for step in taken
        ],
        "by_hand": [{"weight": j, "lines": worked.by_hand(work, j)} for j in chosen],
        "source": None if sourced is None or x is None else _beside(place, sourced, block, decoded, x),
    }


def _row(place: Place) -> int:
    assert place.block is not None
    return place.block // (place.row // FORMATS[place.format].block_size)


def _first(place: Place) -> int:
    """Where in its row the block begins."""
    assert place.block is not None
    size = FORMATS[place.format].block_size
    return place.block % (place.row // size) * size


def _source_of(place: Place, sourced: Sourced) -> np.ndarray:
    row, first = _row(place), _first(place)
    x = np.ascontiguousarray(sourced.rows(slice(row, row + 1))[0][first : first + FORMATS[place.format].block_size])
    if not np.isfinite(x).all():
        raise InputError(f"block {place.block} of tensor {place.tensor.name} is not finite in the source")
    return x


def _beside(place: Place, sourced: Sourced, block: np.ndarray, decoded: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """The block's error, the reference's block, where they differ, and the reference's search for these weights."""
    f = FORMATS[place.format]
    made: dict[str, Any] = {"weights": [worked.number(v) for v in x], "error": _error(decoded, x), "reference": None}
    if f.encode is None:
        return made
    row, first = _row(place), _first(place)
    theirs = sourced.expected(np.array([row]))[0, first // f.block_size]
    reference = api.decode(place.format, theirs, lane="numpy")
    kinds = differing_numbers(place.format, block[None], theirs[None])
    made["reference"] = {
        "bytes": theirs.tobytes().hex(),
        "error": _error(reference, x),
        "kinds": list(kinds),
        "numbers": listed_differences(place.format, block, theirs),
        "why": why(place.format, kinds, _error(decoded, x), _error(reference, x)) if kinds else None,
        "weights": [worked.number(v) for v in reference],
    }
    importance = sourced.importance_of(int(sourced.matrix_of(np.array(row))))
    # Recorded are searches without importance, but where the format cannot do without.
    if sourced.importance is None or f.requires_weights:
        own = None if importance is None else importance[first : first + f.block_size]
        made["search"] = search_data(place.format, x, own)
    return made


def _error(decoded: np.ndarray, x: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        lost = np.nan_to_num(decoded.astype(np.float64) - x, posinf=1e38, neginf=-1e38)
    return float(f"{np.sqrt((lost**2).mean()):.5g}")
