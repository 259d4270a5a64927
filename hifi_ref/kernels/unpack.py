"""Packed codes to small whole numbers in weight order, the rows of the matrix on the last axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from hifi_ref.exact import Array


def spread(packed: UInt8[Array, "*n run rows"], width: int) -> UInt8[Array, "*n parts run rows"]:
    """packing.spread with the rows last: part p holds bits p*width .. of every byte."""
    shifts = exact.library(packed).arange(0, 8, width, dtype=np.uint8)[:, None, None]
    return (packed[..., None, :, :] >> shifts) & np.uint8(2**width - 1)


def runs(codes: Array) -> Array:
    """[groups, ..., rows] -> [groups, 8, 32, rows]."""
    return codes.reshape(codes.shape[0], 8, 32, codes.shape[-1])


def whole(qs):
    """One code a byte."""
    return runs(qs)


def halves(qs):
    """Nibbles: 16 bytes a run, weights 0-15 low, 16-31 high."""
    return runs(spread(_cut(qs, 16), 4))


def eighths(qs):
    """Nibbles: 8 bytes for 16 weights, 0-7 low, 8-15 high."""
    return runs(spread(_cut(qs, 8), 4))


def pairs(qs):
    """Nibbles: 32 bytes for two runs, the first low."""
    return runs(spread(_cut(qs, 32), 4))


def quarters(qs):
    """Two bits: 32 bytes for four runs, the first lowest."""
    return runs(spread(_cut(qs, 32), 2))


def stream(qs, width):
    """A bit stream, lowest bits first."""
    return runs(spread(_cut(qs, 1), width))


def five_bits_in_halves(qs, qh):
    return halves(qs) | stream(qh, 1) << np.uint8(4)


def five_bits_in_pairs(qs, qh):
    return pairs(qs) | runs(spread(qh, 1)) << np.uint8(4)


def three_bits(qs, hmask):
    return quarters(qs) | runs(spread(hmask, 1)) << np.uint8(2)


def six_bits(ql, qh):
    return runs(spread(_cut(ql, 64), 4)) | quarters(qh) << np.uint8(4)


def digits(qs, qh):
    """Five ternary digits a byte, as TQ1_0 orders them."""
    lib = exact.library(qs)

    def of(packed, count):
        powers = lib.asarray(np.array([1, 3, 9, 27, 81], np.uint8)[:count, None, None])
        rest = packed[..., None, :, :] * powers
        return ((rest.astype(np.uint16) * np.uint16(3)) >> np.uint16(8)).astype(np.uint8)

    parts = [of(qs[:, :32], 5), of(qs[:, 32:], 5), of(qh, 4)]
    return runs(lib.concatenate([p.reshape(p.shape[0], -1, p.shape[-1]) for p in parts], axis=1))


def _cut(packed: UInt8[Array, "groups bytes rows"], run: int) -> UInt8[Array, "groups cuts run rows"]:
    return packed.reshape(packed.shape[0], -1, run, packed.shape[-1])
