"""The importance matrix: which of its entries count, and whether it is this model's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.imatrix import Imatrix, read_imatrix


class Importance(NamedTuple):
    """A matrix, and the path that it was given by, which llama-quantize records."""

    matrix: Imatrix
    path: str


def read_importance(path: str, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Importance | None:
    """A matrix, of which only the entries count whose names have one of ``include`` in them, and none of ``exclude``.

    None where no entry is left: then llama-quantize quantizes as without a matrix.
    """
    matrix = read_imatrix(path)
    rows = {
        name: row
        for name, row in matrix.rows.items()
        if not any(part in name for part in exclude) and (not include or any(part in name for part in include))
    }
    return Importance(matrix._replace(rows=rows), path) if rows else None


def check_model(importance: Importance | None, names: Iterable[str], model: str) -> None:
    """Raises InputError where no entry of the matrix is that of a tensor of the model, or where it has further layers.

    A matrix of another model with the same names, layers and widths cannot be told.
    """
    if importance is None:
        return
    names, entries = set(names), importance.matrix.rows
    another = f"{printable(importance.path)} is the importance matrix of another model:"
    if names.isdisjoint(entries):
        first = next(iter(entries))
        raise InputError(f"{another} {model} has none of its {len(entries)} tensors, such as {first}")
    last, last_of_matrix = (max(map(_layer, of)) for of in (names, entries))
    if -1 < last < last_of_matrix:
        raise InputError(f"{another} its last layer is {last_of_matrix}, and that of {model} {last}")


def _layer(name: str) -> int:
    """The number of a tensor's layer; -1 where it has none."""
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else -1
