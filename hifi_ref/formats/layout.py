"""A block's bytes, declared once: packing, unpacking and every table about a format come from here.

>>> from hifi_ref.formats import q4_0
>>> print(q4_0.LAYOUT.table())
bytes   field   type     holds
0-1     d       f16      scale
2-17    qs      u8[16]   codes, weights 0-15 in low nibbles, 16-31 in high nibbles
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Shaped, UInt8

    from hifi_ref.exact import Array

SIZE = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "f16": 2, "f32": 4}


@dataclass(frozen=True)
class Field:
    """One named run of a block: ``count`` little-endian numbers of type ``dtype`` (a key of SIZE)."""

    name: str
    dtype: str
    count: int = 1
    holds: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return SIZE[self.dtype] * self.count

    @property
    def type(self) -> str:
        return self.dtype if self.count == 1 else f"{self.dtype}[{self.count}]"


@dataclass(frozen=True)
class Layout:
    """The fields of one block in byte order, without gaps."""

    name: str
    type_id: int | None  # None where GGUF has no number for it
    block_size: int
    fields: tuple[Field, ...]
    dot_with: str | None = None

    @cached_property
    def type_size(self) -> int:
        """Bytes per block."""
        return sum(field.size for field in self.fields)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.type_size / self.block_size

    @property
    def names(self) -> list[str]:
        """The fields' names, in byte order."""
        return list(self._offsets)

    @cached_property
    def _offsets(self) -> dict[str, int]:
        offsets, at = {}, 0
        for field in self.fields:
            offsets[field.name] = at
            at += field.size
        return offsets

    def offset(self, name: str) -> int:
        """Byte offset of a field inside a block."""
        return self._offsets[name]

    def span(self, name: str) -> slice:
        """Where in a block's bytes a field lies."""
        field = next(field for field in self.fields if field.name == name)
        return slice(self.offset(name), self.offset(name) + field.size)

    def field_at(self, byte: int) -> Field:
        """The field that a byte of the block belongs to."""
        for field in self.fields:
            if byte < self.offset(field.name) + field.size:
                return field
        raise ValueError(f"{self.name} has {self.type_size} bytes a block, so no byte {byte}")

    def unpack(self, blocks: UInt8[Array, "*n bytes"]) -> tuple[Array, ...]:
        """One array a field, in order: [*n] for a single number, [*n, count] for a run.

        f16 comes widened to float32 (exact); the other types come as they are.
        """
        if blocks.shape[-1] != self.type_size:
            raise ValueError(f"a {self.name} block has {self.type_size} bytes, not {blocks.shape[-1]}")
        fields = []
        for field in self.fields:
            values = _read(blocks[..., self.span(field.name)], field.dtype)
            fields.append(values[..., 0] if field.count == 1 else values)
        return tuple(fields)

    def by_name(self, blocks: UInt8[Array, "*n bytes"]) -> dict[str, Array]:
        """What unpack gives, each array under its field's name."""
        return dict(zip(self.names, self.unpack(blocks), strict=True))

    def pack(self, **values: Array) -> UInt8[Array, "*n bytes"]:
        """The inverse of unpack: one array a field. f16 takes float32, rounded to even."""
        if set(values) != set(self._offsets):
            raise ValueError(f"{self.name} has the fields {self.names}, not {list(values)}")
        parts = []
        for field in self.fields:
            array = values[field.name]
            parts.append(_write(array[..., None] if field.count == 1 else array, field.dtype))
        return exact.library(parts[0]).concatenate(parts, axis=-1)

    def table(self) -> str:
        """The byte table of the format's docstring."""
        rows = [("bytes", "field", "type", "holds")]
        for field in self.fields:
            first = self.offset(field.name)
            last = first + field.size - 1
            span = str(first) if first == last else f"{first}-{last}"
            rows.append((span, field.name, field.type, field.holds))
        return "\n".join(f"{span:<7} {name:<7} {type_:<8} {holds}".rstrip() for span, name, type_, holds in rows)


def _read(raw: UInt8[Array, "*n bytes"], dtype: str) -> Shaped[Array, "*n count"]:
    """Little-endian numbers of that type."""
    if dtype == "u8":
        return raw
    if dtype == "i8":
        return raw.view(np.int8)
    size = SIZE[dtype]
    word: Any = np.uint16 if size == 2 else np.uint32
    joined: Any
    if exact.is_jax(raw):
        parts = raw.reshape(*raw.shape[:-1], raw.shape[-1] // size, size)
        joined = parts[..., 0].astype(word)
        for i in range(1, size):
            joined = joined | parts[..., i].astype(word) << word(8 * i)
    else:
        joined = np.ascontiguousarray(raw).view(np.dtype(word).newbyteorder("<")).astype(word, copy=False)
    if dtype == "f16":
        return exact.widen_f16(joined)
    return {"u16": lambda u: u, "i16": lambda u: u.view(np.int16), "f32": exact.from_bits}[dtype](joined)


def _write(values: Shaped[Array, "*n count"], dtype: str) -> UInt8[Array, "*n bytes"]:
    """The inverse of _read. Integers keep their low bits."""
    if SIZE[dtype] == 1:
        return values.astype(np.uint8)
    if dtype == "f16":
        word = exact.narrow_f16(values)
    elif dtype == "f32":
        word = exact.bits(values)
    else:
        word = values.astype(np.uint16)
    size = SIZE[dtype]
    parts = [(word >> word.dtype.type(8 * i)).astype(np.uint8) for i in range(size)]
    stacked = exact.library(word).stack(parts, axis=-1)
    return stacked.reshape(*stacked.shape[:-2], stacked.shape[-2] * size)
