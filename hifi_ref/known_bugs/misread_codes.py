"""Bugs of layout: codes and whole fields looked for in the wrong place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.formats import LLAMA_CPP
from hifi_ref.known_bugs.bug import Bug, Bytes, in_field, misread
from hifi_ref.known_bugs.moves import (
    halves_of,
    in_halves,
    in_part,
    regroup,
    reverse_bits,
    reverse_pairs,
    rolled,
    swap_longs,
    swap_nibbles,
    swap_words,
    swapped_fields,
    xor,
)

# The field of codes, and over how many bytes its planes run: low nibbles of the run, then high ones.
NIBBLES = {
    "Q4_0": ("qs", 16), "Q4_1": ("qs", 16), "Q5_0": ("qs", 16), "Q5_1": ("qs", 16), "IQ4_NL": ("qs", 16),
    "MXFP4": ("qs", 16), "IQ4_XS": ("qs", 16), "NVFP4": ("qs", 8), "Q4_K": ("qs", 32), "Q5_K": ("qs", 32),
    "Q6_K": ("ql", 64),
}  # fmt: skip
# field, bits per code, the run, and the run that is taken for it. A run of one byte holds neighbours side by side.
PLANES = {
    "Q1_0": ("qs", 1, 1, 16), "Q2_0": ("qs", 2, 1, 16), "TQ2_0": ("qs", 2, 32, 1), "Q2_K": ("qs", 2, 32, 1),
    "Q3_K": ("qs", 2, 32, 1),
}  # fmt: skip
WIDER_PLANES = {"TQ2_0": ("qs", 2, 32, 64), "Q2_K": ("qs", 2, 32, 64), "Q3_K": ("qs", 2, 32, 64)}
HIGH_PLANES = {
    "Q5_0": ("qh", 1, 1, 4), "Q5_1": ("qh", 1, 1, 4), "Q3_K": ("hmask", 1, 32, 1), "Q5_K": ("qh", 1, 32, 1),
    "Q6_K": ("qh", 2, 32, 1),
}  # fmt: skip
D_FIRST = ("Q4_0", "Q5_0", "Q8_0", "Q1_0", "Q2_0", "IQ4_NL", "IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
D_LAST = ("Q3_K", "Q6_K", "TQ1_0", "TQ2_0")
# Fields of 6-bit numbers, and others of 16 bits
WORDS = {
    "IQ1_S": "qh",
    "IQ2_XXS": "qs",
    "IQ2_XS": "qs",
    "IQ4_XS": "scales_h",
    "BF16": "w",
    "F16": "w",
    "IQ1_M": "scales",
}


def planes(table: dict[str, tuple[str, int, int, int]], back: bool = False) -> Callable[[str], Bytes]:
    def of(name: str) -> Bytes:
        field, width, right, wrong = table[name]
        return in_field(name, field, regroup(width, *((wrong, right) if back else (right, wrong))))

    return of


def bugs() -> Iterator[Bug]:
    yield from _codes()
    yield from _fields()


def _codes() -> Iterator[Bug]:
    yield from misread(
        "nibble order", NIBBLES, "swapped nibbles", "Takes the high nibble of a byte for the earlier weight.",
        lambda name: in_field(name, NIBBLES[name][0], swap_nibbles),
    )  # fmt: skip
    yield from misread(
        "nibble order", NIBBLES, "interleaved nibbles", "Takes the two nibbles of a byte for neighbouring weights.",
        lambda name: in_field(name, NIBBLES[name][0], regroup(4, NIBBLES[name][1], 1)),
        lambda name: in_field(name, NIBBLES[name][0], regroup(4, 1, NIBBLES[name][1])),
    )  # fmt: skip
    longer = {"Q4_K": 128, "Q5_K": 128, "Q6_K": 32, "NVFP4": 32, "IQ4_XS": 32}
    yield from misread(
        "nibble order", longer, "another run of nibbles",
        "Takes the high nibbles for weights as many places after the low ones as another format has it.",
        lambda name: in_field(name, NIBBLES[name][0], regroup(4, NIBBLES[name][1], longer[name])),
        lambda name: in_field(name, NIBBLES[name][0], regroup(4, longer[name], NIBBLES[name][1])),
    )  # fmt: skip
    yield from misread(
        "bit order", PLANES, "transposed codes",
        "Takes the codes of a byte for neighbouring weights where they lie a run apart, or the other way round.",
        planes(PLANES), planes(PLANES, back=True),
    )  # fmt: skip
    yield from misread(
        "bit order", WIDER_PLANES, "planes over the whole block",
        "Takes the first codes of all bytes for the first weights.",
        planes(WIDER_PLANES), planes(WIDER_PLANES, back=True),
    )  # fmt: skip
    yield from misread(
        "bit order", ("Q1_0",), "highest bit first", "Takes the highest bit of a byte for the first weight.",
        lambda name: in_field(name, "qs", reverse_bits),
    )  # fmt: skip
    yield from misread(
        "bit order", ("Q1_0",), "inverted bits", "Takes a 1 for minus.", lambda name: in_field(name, "qs", xor(0xFF))
    )
    yield from misread(
        "bit order", ("Q2_0", "Q2_K", "Q3_K", "TQ2_0"), "highest pair first",
        "Takes the highest two bits of a byte for the first weight.", lambda name: in_field(name, "qs", reverse_pairs),
    )  # fmt: skip
    yield from misread(
        "high-bit plane", HIGH_PLANES, "transposed high bits",
        "Takes the high bits of a byte for neighbouring weights where they lie a run apart, or the other way round.",
        planes(HIGH_PLANES), planes(HIGH_PLANES, back=True),
    )  # fmt: skip
    masks = {"Q3_K": "hmask", "Q5_K": "qh", "Q5_0": "qh", "Q5_1": "qh"}
    yield from misread(
        "high-bit plane", masks, "reversed high bits", "Counts the high bits of a byte from the highest.",
        lambda name: in_field(name, masks[name], reverse_bits),
    )  # fmt: skip
    yield from misread(
        "high-bit plane", ("Q6_K",), "reversed high bits", "Counts the pairs of high bits from the highest.",
        lambda name: in_field(name, "qh", reverse_pairs),
    )  # fmt: skip
    yield from misread(
        "high-bit plane", ("Q3_K",), "inverted high bits",
        "Subtracts 4 where the high bit is set, not where it is clear.",
        lambda name: in_field(name, "hmask", xor(0xFF)),
    )  # fmt: skip
    yield from misread(
        "high-bit plane", ("Q5_0", "Q5_1"), "high bits of the halves swapped",
        "Takes the high bits of the other sixteen weights.",
        lambda name: in_field(name, "qh", lambda v: np.roll(v, 2, axis=-1)),
    )  # fmt: skip
    signed = {"Q4_0": ("qs", 0x88), "Q5_0": ("qh", 0xFF), "Q6_K": ("qh", 0xAA)}
    yield from misread(
        "offset of codes", signed, "two's complement", "Takes codes that have an offset for two's complement.",
        lambda name: in_field(name, signed[name][0], xor(signed[name][1])),
    )  # fmt: skip


def _fields() -> Iterator[Bug]:
    yield from misread(
        "field order", D_FIRST, "scale at the end", "Takes the last two bytes for the scale, not the first two.",
        rolled(2), rolled(-2),
    )  # fmt: skip
    yield from misread(
        "field order", D_LAST, "scale in front", "Takes the first two bytes for the scale, not the last two.",
        rolled(-2), rolled(2),
    )  # fmt: skip
    yield from misread(
        "field order", ("MXFP4",), "scale at the end", "Takes the last byte for the scale, not the first.",
        rolled(1), rolled(-1),
    )  # fmt: skip
    for first, second, names in (
        ("d", "m", ("Q4_1", "Q5_1")), ("d", "dmin", ("Q2_K", "Q4_K", "Q5_K")), ("d", "s", ("Q8_1",))
    ):  # fmt: skip
        yield from misread(
            "field order", names, f"{first} and {second} swapped",
            f"Takes {first} for {second}, and {second} for {first}.",
            swapped_fields(first, second),
        )  # fmt: skip
    yield from misread(
        "field order", ("Q4_1",), "codes two bytes early",
        "Skips a header of two bytes, as that of Q4_0, before the codes.",
        lambda name: lambda blocks: np.concatenate([blocks[..., :4], blocks[..., 2:18]], axis=-1),
        operations="decode dot",
    )  # fmt: skip
    yield from misread(
        "byte order", [name for name in LLAMA_CPP if halves_of(name)], "big-endian f16",
        "Takes the first byte of an f16 for the higher one.", in_halves(swap_words),
    )  # fmt: skip
    words = {name: field for name, field in WORDS.items() if name != "F16"}
    yield from misread(
        "byte order", words, "big-endian words", "Takes the first byte of a 16-bit word for the higher one.",
        lambda name: in_field(name, words[name], swap_words),
    )  # fmt: skip
    longs = {"F32": "w", "Q8_K": "d"}
    yield from misread(
        "byte order", longs, "big-endian f32", "Takes the first byte of a binary32 for the highest.",
        lambda name: in_field(name, longs[name], swap_longs),
    )  # fmt: skip
    yield from misread(
        "byte order", ("IQ3_XXS",), "big-endian words", "Takes the first byte of a 32-bit word for the highest.",
        lambda name: in_part(name, "qs", slice(64, 96), swap_longs),
    )  # fmt: skip
    yield from misread(
        "field order", ("Q8_K",), "d and the first codes swapped", "Takes the scale from the end of the codes.",
        lambda name: lambda blocks: np.concatenate([np.roll(blocks[..., :260], 4, axis=-1), blocks[..., 260:]],
        axis=-1),
        lambda name: lambda blocks: np.concatenate([np.roll(blocks[..., :260], -4, axis=-1), blocks[..., 260:]],
        axis=-1),
    )  # fmt: skip
    yield from misread(
        "byte order", ("Q8_K",), "big-endian sums", "Writes the sums with the higher byte first.",
        lambda name: in_field(name, "bsums", swap_words), operations="encode",
    )  # fmt: skip
