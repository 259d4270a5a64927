"""Codes in bytes: nibbles, bit pairs, bits, in the orders that the formats use."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Int32, UInt8

from hifi_ref import exact


def split_nibbles(qs: UInt8[Array, "*n half"]) -> UInt8[Array, "*n 2 half"]:
    """The low nibbles of a run of bytes, then the high ones."""
    return spread(qs, 4)


def join_nibbles(codes: Int32[Array, "*n full"]) -> UInt8[Array, "*n half"]:
    """Byte j takes code j in its low nibble and code j + half in its high nibble."""
    return gather(codes.reshape(*codes.shape[:-1], 2, codes.shape[-1] // 2), 4)


def spread(packed: UInt8[Array, "*n run"], width: int) -> UInt8[Array, "*n parts run"]:
    """Plane p holds bits p*width .. of every byte: codes of 1, 2 or 4 bits, the contiguous run innermost."""
    lib = exact.library(packed)
    shifts = lib.arange(0, 8, width, dtype=np.uint8)[:, None]
    return (packed[..., None, :] >> shifts) & np.uint8(2**width - 1)


def gather(planes: Int32[Array, "*n parts run"], width: int) -> UInt8[Array, "*n run"]:
    """The inverse of spread: plane p goes to bits p*width .. of each byte."""
    packed = planes[..., 0, :]
    for p in range(1, planes.shape[-2]):
        packed = packed | planes[..., p, :] << (p * width)
    return packed.astype(np.uint8)
