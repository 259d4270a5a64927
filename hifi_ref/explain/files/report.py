"""What is said of a tensor of a file, or of a block of it, as data."""

from __future__ import annotations

from typing import Any

from hifi_ref.explain.explained import SCHEMA
from hifi_ref.explain.files.block import block_of
from hifi_ref.explain.files.compared import block_compared, compared
from hifi_ref.explain.files.errors import errors
from hifi_ref.explain.files.expected import Sourced, open_sourced
from hifi_ref.explain.files.place import Place, open_place
from hifi_ref.explain.files.survey import survey
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.gguf_file import printable


def of_tensor(
    path: str, text: str, source: str | None = None, imatrix: str | None = None, other: str | None = None
) -> dict[str, Any]:
    """All that is said of TENSOR or TENSOR:BLOCK of a file. Raises OSError, or InputError in one sentence."""
    place = open_place(path, text)
    sourced = None if source is None else open_sourced(place, source, imatrix)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "file": printable(path),
        "tensor": printable(place.tensor.name),
        "format": place.format,
        "shape": list(place.tensor.shape),
        "blocks": place.tensor.blocks,
        "source": None if source is None else printable(source),
        "survey": None,
        "errors": None,
        "block": None,
        "compared": None,
    }
    if place.block is not None:
        report["block"] = block_of(place, sourced)
    else:
        report |= _whole(place, sourced)
    if other is not None:
        beside = open_place(other, place.tensor.name)
        found = compared(place, beside) | _whole(beside, _same_source(sourced, beside)) if place.block is None else None
        report["compared"] = {"file": printable(other), "format": beside.format} | (
            found or block_compared(place, beside)
        )
    return report


def _whole(place: Place, sourced: Sourced | None) -> dict[str, Any]:
    bits = {"bits_per_weight": FORMATS[place.format].layout.bits_per_weight}
    return {"survey": survey(place) | bits, "errors": None if sourced is None else errors(sourced)}


def _same_source(sourced: Sourced | None, place: Place) -> Sourced | None:
    return None if sourced is None else sourced._replace(place=place)
