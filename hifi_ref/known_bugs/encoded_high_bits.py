"""Bugs of encoding: the high bit of a code, which is kept apart from the low ones, taken by a wrong comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.formats import FORMATS
from hifi_ref.formats.packing import spread
from hifi_ref.known_bugs.bug import Bug, Bytes, bug, each_block, encode

# Format -> the field of high bits, the width of the low ones, and how many weights a run of low codes covers.
APART = {"Q5_K": ("qh", 4, 32), "Q3_K": ("hmask", 2, 32)}


def _codes(name: str, blocks: np.ndarray) -> np.ndarray:
    """[n, 256 / 32, 32]: the codes of sub-blocks of 32, high bit included."""
    field, width, run = APART[name]
    layout = FORMATS[name].layout
    low = blocks[:, layout.span("qs")].reshape(len(blocks), -1, run)
    planes = spread(low, width).reshape(len(blocks), -1, run)
    high = spread(blocks[:, layout.span(field)][:, None], 1).reshape(planes.shape)
    return planes.astype(np.int32) | high.astype(np.int32) << width


def _split(
    name: str, high: Callable[[np.ndarray, int], np.ndarray], subtracts: bool = True, planes_wrong: slice = np.s_[:]
) -> Bytes:
    """The blocks whose codes were split so: high(code, least code with a high bit), and the rest or-ed together.

    planes_wrong: of the codes of a byte, those that are split so; the others are split as they are to be.
    """
    field, width, run = APART[name]
    layout = FORMATS[name].layout

    def change(blocks: np.ndarray) -> np.ndarray:
        codes = _codes(name, blocks)
        per_byte = 8 // width
        is_wrong = np.zeros((codes.shape[1], 1), bool)
        is_wrong.reshape(-1, per_byte)[:, planes_wrong] = True
        top = np.where(is_wrong, high(codes, 2**width), codes >= 2**width)
        low = np.where(is_wrong & (not subtracts), codes, codes - (top.astype(np.int32) << width))
        planes = low.reshape(len(blocks), -1, per_byte, run)
        packed = np.zeros(planes[:, :, 0].shape, np.int32)
        for i in range(per_byte):
            packed |= planes[:, :, i] << (width * i)
        bits = np.zeros((len(blocks), run), np.int32)
        for i in range(codes.shape[1]):
            bits |= top[:, i].astype(np.int32) << i
        blocks = blocks.copy()
        blocks[:, layout.span("qs")] = packed.reshape(len(blocks), -1).astype(np.uint8)
        blocks[:, layout.span(field)] = bits.astype(np.uint8)
        return blocks

    return change


def bugs() -> Iterator[Bug]:
    for name, (field, width, _) in APART.items():
        least = 2**width
        above: Callable[[np.ndarray, int], np.ndarray] = np.greater
        ways = [
            ("high bit above", f"Sets the high bit of codes above {least} alone, not of {least} itself.", above, True),
            ("high bit too early", f"Sets the high bit of codes from {least - 1} on, not from {least} on.",
             lambda code, least: code >= least - 1, True),
            ("high bit not taken off", f"Does not take the high bit, {least}, off the code, which spills into the "
             f"neighbour, though {field} has it.", np.greater_equal, False),
            ("high bit turned", "Sets the high bit of the codes that have none, and takes it off the others.",
             np.less, True),
        ]  # fmt: skip
        parts = {"": np.s_[:], "of the first codes of a byte": np.s_[:1], "of the last codes of a byte": np.s_[-1:]}
        for title, says, high, subtracts in ways:
            for which, planes in parts.items():
                if planes == np.s_[-1:] and not subtracts:
                    # Nothing lies above them
                    continue
                told = f"{says.rstrip('.')}, in {which.removeprefix('of ')}." if which else says
                change = _split(name, high, subtracts, planes)
                yield bug("high-bit plane", name, "encode", f"{title} {which}".strip(), told, _runner(name, change))


def _runner(name: str, change: Bytes) -> Callable:
    return lambda x, weights: each_block(name, change, encode(name, x, weights))
