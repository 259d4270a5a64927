"""What a GGUF file says of itself: its metadata, its tensors and where they lie. Only data; gguf_header reads it."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field

import numpy as np

from hifi_ref.model_files.dialects import REFERENCE
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.tensor_types import TensorType

DEFAULT_ALIGNMENT = 32
# Bytes that are looked at in one go.
CHUNK = 1 << 20


class GgufError(InputError):
    """A file that is no GGUF, or, from `open_gguf`, a broken one. The message names what and where."""


@dataclass(frozen=True, slots=True)
class Value:
    """One metadata value of ``kind``, at byte ``start``. ``count`` is an array's number of items, else None.

    Only single numbers and bools are kept, as ``scalar``: strings and arrays stay in the file.
    """

    kind: str
    start: int
    count: int | None = None
    scalar: int | float | bool | None = None

    @property
    def integer(self) -> int | None:
        """A single integer; None where the value is anything else."""
        return self.scalar if isinstance(self.scalar, int) and self.kind != "bool" else None


@dataclass(slots=True)
class Tensor:
    """One tensor entry. ``start`` counts from the file's first byte; ``shape`` has the row length first.

    ``type`` is None where the id is unknown, ``nbytes`` where the size makes no sense; ``readable`` says that
    the bytes are all in the file and no other tensor's. ``codes`` are the codes of the findings about it. The entry
    starts at byte ``entry_at`` of the file, its type id stands at ``type_at``.
    """

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int
    type: TensorType | None = None
    start: int = 0
    nbytes: int | None = None
    readable: bool = False
    codes: list[str] = field(default_factory=list)
    entry_at: int = 0
    type_at: int = 0

    @property
    def known_type(self) -> TensorType:
        """The type of a tensor that has one, as every readable tensor does."""
        assert self.type is not None
        return self.type

    @property
    def known_nbytes(self) -> int:
        """The size of a tensor that has one, as every readable tensor does."""
        assert self.nbytes is not None
        return self.nbytes

    @property
    def elements(self) -> int:
        total = 1
        for n in self.shape:
            total *= n
        return total

    @property
    def blocks(self) -> int | None:
        return None if self.nbytes is None or self.type is None else self.elements // self.type.block_size

    @property
    def type_name(self) -> str:
        return self.type.name if self.type else f"type {self.type_id}"


@dataclass
class Gguf:
    """What a file says of itself. ``order`` is "<" or ">"; ``data_start`` and ``header_end``, which is the byte behind
    the tensor list, are None where that list is broken.

    ``dialect`` is a key of DIALECTS, whose type ids the file uses.
    """

    data: mmap.mmap | bytes
    order: str = "<"
    version: int = 0
    alignment: int = DEFAULT_ALIGNMENT
    metadata: dict[str, Value] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    data_start: int | None = None
    dialect: str = REFERENCE
    header_end: int | None = None

    def text(self, key: str) -> str | None:
        """A single string of the metadata; None where the key is absent or holds something else."""
        value = self.metadata.get(key)
        if value is None or value.kind != "string" or value.count is not None:
            return None
        length = struct.unpack_from(self.order + "Q", self.data, value.start - 8)[0]
        return self.data[value.start : value.start + length].decode("utf-8", "backslashreplace")

    def raw_name(self, tensor: Tensor) -> bytes:
        """A tensor's name as it stands in the file; ``tensor.name`` has escapes for what is no printable character."""
        length = struct.unpack_from(self.order + "Q", self.data, tensor.entry_at)[0]
        return self.data[tensor.entry_at + 8 : tensor.entry_at + 8 + length]

    def in_file_order(self) -> list[Tensor]:
        """The readable tensors, each behind the one before."""
        return sorted((tensor for tensor in self.tensors if tensor.readable), key=lambda tensor: tensor.start)

    def blocks(self, tensor: Tensor) -> np.ndarray:
        """A readable tensor's bytes, uint8[blocks, type_size], without a copy. Its type has no ``row_bytes``."""
        raw = np.frombuffer(self.data, np.uint8, tensor.known_nbytes, tensor.start)
        return raw.reshape(-1, tensor.known_type.type_size)


def printable(raw: bytes | str) -> str:
    """A name as it may be shown on a terminal: what is no printable character stands as its escape."""
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def note(
    findings: Findings,
    tensor: Tensor,
    code: str,
    message: str,
    *,
    field: str | None = None,
    block: int | None = None,
    offset: int | None = None,
    count: int = 1,
) -> None:
    """Add a finding about one tensor; the rest is as in Finding."""
    finding = Finding(code, f"tensor {tensor.name}: {message}", tensor.name, field, block, offset, count)
    if code not in tensor.codes and not findings.ignores(finding):
        tensor.codes.append(code)
    findings.add(finding)


def above(data: mmap.mmap | bytes, start: int, stop: int, limit: int) -> tuple[int, int]:
    """How many bytes of a range are above ``limit``, and where the first of them is (-1 where there is none)."""
    wrong, first = 0, -1
    for at in range(start, stop, CHUNK):
        high = np.frombuffer(data, np.uint8, min(CHUNK, stop - at), at) > limit
        if high.any():
            first = at + int(high.argmax()) if first < 0 else first
            wrong += int(np.count_nonzero(high))
    return wrong, first


def padded(n: int, alignment: int) -> int:
    """``n`` rounded up to a multiple of ``alignment``."""
    return -(-n // alignment) * alignment
