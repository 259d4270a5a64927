"""Writing a GGUF like another one: its metadata with a few entries changed, its tensors in other types.

Little-endian files only, version 3. The metadata is copied as it stands, without being taken apart. gguf-py's reader
and writer give the same bytes where they can, but take every value apart: for a vocabulary of 152,000 tokens with its
merges they need 19 s and 510 MB, and this 0.14 s and 11 MB (one core); empty arrays, strings that are not UTF-8, bools
of 2 and files without general.architecture they cannot pass on; and tensors they take whole, not in pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import MAGIC, Gguf
from hifi_ref.model_files.gguf_header import KINDS
from hifi_ref.model_files.gguf_model import DEFAULT_ALIGNMENT, padded

VERSION = 3
_NUMBERS = {kind.name: (number, kind.letter) for number, kind in KINDS.items()}


class Entry(NamedTuple):
    """A tensor to be written: its name and shape (row length first), its type's number and its size in bytes."""

    name: bytes
    shape: tuple[int, ...]
    type_id: int
    nbytes: int


class Typed(NamedTuple):
    """A number of metadata with its kind, such as "u16"."""

    kind: str
    number: int


Change = str | int | float | bool | Typed | tuple[str, ...] | None


def head(like: Gguf | None, changes: Mapping[str, Change], tensors: Sequence[Entry]) -> bytes:
    """All of a GGUF that stands before its tensors' data.

    Args:
        like: the file whose metadata is taken over, and its alignment; None for none.
        changes: metadata to set behind what is kept, or to leave out where None: an int is written as u32, a float as
            f32, a tuple as an array of strings.
        tensors: in the order of their data.
    """
    if like is not None and like.order != "<":
        raise InputError("the source is big-endian: convert it to little-endian first")
    kept, count = (b"", 0) if like is None else _without(like, set(changes))
    added = {key: value for key, value in changes.items() if value is not None}
    alignment = DEFAULT_ALIGNMENT if like is None else like.alignment
    parts = [MAGIC + struct.pack("<IQQ", VERSION, len(tensors), count + len(added)), kept]
    parts += [_entry(key, value) for key, value in added.items()]
    offset = 0
    for tensor in tensors:
        parts.append(_string(tensor.name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
        parts.append(struct.pack("<IQ", tensor.type_id, offset))
        offset += padded(tensor.nbytes, alignment)
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % alignment)


def starts(like: Gguf | None, head_size: int, tensors: Sequence[Entry]) -> list[int]:
    """Where each tensor's data begins in the file, and behind the last of them where the file ends."""
    alignment, found = DEFAULT_ALIGNMENT if like is None else like.alignment, [head_size]
    for tensor in tensors:
        found.append(found[-1] + padded(tensor.nbytes, alignment))
    return found


def _string(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def _entry(key: str, value: str | int | float | bool | Typed | tuple[str, ...]) -> bytes:
    if isinstance(value, tuple) and not isinstance(value, Typed):
        kinds = _NUMBERS["array"][0], _NUMBERS["string"][0]
        texts = [_string(text.encode("utf-8", "surrogateescape")) for text in value]
        return _string(key.encode()) + struct.pack("<IIQ", *kinds, len(texts)) + b"".join(texts)
    if isinstance(value, str):
        kind, data = "string", _string(value.encode("utf-8", "surrogateescape"))
        return _string(key.encode()) + struct.pack("<I", _NUMBERS[kind][0]) + data
    if not isinstance(value, Typed):
        kind = "bool" if isinstance(value, bool) else "u32" if isinstance(value, int) else "f32"
    else:
        kind, value = value
    number, letter = _NUMBERS[kind]
    return _string(key.encode()) + struct.pack(f"<I{letter}", number, value)


def _without(like: Gguf, keys: set[str]) -> tuple[bytes, int]:
    """The bytes of the metadata without some entries, and how many entries that leaves."""
    end = like.tensors[0].entry_at if like.tensors else like.header_end or 0
    if keys.isdisjoint(like.metadata):
        return bytes(like.data[24:end]), len(like.metadata)
    places = [_start(like, key) for key in like.metadata] + [end]
    kept = [i for i, key in enumerate(like.metadata) if key not in keys]
    return b"".join(bytes(like.data[places[i] : places[i + 1]]) for i in kept), len(kept)


def _start(like: Gguf, key: str) -> int:
    """Where an entry begins: its key's length, the key, the kind (of an array's items too), a length, the value."""
    value = like.metadata[key]
    before = 12 if value.count is not None else 8 if value.kind == "string" else 0
    at = value.start - before - 4 - 8
    # A key that is shown with escapes is shorter in the file: its own length says where it begins.
    for length in range(len(key.encode()), -1, -1):
        start = at - length
        if start >= 24 and struct.unpack_from("<Q", like.data, start)[0] == length:
            return start
    raise InputError(f"the source's metadata entry {key} cannot be found again")
