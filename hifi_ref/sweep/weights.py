"""Where the weights of a sweep come from: drawn numbers, an .npy, a GGUF of floats, a safetensors file or folder.

Weights come as matrices whose rows are multiples of 256 long, as K formats want them. A tensor with other rows is taken
in one line and cut anew, rows of 1024, what is left over not taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import ml_dtypes
import numpy as np

from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_file import MAGIC, open_gguf, printable
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.model_files.safetensors_file import read_safetensors
from hifi_ref.model_files.source import FLOATS, open_source

if TYPE_CHECKING:
    from jaxtyping import Float32

ROW = 1024
# What a row must be a multiple of, and what matrices are taken in.
SUPER_BLOCK = 256
PIECE = 1 << 18
DRAWN = re.compile(r"(gauss|laplace|student-t:(\d+(?:\.\d+)?))(?:@(\d*\.?\d+(?:e-?\d+)?))?")
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}


class Matrix(NamedTuple):
    """A part of a tensor, rows a multiple of 256 long, with the importance of its columns where that is known."""

    tensor: str
    read: Callable[[], Float32[np.ndarray, "rows n"]]
    shape: tuple[int, int]
    importance: Float32[np.ndarray, "n"] | None = None

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


class Tensor(NamedTuple):
    """``shape``: rows and their length; ``rows`` reads some of them."""

    name: str
    shape: tuple[int, int]
    rows: Callable[[np.ndarray], np.ndarray]


def open_weights(source: str, sample: int, tensors: str = "", imatrix: str | None = None) -> list[Matrix]:
    """The matrices of a source.

    Args:
        source: gauss, laplace or student-t:3, with @0.02 behind it for another spread than 1; or a path.
        sample: how many weights are wanted; 0 for all that a file has. Of a file's tensors rows at even distances.
        tensors: a regular expression that names of tensors must match somewhere.
        imatrix: an importance matrix of the model.

    Raises InputError in one sentence, or OSError.
    """
    drawn = DRAWN.fullmatch(source)
    found = [_drawn(source, drawn, sample or 1 << 20)] if drawn else _in_file(source)
    chosen = [tensor for tensor in found if re.search(tensors, tensor.name)]
    if not chosen:
        raise InputError(f"no tensor of {printable(source)} is a matrix of floats" + f" like {tensors}" * bool(tensors))
    rows = read_imatrix(imatrix).rows if imatrix else {}
    if imatrix and not any(tensor.name in rows for tensor in chosen):
        raise InputError(f"{printable(imatrix)} has none of the tensors of {printable(source)}")
    total = sum(tensor.shape[0] * tensor.shape[1] for tensor in chosen)
    share = 1.0 if not sample or total <= sample else sample / total
    matrices = [matrix for tensor in chosen for matrix in _matrices(tensor, share, rows.get(tensor.name))]
    if not matrices:
        raise InputError(f"{printable(source)} has no matrix of {ROW} weights")
    return matrices


def _drawn(source: str, drawn: re.Match[str], count: int) -> Tensor:
    rng = np.random.default_rng(0)
    shape = (-(-count // ROW), ROW)
    if drawn[2]:
        x = rng.standard_t(float(drawn[2]), shape)
    else:
        x = rng.laplace(size=shape) if drawn[1] == "laplace" else rng.standard_normal(shape)
    x = (x * float(drawn[3] or 1)).astype(np.float32)
    return Tensor(source, shape, lambda which: x[which])


def _in_file(path: str) -> list[Tensor]:
    if path.endswith(".npy"):
        return [_npy(path)]
    if os.path.isdir(path) or path.endswith((".safetensors", ".json")):
        return list(_safetensors(path))
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            raise InputError(
                f"{printable(path)} is no GGUF, safetensors or .npy; numbers are gauss, laplace, student-t:3"
            )
    return list(_gguf(path))


def _npy(path: str) -> Tensor:
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{printable(path)}: {str(error).splitlines()[0]}") from None
    if x.dtype.kind != "f" or x.size < ROW:
        raise InputError(f"{printable(path)} holds {x.size} numbers of {x.dtype}, and {ROW} floats or more are needed")
    rows = x.reshape(-1, x.shape[-1])
    return Tensor(name_of(path), rows.shape, lambda which: rows[which])


def _safetensors(path: str) -> Iterator[Tensor]:
    for entry in read_safetensors(Path(path)).values():
        if entry.dtype not in STORED or len(entry.shape) < 2:
            continue

        def rows(which: np.ndarray, entry=entry) -> np.ndarray:
            raw = np.frombuffer(entry.data, np.uint8, entry.stop - entry.start, entry.start)
            return raw.view(STORED[entry.dtype]).reshape(-1, entry.shape[-1])[which]

        yield Tensor(entry.name, (int(np.prod(entry.shape[:-1])), entry.shape[-1]), rows)


def _gguf(path: str) -> Iterator[Tensor]:
    file = open_gguf(path)
    source = open_source(path, file)
    for name in source.names:
        weights = source.find(name)
        if weights is None or weights.kind not in FLOATS or len(weights.shape) < 2:
            continue

        def rows(which: np.ndarray, weights=weights) -> np.ndarray:
            return weights.rows(which)

        yield Tensor(name, (int(np.prod(weights.shape[1:])), weights.shape[0]), rows)


def _matrices(tensor: Tensor, share: float, importance: np.ndarray | None) -> Iterator[Matrix]:
    """A tensor in pieces, of each of its matrices where its importance has several."""
    count, length = tensor.shape
    each = count if importance is None else count // max(1, importance.size // length)
    if importance is not None and (importance.size % length or not each or count % each):
        raise InputError(f"the importance of {tensor.name} has {importance.size} values for rows of {length}")
    for first in range(0, count, max(1, each)):
        own = None if importance is None else importance.reshape(-1, length)[first // each]
        wanted = max(1, round(share * each), -(-ROW // length))
        chosen = np.unique(np.linspace(first, first + each, min(wanted, each), endpoint=False).astype(np.int64))
        step = max(1, PIECE // length)
        for at in range(0, len(chosen), step):
            piece = _matrix(tensor, chosen[at : at + step], own)
            if piece is not None:
                yield piece


def _matrix(tensor: Tensor, which: np.ndarray, importance: np.ndarray | None) -> Matrix | None:
    length = tensor.shape[1]
    whole = len(which) * length // ROW * ROW
    if not whole:
        return None
    shape = (len(which), length) if length % SUPER_BLOCK == 0 else (whole // ROW, ROW)
    if importance is not None and shape[1] != length:
        # One row, so that each weight keeps its importance
        shape = (1, whole)
        importance = np.tile(importance, len(which))[:whole]

    def read() -> np.ndarray:
        with np.errstate(over="ignore"):
            x = np.asarray(tensor.rows(which)).astype(np.float32)
        finite = np.isfinite(x).all(axis=1)
        if not finite.all():
            row = int(which[int(np.argmin(finite))])
            raise InputError(f"{printable(tensor.name)} holds a weight that is not finite, in row {row}")
        return x.reshape(-1)[: shape[0] * shape[1]].reshape(shape)

    return Matrix(tensor.name, read, shape, importance)
