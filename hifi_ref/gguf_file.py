"""Reading a GGUF file: header, metadata and tensor list, memory-mapped, with every claim of the file checked.

A GGUF file, versions 2 and 3, in the file's own byte order:

    "GGUF"  u32 version  u64 tensor count  u64 metadata count
    metadata entries: key, u32 kind, value    a string is u64 length and bytes; an array is u32 kind, u64 count, values
    tensor entries:   name, u32 n, u64 dimension[n] (row length first), u32 type, u64 offset in the data section
    zero bytes up to a multiple of general.alignment (32 where absent), then each tensor's data, each so padded

`scan` reads as far as the file can be understood and notes what is wrong; `open_gguf` raises on the first error.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hifi_ref.findings import Finding, Findings
from hifi_ref.formats import FORMATS

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_NAME = 64
MAX_KEY = (1 << 16) - 1
# The longest lists that are read, far above any model's: entries are kept in memory, values are not.
MAX_ENTRIES = 1 << 16
MAX_ELEMENTS = 1 << 30

CHUNK = 1 << 20

OLD_MAGICS = {b"lmgg", b"fmgg", b"tjgg", b"algg"}


class TensorType(NamedTuple):
    """A type id's meaning: ``type_size`` bytes hold ``block_size`` weights."""

    name: str
    block_size: int
    type_size: int


PLAIN_TYPES = {
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
}
TENSOR_TYPES = PLAIN_TYPES | {f.type_id: TensorType(f.name, f.block_size, f.type_size) for f in FORMATS.values()}

REMOVED_TYPES = {
    4: "Q4_2, removed in May 2023, before GGUF",
    5: "Q4_3, removed in May 2023, before GGUF",
    31: "Q4_0_4_4, removed in December 2024: use Q4_0",
    32: "Q4_0_4_8, removed in December 2024: use Q4_0",
    33: "Q4_0_8_8, removed in December 2024: use Q4_0",
    36: "IQ4_NL_4_4, removed in December 2024: use IQ4_NL",
    37: "IQ4_NL_4_8, removed in December 2024: use IQ4_NL",
    38: "IQ4_NL_8_8, removed in December 2024: use IQ4_NL",
}


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


class GgufError(ValueError):
    """A file that is no GGUF, or, from `open_gguf`, a broken one. The message names what and where."""


class Value(NamedTuple):
    """One metadata value of ``kind``, at byte ``start``. ``count`` is an array's number of items, else None.

    Only single numbers and bools are kept, as ``scalar``: strings and arrays stay in the file.
    """

    kind: str
    start: int
    count: int | None = None
    scalar: int | float | bool | None = None


@dataclass(slots=True)
class Tensor:
    """One tensor entry. ``start`` counts from the file's first byte; ``shape`` has the row length first.

    ``type`` is None where the id is unknown, ``nbytes`` where the size makes no sense; ``readable`` says that
    the bytes are all in the file and no other tensor's. ``codes`` are the codes of the findings about it.
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

    @property
    def elements(self) -> int:
        total = 1
        for n in self.shape:
            total *= n
        return total

    @property
    def blocks(self) -> int | None:
        return None if self.nbytes is None or self.type is None else self.nbytes // self.type.type_size

    @property
    def type_name(self) -> str:
        return self.type.name if self.type else f"type {self.type_id}"


@dataclass
class Gguf:
    """What a file says of itself. ``order`` is "<" or ">"; ``data_start`` is None where the tensor list is broken."""

    data: mmap.mmap | bytes
    order: str = "<"
    version: int = 0
    alignment: int = DEFAULT_ALIGNMENT
    metadata: dict[str, Value] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    data_start: int | None = None

    def text(self, key: str) -> str | None:
        """A single string of the metadata; None where the key is absent or holds something else."""
        value = self.metadata.get(key)
        if value is None or value.kind != "string" or value.count is not None:
            return None
        length = struct.unpack_from(self.order + "Q", self.data, value.start - 8)[0]
        return self.data[value.start : value.start + length].decode("utf-8", "backslashreplace")

    def blocks(self, tensor: Tensor) -> np.ndarray:
        """A readable tensor's bytes, uint8[blocks, type_size], without a copy."""
        raw = np.frombuffer(self.data, np.uint8, tensor.nbytes, tensor.start)
        return raw.reshape(-1, tensor.type.type_size)


class _Malformed(Exception):
    """The rest of the file cannot be understood."""

    def __init__(self, code: str, message: str, offset: int) -> None:
        super().__init__(message)
        self.finding = Finding(code, message, offset=offset)


