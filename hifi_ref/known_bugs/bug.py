"""What a known bug is, and the two ways in which most of them are made: a block misread, a result spoilt.

Most real bugs are bugs of layout: an implementation takes some bits of a block for others. Such a **misreading** is one
function on bytes: the block that the reference would have to be given to see what the implementation sees. Its decoder
and its dot product read blocks through it; its encoder writes them through the inverse.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS, Format

# Weights, up to which encode keeps what it found.
KEPT_WEIGHTS = 4096
# uint8[n, type_size] -> uint8[n, type_size]
Bytes = Callable[[np.ndarray], np.ndarray]


class Bug(NamedTuple):
    """A wrong implementation of one operation of one format."""

    name: str  # unique: format.operation and what is wrong, in few words
    kind: str  # the class of bug, shared by formats: a key of known_bugs.KINDS
    format: str  # a key of FORMATS
    operation: str  # "decode", "encode" or "dot"
    says: str  # one sentence: what such an implementation does wrong
    # The wrong operation, over NumPy arrays, with the signature of the right one:
    # decode(blocks u8[n, type_size]) -> f32[n, block_size]
    # encode(x f32[rows, n], weights f32[n] | None) -> u8[rows, bytes]
    # dot(w u8[rows, bytes], a u8[bytes]) -> f32[rows]
    run: Callable
    spans: bool = False  # what it makes of a block depends on the blocks before it, or of a row on the rows


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    """The right one: u8[n, type_size] -> f32[n, block_size]."""
    return api.decode(name, blocks, lane="numpy")


def encode(name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The right one: f32[rows, n] -> u8[rows, bytes]. Few blocks are kept, since many bugs begin with the same."""
    if x.size > KEPT_WEIGHTS:
        return api.encode(name, x, weights, lane="numpy")
    return _kept(name, x.shape, x.tobytes(), None if weights is None else weights.tobytes()).copy()


@functools.lru_cache(maxsize=128)
def _kept(name: str, shape: tuple[int, ...], x: bytes, weights: bytes | None) -> np.ndarray:
    importance = None if weights is None else np.frombuffer(weights, np.float32)
    return api.encode(name, np.frombuffer(x, np.float32).reshape(shape), importance, lane="numpy")


def dot(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The right one: u8[rows, bytes], u8[bytes] -> f32[rows]."""
    return api.dot(name, w, a, lane="numpy")


def bug(kind: str, name: str, operation: str, title: str, says: str, run: Callable) -> Bug:
    return Bug(f"{name}.{operation} {title}", kind, name, operation, says, run)


# BYTES


def span(name: str, field: str) -> slice:
    """Where in a block a field lies."""
    return FORMATS[name].layout.span(field)


def field_bytes(name: str, blocks: np.ndarray, field: str) -> np.ndarray:
    """u8[..., type_size] -> u8[..., size]"""
    return blocks[..., span(name, field)]


def in_field(name: str, field: str, change: Bytes) -> Bytes:
    """A change of one field's bytes, [n, size], as a change of blocks."""
    part = span(name, field)

    def changed(blocks: np.ndarray) -> np.ndarray:
        blocks = blocks.copy()
        blocks[..., part] = change(blocks[..., part])
        return blocks

    return changed


def as_words(change: Callable[[np.ndarray], np.ndarray]) -> Bytes:
    """A change of little-endian 16-bit words as a change of bytes."""

    def changed(part: np.ndarray) -> np.ndarray:
        words = np.ascontiguousarray(part).view("<u2").astype(np.uint16)
        return change(words).astype("<u2").view(np.uint8)

    return changed


def each_block(name: str, change: Bytes, rows: np.ndarray) -> np.ndarray:
    """A change of blocks, applied to rows of them."""
    blocks = np.ascontiguousarray(rows).reshape(-1, FORMATS[name].type_size)
    return change(blocks).reshape(rows.shape)


def partner_of(name: str) -> Format:
    """The format of the activations that a format with a dot product is multiplied by."""
    partner = FORMATS[name].dot_with
    assert partner is not None
    return FORMATS[partner]


# BUGS


def misread(
    kind: str, names: Iterable[str], title: str, says: str, read: Callable[[str], Bytes],
    write: Callable[[str], Bytes] | None = None, operations: str = "decode encode dot",
) -> Iterator[Bug]:  # fmt: skip
    """A bug of layout in every operation that the formats offer. ``write`` is the inverse of ``read`` where it differs.

    read and write take the format's name and give the change of its blocks.
    """
    for name in names:
        reading, writing = read(name), (write or read)(name)
        for operation in operations.split():
            if getattr(FORMATS[name], operation) is not None:
                yield bug(kind, name, operation, title, says, _misreader(name, operation, reading, writing))


def _misreader(name: str, operation: str, read: Bytes, write: Bytes) -> Callable:
    if operation == "decode":
        return lambda blocks: decode(name, read(blocks))
    if operation == "encode":
        return lambda x, weights: each_block(name, write, encode(name, x, weights))
    return lambda w, a: dot(name, each_block(name, read, w), a)
