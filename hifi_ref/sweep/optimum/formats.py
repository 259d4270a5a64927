"""What the blocks of each format can store, and so the least loss that they can hold.

A format with scales of scales is searched for the super-scales that its encoder wrote: each sub-block takes the best of
its stored codes. Levels that no encoder writes count where the decoder reads them: -128 of Q8_0, 3 of Q2_0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import FORMATS, codebooks
from hifi_ref.sweep.optimum import search

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

IQ4 = codebooks.STEPS_IQ4.astype(np.float64)
FP4 = codebooks.STEPS_FP4.astype(np.float64)


class Blocks(NamedTuple):
    """Weights in sub-blocks of one scale each, the format's blocks of the encoder, and its squared errors."""

    x: Float64[np.ndarray, "n block"]
    blocks: UInt8[np.ndarray, "blocks bytes"]
    known: Float64[np.ndarray, "n"]
    name: str

    def field(self, name: str) -> Float64[np.ndarray, "n 1"]:
        """A number of each block, for each of its sub-blocks."""
        layout = FORMATS[self.name].layout
        values = layout.unpack(self.blocks)[layout.names.index(name)].astype(np.float64).reshape(-1, 1)
        return np.repeat(values, len(self.x) // len(values), axis=0)


class Form(NamedTuple):
    """``sub_block``: weights a scale; ``least``: the least squared error of each sub-block; ``given``: what is not
    searched but taken as the encoder has it."""

    sub_block: int
    least: Callable[[Blocks], Float64[np.ndarray, "n"]]
    given: str = ""


def _whole(first: int, last: int) -> np.ndarray:
    return np.arange(first, last + 1, dtype=np.float64)


def _in_binary16(sub_block: int, levels: np.ndarray) -> Form:
    return Form(sub_block, lambda b: search.over_binary16(b.x, levels))


def _in_binary16_with_min(most: int) -> Form:
    return Form(32, lambda b: search.over_binary16_with_min(b.x, most, b.known))


def _of_scales(sub_block: int, levels: np.ndarray, codes: np.ndarray) -> Form:
    return Form(sub_block, lambda b: search.over_scales(b.x, levels, b.field("d") * codes), "d")


def _of_scales_and_mins(sub_block: int, most: int, codes: np.ndarray) -> Form:
    def least(b: Blocks) -> np.ndarray:
        return search.over_scales_and_mins(b.x, most, b.field("d") * codes, -b.field("dmin") * codes)

    return Form(sub_block, least, "d and dmin")


def _of_bytes(sub_block: int, scales: exact.Array) -> Form:
    """Floats of four bits with a scale that is a byte."""
    wide = np.asarray(scales).astype(np.float64)
    return Form(sub_block, lambda b: search.over_scales(b.x, FP4, np.broadcast_to(wide, (len(b.x), len(wide)))))


BYTES = np.arange(256, dtype=np.uint8)
FORMS: dict[str, Form] = {
    "Q1_0": _in_binary16(128, np.array([-1.0, 1.0])),
    "TQ1_0": _in_binary16(256, _whole(-1, 1)),
    "TQ2_0": _in_binary16(256, _whole(-1, 2)),
    "Q2_0": _in_binary16(64, _whole(-1, 2)),
    "Q2_K": _of_scales_and_mins(16, 3, _whole(0, 15)),
    "Q3_K": _of_scales(16, _whole(-4, 3), _whole(-32, 31)),
    "IQ4_XS": _of_scales(32, IQ4, _whole(-32, 31)),
    "MXFP4": _of_bytes(32, exact.from_bits(exact.widen_e8m0_half(BYTES))),
    "Q4_0": _in_binary16(32, _whole(-8, 7)),
    "IQ4_NL": _in_binary16(32, IQ4),
    "NVFP4": _of_bytes(16, np.unique(exact.widen_ue4m3_half(BYTES))),
    "Q4_K": _of_scales_and_mins(32, 15, _whole(0, 63)),
    "Q4_1": _in_binary16_with_min(15),
    "Q5_0": _in_binary16(32, _whole(-16, 15)),
    "Q5_K": _of_scales_and_mins(32, 31, _whole(0, 63)),
    "Q5_1": _in_binary16_with_min(31),
    "Q6_K": _of_scales(16, _whole(-32, 31), _whole(-128, 127)),
    "Q8_0": _in_binary16(32, _whole(-128, 127)),
}
