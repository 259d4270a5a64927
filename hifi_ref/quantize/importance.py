"""The importance matrix: which of its entries count, and whether it is this model's."""

from __future__ import annotations

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
    """Raises InputError where no entry of the matrix is that of a tensor of the model."""
    if importance is not None and importance.matrix.rows.keys().isdisjoint(names):
        first = next(iter(importance.matrix.rows))
        raise InputError(
            f"{printable(importance.path)} is the importance matrix of another model: {model} has none of its "
            f"{len(importance.matrix.rows)} tensors, such as {first}"
        )
