"""A GGUF file's header, metadata and tensor list, read byte by byte, with every claim of the file checked."""

from __future__ import annotations

import mmap
import struct
from dataclasses import replace
from typing import Any, NamedTuple

from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_model import Gguf, Tensor, Value, above, note, printable

VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
MAX_NAME = 64
MAX_KEY = (1 << 16) - 1
# The longest lists that are read, far above any model's: entries are kept in memory, values are not.
MAX_ENTRIES = 1 << 16
MAX_ELEMENTS = 1 << 30


class Kind(NamedTuple):
    """A metadata value's kind: its name and, for a scalar, the letter that `struct` knows it by."""

    name: str
    letter: str | None = None


KINDS = {
    0: Kind("u8", "B"),
    1: Kind("i8", "b"),
    2: Kind("u16", "H"),
    3: Kind("i16", "h"),
    4: Kind("u32", "I"),
    5: Kind("i32", "i"),
    6: Kind("f32", "f"),
    7: Kind("bool", "B"),
    8: Kind("string"),
    9: Kind("array"),
    10: Kind("u64", "Q"),
    11: Kind("i64", "q"),
    12: Kind("f64", "d"),
}


class Malformed(Exception):
    """The rest of the file cannot be understood."""

    def __init__(self, code: str, message: str, offset: int) -> None:
        super().__init__(message)
        self.finding = Finding(code, message, offset=offset)


class Cursor:
    """A place in the file that only moves forward, and never past the end."""

    def __init__(self, data: mmap.mmap | bytes, order: str) -> None:
        self.data, self.order, self.size, self.at = data, order, len(data), 0

    def skip(self, n: int, what: str) -> int:
        """Move over ``n`` bytes; return where they start."""
        if n > self.size - self.at:
            message = f"the file ends at byte {self.size} inside {what}, which needs bytes {self.at} to {self.at + n}"
            raise Malformed("G001", message, self.at)
        start, self.at = self.at, self.at + n
        return start

    def number(self, letter: str, what: str) -> Any:
        """A number as `struct` reads it: an int, or a float by the letters f and d."""
        form = self.order + letter
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form), what))[0]

    def count(self, what: str, item_bytes: int, limit: int = MAX_ELEMENTS) -> int:
        """A u64 that announces so many items of at least ``item_bytes`` bytes each."""
        start = self.at
        n = self.number("Q", what)
        if n > limit:
            raise Malformed("G003", f"{what}, at byte {start}, is {n}; at most {limit} can be read", start)
        if n * item_bytes > self.size - self.at:
            message = f"{what}, at byte {start}, is {n}, but only {self.size - self.at} bytes of the file follow"
            raise Malformed("G003", message, start)
        return n

    def text(self, what: str, limit: int) -> bytes:
        n = self.count(f"the length of {what}", 1, limit)
        start = self.skip(n, what)
        return self.data[start : start + n]

    def strings(self, n: int, what: str) -> None:
        """Move over ``n`` strings: a tight loop, because vocabularies are long."""
        data, at, last = self.data, self.at, self.size - 8
        length = struct.Struct(self.order + "Q").unpack_from
        for i in range(n):
            if at > last:
                raise Malformed("G001", f"the file ends at byte {self.size} inside string {i} of {what}", at)
            at += 8 + length(data, at)[0]
        if at > self.size:
            raise Malformed("G003", f"a string of {what} reaches beyond the end of the file", self.at)
        self.at = at


def read(gguf: Gguf, findings: Findings) -> int | None:
    """Read a file that starts with the magic; the byte behind the tensor list, or None where that cannot be found."""
    try:
        cursor, n_tensors, n_metadata = _header(gguf)
        for i in range(n_metadata):
            _metadata_entry(gguf, cursor, i, findings)
        _set_alignment(gguf)
        names: set[bytes] = set()
        for i in range(n_tensors):
            _tensor_entry(gguf, cursor, i, names, findings)
    except Malformed as broken:
        findings.add(broken.finding)
        return None
    return cursor.at


def _header(gguf: Gguf) -> tuple[Cursor, int, int]:
    cursor = Cursor(gguf.data, "<")
    cursor.skip(4, "the magic")
    version = cursor.number("I", "the version")
    # Versions are small: a number whose low half is zero was written in the other byte order.
    if version & 0xFFFF == 0:
        cursor.order = gguf.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    gguf.version = version
    if version not in VERSIONS:
        raise Malformed("G002", f"the version, at byte 4, is {version}; this release reads 2 and 3", 4)
    # The shortest entries: a name of one character, a dimension count, a type and an offset; a key and a u8.
    n_tensors = cursor.count("the number of tensors", 8 + 4 + 4 + 8, MAX_ENTRIES)
    n_metadata = cursor.count("the number of metadata entries", 8 + 1 + 4 + 1, MAX_ENTRIES)
    return cursor, n_tensors, n_metadata


