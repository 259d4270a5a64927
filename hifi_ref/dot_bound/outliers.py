"""The exact terms of a row in the formats of the HIFI fork: a base, and slots that change some of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.dot_bound.checks import finite_values
from hifi_ref.dot_bound.codes import codes_and_offset
from hifi_ref.dot_bound.parts import LARGEST_FACTOR, SMALLEST_NORMAL, SMALLEST_SCALE, UNIT, Parts, times
from hifi_ref.formats import FORMATS, Format
from hifi_ref.formats.hifi.transcode import base_of

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8


def outlier_parts(f: Format, w: UInt8[np.ndarray, "rows w_bytes"], first: int, d: Float64[np.ndarray, "blocks"],
                   q: Float64[np.ndarray, "blocks 256"]) -> Parts:  # fmt: skip
    """The parts of a format that is a base and slots; d and q are the activations' scales and codes."""
    base = FORMATS[base_of(f.name).LAYOUT.name]
    slots = slots_of(f)
    own = np.ascontiguousarray(w.reshape(len(w), -1, f.type_size)[..., : base.type_size]).reshape(len(w), -1)
    codes, offset = codes_and_offset(base, own, first)
    of_base = abs(codes) if offset is None else abs(codes) + abs(offset)
    whole = finite_values(f, w, first)
    of_slots = _slot_sizes(f, base, w, first)
    touched = (of_slots != 0) | (whole != finite_values(base, own, first))

    scales = np.repeat(d, f.block_size)
    # 24 bits times 8, times 24.
    terms = times(whole * q.reshape(-1), scales)
    weights = of_base + touched * of_base + of_slots
    shares = weights * abs(q).reshape(-1) * abs(scales)
    rounded = UNIT * (1 + 2.0**-16) * (shares * (1 + (slots + 3) * touched)).sum(axis=1)

    scale = np.full((len(w), len(d)), SMALLEST_SCALE)
    factor = np.full((len(w), len(d)), LARGEST_FACTOR)
    if any(field.name == "scale" and field.dtype == "f32" for field in f.layout.fields):
        stored = f.layout.by_name(w.reshape(len(w), -1, f.type_size))["scale"]
        stored = abs(np.asarray(stored, np.float64))
        scale = np.where(stored > 0, np.minimum(scale, stored * 2.0**-14), scale)
        factor = factor * np.maximum(stored, 1)
    faint = np.repeat(np.minimum(scale, 1) * np.minimum(abs(d), 1) < SMALLEST_NORMAL, f.block_size, axis=1)
    largest = (factor * np.maximum(abs(d), 1)).max(axis=-1, initial=0)
    return Parts(terms, shares.sum(axis=1), (shares * faint).sum(axis=1), largest, rounded)


def slots_of(f: Format) -> int:
    """How many outliers a block has room for; 0 in formats without."""
    return 0 if f.dialect == "llama.cpp" else next(x.count for x in f.layout.fields if x.name == "at")


def _slot_sizes(
    f: Format, base: Format, w: UInt8[np.ndarray, "rows w_bytes"], first: int
) -> Float64[np.ndarray, "rows n"]:
    """For each weight the sum of |what a slot brings|: decoded over a base of zeros, all other slots' values 0."""
    blocks = w.reshape(len(w), -1, f.type_size)
    place = f.layout.span("values")
    step = (place.stop - place.start) // slots_of(f)
    sizes = np.zeros((len(w), blocks.shape[1] * f.block_size))
    for at in range(place.start, place.stop, step):
        alone = blocks.copy()
        alone[..., : base.type_size] = 0
        alone[..., place] = 0
        alone[..., at : at + step] = blocks[..., at : at + step]
        sizes += abs(finite_values(f, alone.reshape(w.shape), first))
    return sizes
