"""A HIFI tensor as two things that any GPU has kernels for: plain blocks of its base, and a sparse correction.

    weights = decode(base) + correction          dot = dot(base) + correction . activations

The correction is what decoding adds to the base's weights: for a weight that is replaced, its value minus the base's.
It is exact where that difference is a binary32 number, as it is for blocks that encoders write with a base of 0 there.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.formats.hifi import FILES

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64, UInt8


class Split(NamedTuple):
    """``base`` names the plain format; weight ``positions[k]`` of row ``rows[k]`` gains ``values[k]``."""

    base: str
    blocks: UInt8[np.ndarray, "n bytes"]
    rows: Int64[np.ndarray, "k"]
    positions: Int64[np.ndarray, "k"]
    values: Float32[np.ndarray, "k"]


def split(name: str, w: UInt8[np.ndarray, "n bytes"]) -> Split:
    """Rows of a HIFI or LITE format taken apart. Raises ValueError for other formats and broken rows.

    Rows hold whole blocks; positions count from the row's first weight.
    """
    if name.lower() not in FILES:
        raise ValueError(f"{name} is no format with outliers: there is nothing to split off")
    module = import_module(f"hifi_ref.formats.hifi.{name.lower()}")
    base = base_of(name)
    if w.ndim != 2 or w.dtype != np.uint8 or w.shape[1] % module.LAYOUT.type_size:
        raise ValueError(f"w must be uint8[rows, row_bytes] with whole blocks of {name}, not {w.dtype}{list(w.shape)}")
    blocks = w.reshape(-1, module.LAYOUT.type_size)
    plain = np.ascontiguousarray(blocks[:, : base.LAYOUT.type_size])
    with np.errstate(all="ignore"):
        whole = module.decode(blocks).reshape(len(blocks), -1)
        kept = base.decode(plain).reshape(len(blocks), -1)
        changed = whole.view(np.uint32) != kept.view(np.uint32)
        values = (whole - kept).reshape(len(w), -1)
    rows, positions = np.nonzero(changed.reshape(values.shape))
    return Split(base.LAYOUT.name, plain.reshape(len(w), -1), rows, positions, values[rows, positions])


def base_of(name: str) -> ModuleType:
    """The module of a format's base: the one whose fields its layout begins with."""
    fields = import_module(f"hifi_ref.formats.hifi.{name.lower()}").LAYOUT.fields
    bases = (import_module(f"hifi_ref.formats.q{bits}_k") for bits in range(2, 7))
    return next(base for base in bases if fields[: len(base.LAYOUT.fields)] == base.LAYOUT.fields)


def correction(parts: Split, a: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "rows"]:
    """The sparse part of the dot product with activations: add it to the base's. Sums in binary64, rounded once."""
    terms = parts.values.astype(np.float64) * a[parts.positions]
    return np.bincount(parts.rows, terms, minlength=len(parts.blocks)).astype(np.float32)
