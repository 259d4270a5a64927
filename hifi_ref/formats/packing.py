"""Codes in bytes: nibbles, bit pairs, bits, in the orders that the formats use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Int32, Integer, UInt8, UInt32

    from hifi_ref.exact import Array


def split_nibbles(qs: UInt8[Array, "*n half"]) -> UInt8[Array, "*n 2 half"]:
    """The low nibbles of a run of bytes, then the high ones."""
    return spread(qs, 4)


def join_nibbles(codes: Integer[Array, "*n full"]) -> UInt8[Array, "*n half"]:
    """Byte j takes code j in its low nibble and code j + half in its high nibble."""
    return gather(codes.reshape(*codes.shape[:-1], 2, codes.shape[-1] // 2), 4)


def spread(packed: UInt8[Array, "*n run"], width: int) -> UInt8[Array, "*n parts run"]:
    """Plane p holds bits p*width .. of every byte: codes of 1, 2 or 4 bits, the contiguous run innermost."""
    lib = exact.library(packed)
    shifts = lib.arange(0, 8, width, dtype=np.uint8)[:, None]
    return (packed[..., None, :] >> shifts) & np.uint8(2**width - 1)


def gather(planes: Integer[Array, "*n parts run"], width: int) -> UInt8[Array, "*n run"]:
    """The inverse of spread: plane p goes to bits p*width .. of each byte."""
    packed = planes[..., 0, :]
    for p in range(1, planes.shape[-2]):
        packed = packed | planes[..., p, :] << (p * width)
    return packed.astype(np.uint8)


def spread_stream(packed: UInt8[Array, "*n run"], width: int, word: int) -> UInt32[Array, "*n words codes"]:
    """A bit stream, lowest bits first: the codes of every little-endian word of ``word`` bytes, side by side."""
    lib = exact.library(packed)
    parts = packed.reshape(*packed.shape[:-1], packed.shape[-1] // word, word).astype(np.uint32)
    words = parts[..., 0]
    for i in range(1, word):
        words = words | parts[..., i] << np.uint32(8 * i)
    return (words[..., None] >> lib.arange(0, 8 * word, width, dtype=np.uint32)) & np.uint32(2**width - 1)


def gather_stream(codes: Integer[Array, "*n count"], width: int) -> UInt8[Array, "*n run"]:
    """The inverse of spread_stream: code j goes to the bits from j*width on."""
    by_byte = codes.reshape(*codes.shape[:-1], -1, 8 // width)
    return gather(exact.library(codes).moveaxis(by_byte, -1, -2), width)


def split_five_bits(qh: UInt8[Array, "*n 4"], qs: UInt8[Array, "*n 16"]) -> Int32[Array, "*n 2 16"]:
    """32 codes: the low four bits as split_nibbles orders them, the fifth of code j in bit j of qh."""
    return exact.i32(split_nibbles(qs) | spread_stream(qh, 1, word=2) << np.uint32(4))


def join_five_bits(codes: Int32[Array, "*n 32"]) -> tuple[UInt8[Array, "*n 4"], UInt8[Array, "*n 16"]]:
    """The inverse of split_five_bits: qh and qs."""
    return gather_stream(codes >> 4 & 1, 1), join_nibbles(codes & 15)
