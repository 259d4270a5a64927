"""The numbers of many blocks at once, read by the runs of the byte map: a few operations a run, whatever the format."""

from __future__ import annotations

import functools

import numpy as np

from hifi_ref.explain.byte_map import Run, runs_of
from hifi_ref.explain.places import numbers_of
from hifi_ref.formats.layout import SIZE

_WORDS = ((8, np.uint8), (16, np.uint16), (32, np.uint32))


@functools.cache
def _runs(name: str) -> tuple[Run, ...]:
    return tuple(runs_of(name))


def read_blocks(name: str, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """u8[n, type_size] -> for each kind its numbers, [n, count], as they are read.

    Unsigned numbers are u8, u16 or u32, whichever they fit in; signed ones i8 or i16; binary16 comes as f32.
    """
    found: dict[str, np.ndarray] = {}
    for numbers in numbers_of(name):
        count, width = numbers.bits.shape
        found[numbers.kind] = np.zeros((len(blocks), count), next(word for bits, word in _WORDS if width <= bits))
    for run in _runs(name):
        raw = blocks[:, run.byte : run.byte + run.size]
        for piece in run.pieces:
            kept = found[piece.kind]
            part = raw >> np.uint8(piece.low) & np.uint8((1 << piece.high - piece.low + 1) - 1)
            if piece.shift or not piece.step:
                for i in range(run.size):
                    into = kept[:, piece.at + i * piece.step]
                    into |= part[:, i].astype(kept.dtype) << kept.dtype.type(piece.first + i * piece.shift)
            else:
                into = kept[:, piece.at : piece.at + run.size * piece.step : piece.step]
                into |= part.astype(kept.dtype, copy=False) << kept.dtype.type(piece.first)
    return {numbers.kind: _as(numbers.dtype, found[numbers.kind]) for numbers in numbers_of(name)}


def _as(dtype: str, words: np.ndarray) -> np.ndarray:
    if dtype == "u":
        return words
    if dtype == "f16":
        return words.view(np.float16).astype(np.float32)
    assert words.dtype.itemsize == SIZE[dtype]
    return words.view({"f32": np.float32, "i8": np.int8, "i16": np.int16}[dtype])


def read(name: str, block: np.ndarray) -> dict[str, np.ndarray]:
    """u8[type_size] -> for each kind its numbers as they are read: int64[count], or f32[count]."""
    found = read_blocks(name, block[None])
    return {kind: n[0] if n.dtype == np.float32 else n[0].astype(np.int64) for kind, n in found.items()}
