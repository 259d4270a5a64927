"""Two importance matrices side by side: by how much they agree on each tensor's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.imatrix import read_imatrix

if TYPE_CHECKING:
    from jaxtyping import Float32


class Agreement(NamedTuple):
    """Of a tensor's columns, or of those of all its matrices: the cosine of both, and Spearman's correlation of ranks.

    Either is 1 where both say the same but for a factor, and None where one of them says the same of all.
    """

    tensor: str
    cosine: float
    ranks: float | None


class Comparison(NamedTuple):
    """``only``: the names that one of the two alone has, in order."""

    agreements: list[Agreement]
    only: tuple[list[str], list[str]]


def compared(first: str, second: str) -> Comparison:
    """Raises OSError, ImatrixError, or InputError where they are of different models."""
    a, b = read_imatrix(first).rows, read_imatrix(second).rows
    common = sorted(a.keys() & b.keys())
    if not common:
        raise InputError(f"{printable(first)} and {printable(second)} have no tensor in common")
    for name in common:
        if a[name].size != b[name].size:
            sizes = f"{a[name].size} values in {printable(first)} and {b[name].size} in {printable(second)}"
            raise InputError(f"these are matrices of different models: {name} has {sizes}")
    agreements = [Agreement(name, _cosine(a[name], b[name]), _ranks_agree(a[name], b[name])) for name in common]
    return Comparison(agreements, (sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())))


def _cosine(a: Float32[np.ndarray, "n"], b: Float32[np.ndarray, "n"]) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length else float(np.array_equal(x, y))


def _ranks_agree(a: Float32[np.ndarray, "n"], b: Float32[np.ndarray, "n"]) -> float | None:
    x, y = (_ranks(row) - (row.size - 1) / 2 for row in (a, b))
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length else None


def _ranks(row: Float32[np.ndarray, "n"]) -> np.ndarray:
    """From 0; equal values share the mean of their ranks."""
    _, place, counts = np.unique(row, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[place]
