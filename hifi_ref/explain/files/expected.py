"""What the reference would have written for some rows of a source, and number by number how a file's blocks differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.explain.files.place import Place
from hifi_ref.explain.places import numbers_of
from hifi_ref.explain.reading import read, read_blocks
from hifi_ref.formats import FORMATS, builds
from hifi_ref.model_files.context import contexts
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.model_files.source import Weights, open_source

# Numbers of a block that are listed where they differ.
LISTED = 24


class Sourced(NamedTuple):
    """A place, the weights that it was made from, and the importance of its rows, f32[matrices, row], or None."""

    place: Place
    weights: Weights
    importance: np.ndarray | None

    def rows(self, rows: np.ndarray | slice) -> np.ndarray:
        """f32[rows, row length] of the source."""
        return self.weights.rows(rows)

    def matrix_of(self, rows: np.ndarray) -> np.ndarray:
        """The matrix of the tensor that each row is in."""
        shape = self.place.tensor.shape
        return rows // (shape[1] if len(shape) > 1 else 1)

    def importance_of(self, matrix: int) -> np.ndarray | None:
        """f32[row length], that of a matrix; of formats that cannot do without, one for each where none is given."""
        if self.importance is not None:
            return self.importance[matrix]
        needed = FORMATS[self.place.format].requires_weights
        return np.ones(self.place.row, np.float32) if needed else None

    def expected(self, rows: np.ndarray, profile: str = builds.STRICT) -> np.ndarray:
        """u8[rows, blocks per row, type_size] that the reference writes for these rows, whose weights are finite."""
        name = self.place.format
        f = FORMATS[name]
        matrices = self.matrix_of(rows)
        found = np.empty((len(rows), self.place.row // f.block_size, f.type_size), np.uint8)
        context = contexts(self.place.gguf).get(self.place.tensor.name, {})
        for matrix in np.unique(matrices).tolist():
            own = matrices == matrix
            x, importance = np.ascontiguousarray(self.rows(rows[own])), self.importance_of(matrix)
            blocks = api.encode(name, x, importance, lane="numpy", profile=profile, **context)
            found[own] = blocks.reshape(-1, *found.shape[1:])
        return found


def open_sourced(place: Place, source: str, imatrix: str | None) -> Sourced:
    """The source of a place's tensor. Raises OSError, or InputError in one sentence."""
    name = place.tensor.name
    weights = open_source(source, place.gguf).find(name)
    if weights is None:
        raise InputError(f"{printable(source)} has no tensor {printable(name)}")
    if _plain(weights.shape) != _plain(place.tensor.shape):
        shapes = f"{list(place.tensor.shape)}, and {list(weights.shape)} in {printable(source)}"
        raise InputError(f"the shape of tensor {printable(name)} is {shapes}")
    if imatrix is None:
        return Sourced(place, weights, None)
    row = read_imatrix(imatrix).rows.get(name)
    if row is None or len(row) % place.row or len(row) // place.row != _matrices(place):
        raise InputError(f"{printable(imatrix)} has no importance of its width for tensor {printable(name)}")
    return Sourced(place, weights, row.reshape(-1, place.row).astype(np.float32))


def _plain(shape: tuple[int, ...]) -> list[int]:
    """A shape without the ones at its end."""
    kept = list(shape)
    while len(kept) > 1 and kept[-1] == 1:
        kept.pop()
    return kept


def _matrices(place: Place) -> int:
    return int(np.prod(place.tensor.shape[2:], dtype=np.int64))


# DIFFERENCES


def differing_numbers(name: str, observed: np.ndarray, expected: np.ndarray) -> dict[str, int]:
    """u8[n, type_size] each -> for each kind in how many blocks a number of it differs."""
    ours, theirs = read_blocks(name, observed), read_blocks(name, expected)
    found = {}
    for kind, numbers in ours.items():
        differs = ~((numbers == theirs[kind]) | ((numbers != numbers) & (theirs[kind] != theirs[kind])))
        if differs.any():
            found[kind] = int(differs.any(axis=1).sum())
    return found


def listed_differences(name: str, observed: np.ndarray, expected: np.ndarray) -> list[dict[str, Any]]:
    """Of one block each: the numbers that differ, field by field, the first of them."""
    ours, theirs = read(name, observed), read(name, expected)
    return [
        {"kind": n.kind, "number": i if len(n.bits) > 1 else None,
         "file": ours[n.kind][i].item(), "reference": theirs[n.kind][i].item()}
        for n in numbers_of(name)
        for i in np.flatnonzero(ours[n.kind] != theirs[n.kind]).tolist()
    ][:LISTED]  # fmt: skip


def why(name: str, kinds: dict[str, int], error: float, reference: float) -> str:
    """What a difference means, as far as the numbers tell; errors are root mean squares over the blocks that differ."""
    better = (
        "smaller than" if error < 0.999 * reference else "larger than" if error > 1.001 * reference else "as large as"
    )
    if set(kinds) <= {"code", "digits", "row", "sign"}:
        what = "Scales are the same, and codes were chosen otherwise: another rounding, or damage"
    elif "d" in kinds or "dmin" in kinds or "m" in kinds:
        what = (
            "The scales of whole blocks differ, and what is counted in them follows: another search, importance that "
        )
        what += "is not given here, another build, or other weights"
    else:
        what = "Scales of sub-blocks differ, and their codes follow: another search or importance, or damage"
    return f"{what}. The file's error is {better} the reference's there."
