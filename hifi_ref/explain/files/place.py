"""Which tensor of a file is meant, and which of its blocks."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Gguf, Tensor, open_gguf, printable
from hifi_ref.model_files.tensor_types import is_defined


class Place(NamedTuple):
    """A tensor of an open file, and a block of it, or None for all."""

    path: str
    gguf: Gguf
    tensor: Tensor
    block: int | None

    @property
    def format(self) -> str:
        """A key of FORMATS."""
        return self.tensor.known_type.name

    @property
    def row(self) -> int:
        """Weights of a row."""
        return self.tensor.shape[0] if self.tensor.shape else 1

    def blocks(self) -> np.ndarray:
        """The tensor's bytes, u8[blocks, type_size], without a copy."""
        return self.gguf.blocks(self.tensor)

    def one_block(self) -> np.ndarray:
        """The bytes of the block that is meant, u8[type_size]."""
        assert self.block is not None
        return self.blocks()[self.block].copy()


def open_place(path: str, text: str) -> Place:
    """The place that TENSOR or TENSOR:BLOCK names in a file. Raises OSError, or InputError in one sentence."""
    gguf = open_gguf(path)
    if gguf.order == ">":
        raise InputError(f"{printable(path)} is big-endian: convert it with gguf_convert_endian")
    names = {tensor.name: tensor for tensor in gguf.tensors}
    name, _, number = text.rpartition(":")
    if text in names or not re.fullmatch(r"\d+", number):
        name, number = text, ""
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"; near it are {', '.join(near)}" if near else f" among its {len(names)}"
        raise InputError(f"{printable(path)} has no tensor {printable(name)}{hint}")
    tensor = names[name]
    kind = tensor.known_type
    if kind.name not in FORMATS or not is_defined(kind):
        raise InputError(f"tensor {printable(name)} is of type {kind.name}, which is no block format")
    if not tensor.elements:
        raise InputError(f"tensor {printable(name)} is empty")
    block = int(number) if number else None
    if block is not None and block >= (tensor.blocks or 0):
        message = (
            f"tensor {printable(name)} has {tensor.blocks} blocks, 0 to {(tensor.blocks or 1) - 1}, and no {block}"
        )
        raise InputError(message)
    return Place(path, gguf, tensor, block)