def _metadata_entry(gguf: Gguf, cursor: Cursor, i: int, findings: Findings) -> None:
    start = cursor.at
    raw = cursor.text(f"the key of metadata entry {i}", MAX_KEY)
    if not raw or b"\0" in raw:
        raise Malformed("G004", f"the key of metadata entry {i}, at byte {start}, is empty or holds a NUL byte", start)
    key = printable(raw)
    _check_printable(raw, f"metadata key {key}", start, findings)
    what = f"the value of {key}"
    kind, at = _kind(cursor, what)
    if kind.name == "array":
        kind, at = _kind(cursor, what)
        if kind.name == "array":
            raise Malformed("G006", f"{what}, at byte {at}, is an array of arrays, which no reader accepts", at)
        size = struct.calcsize("=" + kind.letter) if kind.letter else 8
        count = cursor.count(f"the number of items of {key}", size)
        value = Value(kind.name, cursor.at, count)
        if kind.letter:
            cursor.skip(count * size, what)
            if kind.name == "bool":
                _check_bools(gguf.data, value.start, count, what, findings)
        else:
            cursor.strings(count, what)
    elif kind.letter:
        at = cursor.at
        value = Value(kind.name, at, scalar=cursor.number(kind.letter, what))
        if kind.name == "bool":
            _check_bools(gguf.data, at, 1, what, findings)
            value = replace(value, scalar=bool(value.scalar))
    else:
        length = cursor.count(f"the length of {what}", 1)
        value = Value(kind.name, cursor.skip(length, what))
    if key in gguf.metadata:
        findings.add(Finding("G005", f"metadata key {key} occurs twice, again at byte {start}", offset=start))
    gguf.metadata[key] = value


def _kind(cursor: Cursor, what: str) -> tuple[Kind, int]:
    at = cursor.at
    number = cursor.number("I", f"the kind of {what}")
    if number not in KINDS:
        raise Malformed("G006", f"{what}, at byte {at}, is of kind {number}; kinds 0 to 12 are defined", at)
    return KINDS[number], at


def _check_bools(data: mmap.mmap | bytes, start: int, count: int, what: str, findings: Findings) -> None:
    wrong, first = above(data, start, start + count, 1)
    if wrong:
        message = f"{what} holds a bool of {data[first]} at byte {first}"
        findings.add(Finding("G024", message, offset=first, count=wrong))


def _check_printable(raw: bytes, what: str, at: int, findings: Findings) -> None:
    try:
        good = raw.decode().isprintable()
    except UnicodeDecodeError:
        good = False
    if not good:
        findings.add(Finding("G023", f"{what}, at byte {at}, holds control characters or is not UTF-8", offset=at))


def _set_alignment(gguf: Gguf) -> None:
    value = gguf.metadata.get("general.alignment")
    if value is None:
        return
    alignment = value.integer
    if value.kind != "u32" or alignment is None:
        shape = "a single value" if value.count is None else "an array"
        raise Malformed("G007", f"general.alignment is {shape} of kind {value.kind}, not one u32", value.start)
    if alignment == 0 or alignment & (alignment - 1):
        raise Malformed("G007", f"general.alignment is {alignment}, no power of two", value.start)
    gguf.alignment = alignment


def _tensor_entry(gguf: Gguf, cursor: Cursor, i: int, names: set[bytes], findings: Findings) -> None:
    start = cursor.at
    raw = cursor.text(f"the name of tensor {i}", MAX_KEY)
    name = printable(raw[: 4 * MAX_NAME])
    n_dims = cursor.number("I", f"the number of dimensions of tensor {name}")
    if n_dims > MAX_DIMENSIONS:
        at = cursor.at - 4
        raise Malformed("G010", f"tensor {name} has {n_dims} dimensions, at byte {at}; 4 at most", at)
    shape = tuple(cursor.number("Q", f"a dimension of tensor {name}") for _ in range(n_dims))
    type_id = cursor.number("I", f"the type of tensor {name}")
    type_at = cursor.at - 4
    tensor = Tensor(name, shape, type_id, cursor.number("Q", f"the offset of tensor {name}"))
    tensor.entry_at, tensor.type_at = start, type_at
    gguf.tensors.append(tensor)

    if len(raw) >= MAX_NAME or b"\0" in raw:
        message = f"the name has {len(raw)} bytes; at most 63 are allowed, and none may be NUL"
        note(findings, tensor, "G008", message, offset=start)
    _check_printable(raw, f"the name of tensor {name}", start, findings)
    if raw in names:
        note(findings, tensor, "G009", f"the name occurs twice, again at byte {start}", offset=start)
    names.add(raw)
