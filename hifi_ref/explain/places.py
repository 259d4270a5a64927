"""Where in a block each number lies, bit by bit: a format's codes, scales, mins, row numbers, signs and fields.

The packed numbers come from golden/grids.json, which is stated apart from the decoders; every bit that none of them has
belongs to an item of its LAYOUT field. `effects` holds both against the decoder, by flipping bits.
"""

from __future__ import annotations

import functools
import json
from typing import NamedTuple

import numpy as np

from hifi_ref.commands.golden_folder import golden_folder
from hifi_ref.formats import FORMATS, HIFI, LLAMA_CPP
from hifi_ref.formats.layout import SIZE, Layout

# Numbers of grids.json that have another name here: base-3 digits, five a byte, and in the last four bytes four.
RENAMED = {("TQ1_0", "byte"): "digits", ("TQ1_0", "tail"): "digits", ("MXFP4", "scale"): "e"}
# The f16 scale of IQ1_M lies in the top nibbles of four 16-bit words.
IQ1_M_D = np.concatenate([8 * byte + np.arange(4, 8) for byte in (49, 51, 53, 55)])[None]


class Numbers(NamedTuple):
    """The numbers of one kind in a block.

    kind: "code", "scale", "min", "row", "sign", "shift", "digits", or the name of a field; "outlier NAME" for a field
        of what a HIFI format keeps beside its base
    dtype: how its bits are read: "u", or a signed or float type of layout.SIZE
    bits: int[count, width], lowest bit first; bit b is bit b % 8 of byte b // 8
    """

    kind: str
    dtype: str
    bits: np.ndarray


@functools.cache
def _packed() -> dict[str, dict[str, list[list[int]]]]:
    """grids.json: format -> kind -> for each number triples of byte, lowest bit, bits."""
    content = json.loads((golden_folder() / "grids.json").read_bytes())
    return {name: entry["numbers"] for name, entry in content["formats"].items()}


@functools.cache
def numbers_of(name: str) -> tuple[Numbers, ...]:
    """All numbers of a block of a format, kind after kind in the order of their first bytes; each bit is in one."""
    layout = FORMATS[name].layout
    base = _base_of(name)
    packed: dict[str, np.ndarray] = {}
    for kind, triples in _packed().get(base or name, {}).items():
        bits = np.array([_of_triples(number) for number in triples])
        kind = RENAMED.get((name, kind), kind)
        packed[kind] = np.concatenate([packed[kind], bits]) if kind in packed else bits
    if name == "IQ1_M":
        packed["d"] = IQ1_M_D
    found = [Numbers(kind, _dtype_of(layout, kind, bits), bits) for kind, bits in packed.items()]
    taken = np.zeros(8 * layout.type_size, bool)
    for bits in packed.values():
        taken[bits] = True
    base_size = FORMATS[base].type_size if base else layout.type_size
    for field in layout.fields:
        start, width = 8 * layout.offset(field.name), 8 * SIZE[field.dtype]
        bits = start + np.arange(width * field.count).reshape(field.count, width)
        if not taken[bits].any():
            kind = f"outlier {field.name}" if start >= 8 * base_size else field.name
            found.append(Numbers(kind, field.dtype if field.dtype not in ("u8", "u16") else "u", bits))
    return tuple(sorted(found, key=lambda numbers: int(numbers.bits.min())))


def _of_triples(numbers: list[int]) -> list[int]:
    runs = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return [8 * byte + low + i for byte, low, count in runs for i in range(count)]


def _base_of(name: str) -> str | None:
    """The plain format that a HIFI format begins with."""
    if name not in HIFI:
        return None
    fields = FORMATS[name].layout.fields
    return next(f.name for f in LLAMA_CPP.values() if fields[: len(f.layout.fields)] == f.layout.fields)


def base_of(name: str) -> str:
    """The plain format whose block a format's block is, or begins with."""
    return _base_of(name) or name


def _dtype_of(layout: Layout, kind: str, bits: np.ndarray) -> str:
    """A number that fills an item of its field is read as that item is; others are unsigned."""
    if kind == "d":
        return "f16"
    field = layout.field_at(int(bits[0, 0]) // 8)
    return field.dtype if bits.shape[1] == 8 * SIZE[field.dtype] and field.dtype[0] in "if" else "u"
