"""What becomes of one tensor: copied, or encoded in a format that fits its rows, with its share of the importance."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from hifi_ref.formats import FORMATS, builds
from hifi_ref.mixtures.rules import EMBEDDINGS
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Tensor
from hifi_ref.model_files.gguf_model import Gguf
from hifi_ref.model_files.gguf_write import Change, Entry, head, starts
from hifi_ref.quantize.importance import Importance

FLOATS = ("F32", "F16", "BF16")


class Plan(NamedTuple):
    """What becomes of one tensor: its format, more arguments of its encoder, and a row of importance per matrix.

    ``as_released``: it may be quantized already, and is refused where the release finds its data invalid.
    """

    tensor: Tensor
    format: str
    context: dict[str, Any]
    importance: np.ndarray | None
    as_released: bool = False

    def of_build(self, profile: str) -> Plan:
        """The same as a build writes it that formats/builds.py knows. Raises InputError where it is not known."""
        if self.is_copied or profile == builds.STRICT:
            return self
        if self.format not in builds.known_formats(profile):
            raise InputError(f"profile {profile} is not known for {self.format}, which {self.tensor.name} is to have")
        return self._replace(context=self.context | {"profile": profile})

    @property
    def is_copied(self) -> bool:
        return self.format == self.tensor.type_name

    @property
    def nbytes(self) -> int:
        if self.is_copied:
            return self.tensor.known_nbytes
        f = FORMATS[self.format]
        return self.tensor.elements // f.block_size * f.type_size


class NewFile(NamedTuple):
    """A file to be written: all that stands before the data, then tensors, each at its place; the last is the end.

    ``lacking``: names and types of tensors that llama-quantize refuses, since there is no importance for them.
    ``errors``: of tensors whose types were chosen by them; ``notes``: lines about how they were chosen.
    """

    path: str
    name: str
    head: bytes
    plans: list[Plan]
    starts: list[int]
    lacking: list[tuple[str, str]]
    errors: Mapping[str, float] = MappingProxyType({})
    notes: str = ""

    @property
    def size(self) -> int:
        return self.starts[-1]


def new_file(
    path: str, name: str, like: Gguf | None, changes: dict[str, Change], plans: list[Plan], entries: list[Entry],
    lacking: list[tuple[str, str]],
) -> NewFile:  # fmt: skip
    """A file with this metadata, and its tensors laid out."""
    before = head(like, changes, entries)
    return NewFile(path, name, before, plans, starts(like, len(before), entries), lacking)


def share_of(importance: Importance | None, tensor: Tensor, name: str, format: str) -> np.ndarray | None:
    """The rows of importance for a tensor, f32[matrices, row length], looked up by ``name``; None for none.

    Raises InputError where they do not fit.
    """
    row = None if importance is None else importance.matrix.rows.get(name)
    misfit = row is not None and row.size != tensor.shape[0] * (tensor.shape[2] if len(tensor.shape) > 2 else 1)
    if row is not None and misfit and name not in EMBEDDINGS:
        raise InputError(f"the importance of {name} has {row.size} values for a shape of {list(tensor.shape)}")
    if misfit or not FORMATS[format].uses_importance:
        row = None
    return None if row is None else row.reshape(-1, tensor.shape[0])
