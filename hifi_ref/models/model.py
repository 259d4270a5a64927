"""An open model: the numbers of its metadata and its tensors, whole or split over shards."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_file import Gguf, Tensor, open_gguf, printable
from hifi_ref.model_files.models import with_its_shards
from hifi_ref.models import exact_mode
from hifi_ref.models.arithmetic import Arithmetic, Matrix


class ModelError(InputError):
    """A model, or what it is given, that cannot be computed. The message names what and where, in one sentence."""


# Called with a matrix's name, its input float32[tokens, (slots,) columns], and for experts int[tokens, slots]: NumPy's.
Observer = Callable[[str, np.ndarray, np.ndarray | None], None]


def nobody(name: str, x: np.ndarray, chosen: np.ndarray | None) -> None:
    """An observer that looks away."""


@dataclass(frozen=True)
class Model:
    """``tensors`` maps a name to the shard that holds it and its entry; ``used`` are the names that were asked for.

    ``arithmetic``: how a mode computes. ``replaced``: matrices that stand in for the file's own.
    """

    name: str
    architecture: str
    gguf: Gguf
    tensors: dict[str, tuple[Gguf, Tensor]]
    observe: Observer = nobody
    arithmetic: Arithmetic = exact_mode.ARITHMETIC
    replaced: Mapping[str, Matrix] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def number(self, key: str, default: float | None = None) -> float:
        """A single number of the metadata, ``key`` without the architecture before it. Raises ModelError."""
        key = f"{self.architecture}.{key}"
        value = self.gguf.metadata.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise ModelError(f"{self.name}: the metadata key {key} is missing")
        if value.scalar is None:
            raise ModelError(f"{self.name}: the metadata key {key} is no single number, which is not supported")
        return value.scalar

    def count(self, key: str, default: int | None = None) -> int:
        """The same for a whole number."""
        return int(self.number(key, default))

    def has(self, name: str) -> bool:
        return name in self.tensors

    def matrix(self, name: str, columns: int | None = None) -> Matrix:
        """A tensor's blocks. Raises ModelError where it is missing, or its rows do not have so many weights."""
        if name not in self.tensors:
            raise ModelError(f"{self.name}: the tensor {name} is missing")
        gguf, tensor = self.tensors[name]
        if tensor.type_name not in FORMATS or gguf.order != "<":
            what = tensor.type_name if gguf.order == "<" else "big-endian"
            raise ModelError(f"{self.name}: the tensor {name} is {what}, which cannot be multiplied")
        self.used.add(name)
        n = tensor.shape[0]
        if columns is not None and n != columns:
            raise ModelError(f"{self.name}: a row of {name} has {n} weights, where {columns} are needed")
        if name in self.replaced:
            return self.replaced[name]
        blocks = gguf.blocks(tensor).reshape(*tensor.shape[:0:-1], -1)
        return Matrix(tensor.type_name, blocks, n)

    def vector(self, name: str, length: int | None = None) -> np.ndarray:
        """float32[n] of an F32 tensor of one row."""
        kind, blocks, _ = self.matrix(name, length)
        if kind != "F32":
            raise ModelError(f"{self.name}: the tensor {name} is {kind}, where F32 is needed")
        return blocks.reshape(-1).view("<f4").astype(np.float32)

    def check_all_used(self) -> None:
        """Raise ModelError where the model has a tensor that the pass did not take."""
        left = sorted(set(self.tensors) - self.used)
        if left:
            raise ModelError(
                f"{self.name}: nothing is known of the tensor {left[0]} in the architecture {self.architecture}"
            )


def open_model(
    path: str | os.PathLike[str], observe: Observer = nobody, arithmetic: Arithmetic = exact_mode.ARITHMETIC
) -> Model:
    """Open a GGUF model; of a split one any shard is given. Raises OSError, GgufError or ModelError."""
    files = with_its_shards(os.fspath(path))
    name = printable(name_of(path))
    if files.missing:
        raise ModelError(f"{name}: the shard {printable(name_of(files.missing[0]))} is missing")
    shards = [open_gguf(shard) for shard in files.paths]
    architecture = shards[0].text("general.architecture")
    if architecture is None:
        raise ModelError(f"{name}: there is no general.architecture in it, so it is no model")
    tensors = {tensor.name: (shard, tensor) for shard in shards for tensor in shard.tensors}
    return Model(name, architecture, shards[0], tensors, observe, arithmetic)