class _Cursor:
    """A place in the file that only moves forward, and never past the end."""

    def __init__(self, data: mmap.mmap | bytes, order: str) -> None:
        self.data, self.order, self.size, self.at = data, order, len(data), 0

    def skip(self, n: int, what: str) -> int:
        """Move over ``n`` bytes; return where they start."""
        if n > self.size - self.at:
            told = f"the file ends at byte {self.size} inside {what}, which needs bytes {self.at} to {self.at + n}"
            raise _Malformed("G001", told, self.at)
        start, self.at = self.at, self.at + n
        return start

    def number(self, letter: str, what: str) -> int | float:
        form = self.order + letter
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form), what))[0]

    def count(self, what: str, item_bytes: int, limit: int = MAX_ELEMENTS) -> int:
        """A u64 that announces so many items of at least ``item_bytes`` bytes each."""
        start = self.at
        n = self.number("Q", what)
        if n > limit:
            raise _Malformed("G003", f"{what}, at byte {start}, is {n}; at most {limit} can be read", start)
        if n * item_bytes > self.size - self.at:
            told = f"{what}, at byte {start}, is {n}, but only {self.size - self.at} bytes of the file follow"
            raise _Malformed("G003", told, start)
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
                raise _Malformed("G001", f"the file ends at byte {self.size} inside string {i} of {what}", at)
            at += 8 + length(data, at)[0]
        if at > self.size:
            raise _Malformed("G003", f"a string of {what} reaches beyond the end of the file", self.at)
        self.at = at


def printable(raw: bytes | str) -> str:
    """A name as it may be shown on a terminal: what is no printable character stands as its escape."""
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def map_file(path: str | os.PathLike[str]) -> mmap.mmap:
    """Map a file that starts with GGUF's magic. Raises OSError, or GgufError where it is no GGUF."""
    # A pipe or a device would block or never end, so look before opening.
    if not stat.S_ISREG(os.stat(path).st_mode):
        kind = "a directory" if os.path.isdir(path) else "no regular file"
        raise GgufError(f"{printable(os.fspath(path))} is {kind}, so no GGUF")
    with open(path, "rb") as file:
        head = file.read(4)
        if head != MAGIC:
            name = printable(os.fspath(path))
            if not head:
                raise GgufError(f"{name} is empty, so no GGUF")
            if head in OLD_MAGICS:
                raise GgufError(f"{name} is a GGML file from before GGUF (August 2023): convert the model again")
            raise GgufError(f"{name} is no GGUF: it starts with {head!r}, not {MAGIC!r}")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def open_gguf(path: str | os.PathLike[str]) -> Gguf:
    """Read a sound file's structure. Raises OSError, or GgufError with the first error found."""
    findings = Findings()
    gguf = scan(map_file(path), findings)
    if findings.errors:
        raise GgufError(f"{printable(os.fspath(path))}: {findings.errors[0].message}")
    return gguf


def scan(data: mmap.mmap | bytes, findings: Findings) -> Gguf:
    """Read the structure of a file that starts with MAGIC, as far as it goes; what is wrong goes into ``findings``."""
    gguf = Gguf(data)
    try:
        cursor, n_tensors, n_metadata = _header(gguf)
        for i in range(n_metadata):
            _metadata_entry(gguf, cursor, i, findings)
        _set_alignment(gguf)
        names: set[bytes] = set()
        for i in range(n_tensors):
            _tensor_entry(gguf, cursor, i, names, findings)
    except _Malformed as broken:
        findings.add(broken.finding)
        return gguf
    gguf.data_start = _pad(cursor.at, gguf.alignment)
    _place(gguf, cursor.at, findings)
    return gguf


def note(findings: Findings, tensor: Tensor, code: str, message: str, **where: int | str) -> None:
    """Add a finding about one tensor."""
    if code not in tensor.codes:
        tensor.codes.append(code)
    findings.add(Finding(code, f"tensor {tensor.name}: {message}", tensor=tensor.name, **where))


