"""Changes of bytes, of which misreadings are made: what an implementation takes one thing for another by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.formats.packing import gather, spread
from hifi_ref.known_bugs.bug import Bytes, in_field

# BITS AND BYTES


def swap_nibbles(v: np.ndarray) -> np.ndarray:
    return v >> 4 | v << 4


def reverse_bits(v: np.ndarray) -> np.ndarray:
    return np.packbits(np.unpackbits(v[..., None], axis=-1), axis=-1, bitorder="little")[..., 0]


def reverse_pairs(v: np.ndarray) -> np.ndarray:
    """The first pair of bits of a byte becomes the last."""
    return gather(spread(v[..., None, :], 2)[..., ::-1, :], 2)[..., 0, :]


def swap_words(v: np.ndarray) -> np.ndarray:
    return v.reshape(*v.shape[:-1], -1, 2)[..., ::-1].reshape(v.shape)


def swap_longs(v: np.ndarray) -> np.ndarray:
    return v.reshape(*v.shape[:-1], -1, 4)[..., ::-1].reshape(v.shape)


def xor(mask: int) -> Bytes:
    return lambda v: v ^ np.uint8(mask)


def negate_halves(v: np.ndarray) -> np.ndarray:
    return v ^ np.array([0, 0x80], np.uint8)


def regroup(width: int, right: int, wrong: int) -> Bytes:
    """Codes of ``width`` bits, which lie in planes over runs of ``right`` bytes, taken to lie in runs of ``wrong``."""

    def changed(v: np.ndarray) -> np.ndarray:
        codes = spread(v.reshape(*v.shape[:-1], -1, wrong), width)
        return gather(codes.reshape(*v.shape[:-1], -1, 8 // width, right), width).reshape(v.shape)

    return changed


# FIELDS


def rolled(count: int) -> Callable[[str], Bytes]:
    """All bytes of a block, turned."""
    return lambda name: lambda blocks: np.roll(blocks, count, axis=-1)


def swapped_fields(first: str, second: str) -> Callable[[str], Bytes]:
    """Two neighbouring fields of equal size change places."""

    def of(name: str) -> Bytes:
        layout = FORMATS[name].layout
        at, other = layout.offset(first), layout.offset(second)
        size = other - at

        def changed(blocks: np.ndarray) -> np.ndarray:
            blocks = blocks.copy()
            blocks[..., at : at + 2 * size] = np.roll(blocks[..., at : at + 2 * size], size, axis=-1)
            return blocks

        return changed

    return of


def in_part(name: str, field: str, part: slice, change: Bytes) -> Bytes:
    def changed(v: np.ndarray) -> np.ndarray:
        v = v.copy()
        v[..., part] = change(v[..., part])
        return v

    return in_field(name, field, changed)


def halves_of(name: str) -> list[str]:
    """The f16 fields of a format."""
    return [field.name for field in FORMATS[name].layout.fields if field.dtype == "f16"]


def in_halves(change: Bytes) -> Callable[[str], Bytes]:
    """A change of every f16 field."""

    def of(name: str) -> Bytes:
        changes = [in_field(name, field, change) for field in halves_of(name)]

        def changed(blocks: np.ndarray) -> np.ndarray:
            for one in changes:
                blocks = one(blocks)
            return blocks

        return changed

    return of


def without_subnormals(v: np.ndarray) -> np.ndarray:
    """f16 bytes: subnormals become zeros of their sign."""
    subnormal = (v[..., 1:] & 0x7C) == 0
    return np.where(subnormal, v & np.array([0, 0x80], np.uint8), v)
