"""What a type id can stand for: so many weights and bytes per block, and how large that makes a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hifi_ref.formats import FORMATS

# Types of plain numbers that are no block formats.
PLAIN = ("F64", "I8", "I16", "I32", "I64")


class TensorType(NamedTuple):
    """A type id's meaning: ``type_size`` bytes hold ``block_size`` weights; ``row_bytes`` come on top of each row."""

    name: str
    block_size: int
    type_size: int
    row_bytes: int = 0


def is_defined(kind: TensorType) -> bool:
    """Whether blocks of this type mean something here: a format of FORMATS, or plain numbers."""
    if kind.name in FORMATS:
        f = FORMATS[kind.name]
        return kind == (f.name, f.block_size, f.type_size, 0)
    return kind.block_size == 1 and kind.name in PLAIN


def nbytes(kind: TensorType, shape: Sequence[int]) -> int | None:
    """Bytes of a tensor of this shape, row length first; None where its rows are not whole blocks."""
    row, rows = (shape[0] if shape else 1), 1
    for n in shape[1:]:
        rows *= n
    if row % kind.block_size:
        return None
    return rows * (row // kind.block_size * kind.type_size + kind.row_bytes)