def _pad(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def _header(gguf: Gguf) -> tuple[_Cursor, int, int]:
    cursor = _Cursor(gguf.data, "<")
    cursor.skip(4, "the magic")
    version = cursor.number("I", "the version")
    # Versions are small: a number whose low half is zero was written in the other byte order.
    if version & 0xFFFF == 0:
        cursor.order = gguf.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    gguf.version = version
    if version not in VERSIONS:
        raise _Malformed("G002", f"the version, at byte 4, is {version}; this release reads 2 and 3", 4)
    # The shortest entries: a name of one character, a dimension count, a type and an offset; a key and a u8.
    n_tensors = cursor.count("the number of tensors", 8 + 4 + 4 + 8, MAX_ENTRIES)
    n_metadata = cursor.count("the number of metadata entries", 8 + 1 + 4 + 1, MAX_ENTRIES)
    return cursor, n_tensors, n_metadata


def _metadata_entry(gguf: Gguf, cursor: _Cursor, i: int, findings: Findings) -> None:
    start = cursor.at
    raw = cursor.text(f"the key of metadata entry {i}", MAX_KEY)
    if not raw or b"\0" in raw:
        raise _Malformed("G004", f"the key of metadata entry {i}, at byte {start}, is empty or holds a NUL byte", start)
    key = printable(raw)
    _check_printable(raw, f"metadata key {key}", start, findings)
    what = f"the value of {key}"
    kind, at = _kind(cursor, what)
    if kind.name == "array":
        kind, at = _kind(cursor, what)
        if kind.name == "array":
            raise _Malformed("G006", f"{what}, at byte {at}, is an array of arrays, which no reader accepts", at)
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
            value = value._replace(scalar=bool(value.scalar))
    else:
        length = cursor.count(f"the length of {what}", 1)
        value = Value(kind.name, cursor.skip(length, what))
    if key in gguf.metadata:
        findings.add(Finding("G005", f"metadata key {key} occurs twice, again at byte {start}", offset=start))
    gguf.metadata[key] = value


def _kind(cursor: _Cursor, what: str) -> tuple[Kind, int]:
    at = cursor.at
    number = cursor.number("I", f"the kind of {what}")
    if number not in KINDS:
        raise _Malformed("G006", f"{what}, at byte {at}, is of kind {number}; kinds 0 to 12 are defined", at)
    return KINDS[number], at


def _check_bools(data: mmap.mmap | bytes, start: int, count: int, what: str, findings: Findings) -> None:
    wrong, first = _above(data, start, start + count, 1)
    if wrong:
        told = f"{what} holds a bool of {data[first]} at byte {first}"
        findings.add(Finding("G024", told, offset=first, count=wrong))


def _above(data: mmap.mmap | bytes, start: int, stop: int, limit: int) -> tuple[int, int]:
    """How many bytes of a range are above ``limit``, and where the first of them is (-1 where there is none)."""
    wrong, first = 0, -1
    for at in range(start, stop, CHUNK):
        above = np.frombuffer(data, np.uint8, min(CHUNK, stop - at), at) > limit
        if above.any():
            first = at + int(above.argmax()) if first < 0 else first
            wrong += int(np.count_nonzero(above))
    return wrong, first


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
    if value.kind != "u32" or value.count is not None:
        shape = "a single value" if value.count is None else "an array"
        raise _Malformed("G007", f"general.alignment is {shape} of kind {value.kind}, not one u32", value.start)
    if value.scalar == 0 or value.scalar & (value.scalar - 1):
        raise _Malformed("G007", f"general.alignment is {value.scalar}, no power of two", value.start)
    gguf.alignment = value.scalar


def _tensor_entry(gguf: Gguf, cursor: _Cursor, i: int, names: set[bytes], findings: Findings) -> None:
    start = cursor.at
    raw = cursor.text(f"the name of tensor {i}", MAX_KEY)
    name = printable(raw[: 4 * MAX_NAME])
    n_dims = cursor.number("I", f"the number of dimensions of tensor {name}")
    if n_dims > MAX_DIMENSIONS:
        at = cursor.at - 4
        raise _Malformed("G010", f"tensor {name} has {n_dims} dimensions, at byte {at}; 4 at most", at)
    shape = tuple(cursor.number("Q", f"a dimension of tensor {name}") for _ in range(n_dims))
    type_id = cursor.number("I", f"the type of tensor {name}")
    tensor = Tensor(name, shape, type_id, cursor.number("Q", f"the offset of tensor {name}"))
    gguf.tensors.append(tensor)

    if len(raw) >= MAX_NAME or b"\0" in raw:
        told = f"the name has {len(raw)} bytes; at most 63 are allowed, and none may be NUL"
        note(findings, tensor, "G008", told, offset=start)
    _check_printable(raw, f"the name of tensor {name}", start, findings)
    if raw in names:
        note(findings, tensor, "G009", f"the name occurs twice, again at byte {start}", offset=start)
    names.add(raw)
    _measure(tensor, cursor.at - 12, findings)


def _measure(tensor: Tensor, at: int, findings: Findings) -> None:
    """Set the tensor's type and size, where they make sense. ``at`` is where its type stands in the file."""
    if any(n >= 1 << 63 for n in tensor.shape):
        note(findings, tensor, "G010", f"a dimension of {max(tensor.shape)} is negative as a signed number", offset=at)
        return
    if tensor.elements >= 1 << 63:
        note(findings, tensor, "G011", f"{tensor.elements} elements do not fit in 63 bits", offset=at)
        return
    if tensor.type_id in REMOVED_TYPES:
        told = REMOVED_TYPES[tensor.type_id]
        note(findings, tensor, "G013", f"the type id {tensor.type_id}, at byte {at}, was {told}", offset=at)
        return
    tensor.type = TENSOR_TYPES.get(tensor.type_id)
    if tensor.type is None:
        note(findings, tensor, "G012", f"the type id {tensor.type_id}, at byte {at}, is unknown", offset=at)
        return
    row = tensor.shape[0] if tensor.shape else 1
    if row % tensor.type.block_size:
        told = f"rows of {row} weights are not whole {tensor.type.name} blocks of {tensor.type.block_size}"
        note(findings, tensor, "G014", told, offset=at)
        return
    nbytes = tensor.elements // tensor.type.block_size * tensor.type.type_size
    if nbytes >= 1 << 63:
        note(findings, tensor, "G011", f"{nbytes} bytes do not fit in 63 bits", offset=at)
        return
    if nbytes == 0:
        note(findings, tensor, "G022", f"the shape {list(tensor.shape)} holds nothing", offset=at)
    tensor.nbytes = nbytes


def _place(gguf: Gguf, header_end: int, findings: Findings) -> None:
    """Hold every tensor's place against its neighbours and the file's size; look at what lies between."""
    size = len(gguf.data)
    # Tensors follow each other without gaps. After a wrong offset or a wrong size the rest may still be right,
    # so the next may start after the sum of all sizes, or where the last one says that it ends.
    total: int | None = 0
    last_end: int | None = 0
    for tensor in gguf.tensors:
        tensor.start = gguf.data_start + tensor.offset
        fits = total is None or tensor.offset in (total, last_end)
        if tensor.offset % gguf.alignment:
            told = f"the offset {tensor.offset} in the data section is no multiple of {gguf.alignment}"
            note(findings, tensor, "G015", told, offset=tensor.start)
        elif not fits:
            told = f"the offset in the data section is {tensor.offset}, where {last_end} is expected"
            note(findings, tensor, "G017", told, offset=tensor.start)
        if tensor.nbytes is None:
            total = last_end = None
            continue
        last_end = _pad(tensor.offset + tensor.nbytes, gguf.alignment)
        total = last_end if fits else _pad(total + tensor.nbytes, gguf.alignment)

    placed = sorted((t for t in gguf.tensors if t.nbytes), key=lambda tensor: tensor.start)
    last: Tensor | None = None
    for tensor in placed:
        stop = tensor.start + tensor.nbytes
        if stop > size:
            told = f"the data needs bytes {tensor.start} to {stop}, but the file ends at byte {size}"
            note(findings, tensor, "G018", told, offset=min(size, tensor.start))
            continue
        if last is not None and tensor.start < last.start + last.nbytes:
            told = f"bytes {tensor.start} to {stop} overlap those of tensor {last.name}"
            note(findings, tensor, "G016", told, offset=tensor.start)
        else:
            tensor.readable = True
        if last is None or stop > last.start + last.nbytes:
            last = tensor
    _between(gguf, header_end, placed, findings)


def _between(gguf: Gguf, header_end: int, placed: list[Tensor], findings: Findings) -> None:
    """Padding must be zero, and the file end where the last tensor's padding does."""
    size, at = len(gguf.data), header_end
    gaps = []
    for tensor in placed:
        gaps.append((at, min(tensor.start, _pad(at, gguf.alignment), size)))
        at = max(at, tensor.start + tensor.nbytes)
    # A tensor of unknown size may own all that follows the others.
    known = all(tensor.nbytes is not None for tensor in gguf.tensors)
    end = _pad(at, gguf.alignment)
    gaps.append((at, min(end, size)))
    for start, stop in gaps:
        wrong, first = _above(gguf.data, start, stop, 0)
        if wrong:
            told = f"{wrong} of the {stop - start} padding bytes from byte {start} are not zero, the first at {first}"
            findings.add(Finding("P006", told, offset=first, count=wrong))
    if known and size > end:
        told = f"{size - end} bytes follow the last tensor, which ends with its padding at byte {end}"
        findings.add(Finding("G020", told, offset=end, count=size - end))
    # A file without tensors may end either way: ggml pads its header, gguf-py does not.
    elif known and gguf.tensors and at <= size < end:
        told = f"the file ends at byte {size}, {end - size} bytes short of the padding that closes its last tensor"
        findings.add(Finding("G019", told, offset=size))
