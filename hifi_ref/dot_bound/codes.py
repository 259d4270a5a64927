"""Weights taken apart: what their codes give, and the offset or min that kernels may add as a term of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.dot_bound.checks import finite_values
from hifi_ref.formats import Format

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

# The fields that are 0 where all codes are, in formats whose codes have an offset that kernels may take from bsums.
CODE_FIELDS = {"Q3_K": ("hmask", "qs"), "Q6_K": ("ql", "qh"), "TQ1_0": ("qs", "qh"), "TQ2_0": ("qs",)}
# The bits of qh that reverse all shifts, repeated.
SHIFT_BITS = {"IQ1_S": (0x00, 0x80), "IQ1_M": (0x88,)}


def codes_and_offset(f: Format, w: UInt8[np.ndarray, "rows w_bytes"], first: int
                     ) -> tuple[Float64[np.ndarray, "..."], Float64[np.ndarray, "..."] | None]:  # fmt: skip
    """The weights as codes + offset, both exact; None where the codes stand alone.

    Decoding is linear in a block's scales and rounds nothing but the sum of the two, so it is done twice.
    """
    of_min = {"dmin", "m"}.intersection(f.layout.names)
    if of_min:
        return finite_values(f, _without(f, w, *of_min), first), finite_values(f, _without(f, w, "d"), first)
    whole = finite_values(f, w, first)
    if f.name in CODE_FIELDS:
        offset = finite_values(f, _without(f, w, *CODE_FIELDS[f.name]), first)
        return whole - offset, offset
    if f.name in SHIFT_BITS:
        reversed_shift = finite_values(f, _without(f, w, "qh", keep_xor=SHIFT_BITS[f.name]), first)
        return (whole + reversed_shift) / 2, (whole - reversed_shift) / 2
    return whole, None


def stored_sums(f: Format, n: int) -> int:
    """How many stored sums of activations a row's kernel may turn into terms of their own."""
    separate = f.name in CODE_FIELDS or f.name in SHIFT_BITS or {"dmin", "m"}.intersection(f.layout.names)
    return n // (16 if f.dot_with == "Q8_K" else 32) if separate else 0


def _without(f: Format, w: UInt8[np.ndarray, "rows w_bytes"], *names: str, keep_xor: tuple[int, ...] = ()
             ) -> UInt8[np.ndarray, "rows w_bytes"]:  # fmt: skip
    """w with those fields set to 0, or with a pattern of bits reversed in them."""
    blocks = w.reshape(len(w), -1, f.type_size).copy()
    for name in names:
        part = blocks[..., f.layout.span(name)]
        part[...] = part ^ np.resize(np.array(keep_xor, np.uint8), part.shape[-1]) if keep_xor else 0
    return blocks.reshape(w.shape)
