"""A tensor and its source: what its blocks were made from, and what they are expected to be."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.formats.builds import STRICT
from hifi_ref.model_files.files import release
from hifi_ref.model_files.gguf_file import Gguf, Tensor
from hifi_ref.model_files.remote import RemoteMap
from hifi_ref.model_files.source import Weights, decode


class Way(NamedTuple):
    """How a tensor may have been made. ``order``: the source's row for each row of the tensor; None for its own.

    ``importance`` is f32[values], of each matrix in turn. ``through`` names the float that weights were rounded to.
    ``outliers`` is how many each block keeps, where the format leaves that to its caller.
    """

    name: str = ""
    importance: np.ndarray | None = None
    order: np.ndarray | None = None
    through: str | None = None
    outliers: int | None = None


class Piece(NamedTuple):
    """Rows of one matrix of a tensor, numbered over the whole tensor."""

    matrix: int
    rows: np.ndarray


@dataclass
class SourcedTensor:
    """What stays the same for a tensor: the file, it, its source, the profile that is asked for.

    ``encode(x, importance, outliers, profile)`` gives blocks.
    """

    gguf: Gguf
    tensor: Tensor
    weights: Weights
    encode: Callable[[np.ndarray, np.ndarray | None, int | None, str], np.ndarray]
    profile: str = STRICT

    @property
    def row(self) -> int:
        return self.tensor.shape[0] if self.tensor.shape else 1

    @property
    def blocks_per_row(self) -> int:
        return self.row // self.tensor.known_type.block_size

    def observed(self, rows: np.ndarray) -> np.ndarray:
        """uint8[rows, blocks per row, type_size], as the file has them."""
        blocks = self.gguf.blocks(self.tensor).reshape(-1, self.blocks_per_row, self.tensor.known_type.type_size)
        return _fetched(self.gguf.data, self.tensor.start, blocks, rows)

    def forget(self) -> None:
        """Give back the memory of what was read of the file and of its source."""
        self.weights.forget()
        release(self.gguf.data, self.tensor.start, self.tensor.start + self.tensor.known_nbytes)

    def _source_rows(self, piece: Piece, way: Way) -> np.ndarray:
        """The source's row for each row of a piece. A vector, one row, has its numbers reordered instead."""
        return piece.rows if way.order is None or len(self.tensor.shape) == 1 else way.order[piece.rows]

    def source(self, piece: Piece, way: Way) -> np.ndarray:
        """f32[rows, row length] that the rows of a piece were made from."""
        x = self.weights.rows(_as_slice(self._source_rows(piece, way)))
        if way.order is not None and len(self.tensor.shape) == 1:
            x = x[:, way.order]
        if self.weights.close and self.tensor.known_type.name == "F32":
            # What a function of a library gave the converter is taken from the file where it is as near as that.
            seen = self.observed(piece.rows).reshape(len(x), -1).view("<f4")
            with np.errstate(all="ignore"):
                x = np.where(np.abs(seen - x) <= self.weights.close * np.abs(x), seen, x)
        return x if way.through is None else _rounded(x, way.through)

    def expected(self, x: np.ndarray, piece: Piece, way: Way) -> tuple[np.ndarray, np.ndarray]:
        """The blocks that the reference writes, and bool[rows, blocks per row]: where the source is finite.

        A tensor that has its type already is copied.
        """
        size = self.tensor.known_type.block_size
        shape = (len(x), -1, self.tensor.known_type.type_size)
        if self.is_copied(way):
            stored, rows = self.weights.stored, self._source_rows(piece, way)
            assert stored is not None
            return stored(_as_slice(rows)).reshape(shape), np.ones((len(x), self.blocks_per_row), bool)
        finite = np.isfinite(x).reshape(len(x), -1, size).all(axis=2)
        if not finite.all():
            if way.importance is not None and FORMATS[self.tensor.known_type.name].row_scoped:
                finite &= finite.all(axis=1, keepdims=True)
            x = np.where(np.isfinite(x), x, np.float32(0))
        return self.encode(x, self.importance(piece, way), way.outliers, self.profile).reshape(shape), finite

    def importance(self, piece: Piece, way: Way) -> np.ndarray | None:
        """f32[row length], that of a piece's matrix."""
        return None if way.importance is None else way.importance.reshape(-1, self.row)[piece.matrix]

    def is_copied(self, way: Way) -> bool:
        """Whether the source has the blocks themselves."""
        if self.weights.stored is None or self.weights.kind != self.tensor.known_type.name:
            return False
        return way.through is None and not (len(self.tensor.shape) == 1 and way.order is not None)


def _rounded(x: np.ndarray, through: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        if through == "F16":
            return x.astype(np.float16).astype(np.float32)
    finite = np.where(np.isfinite(x), x, np.float32(0))
    return decode("BF16", api.encode("BF16", finite, lane="numpy"))


def _fetched(data: mmap.mmap | bytes, start: int, blocks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These of a tensor's rows, which begins at ``start`` of a map; of a remote file each is fetched, and copied."""
    if not isinstance(data, RemoteMap):
        return blocks[_as_slice(rows)]
    with ExitStack() as here:
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            first, last = (start + int(row) * blocks[0].nbytes for row in (run[0], run[-1] + 1))
            here.enter_context(data.held(first, last, first_too=True))
        return blocks[_as_slice(rows)].copy()


def _as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Neighbouring rows as a slice, which needs no copy."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
