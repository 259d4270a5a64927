"""Bugs of layout: packed scales, signs and row numbers of grids taken apart in a wrong way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.formats import LLAMA_CPP, k_scales
from hifi_ref.formats.packing import gather, spread
from hifi_ref.known_bugs.bug import Bug, Bytes, as_words, in_field, misread
from hifi_ref.known_bugs.moves import (
    halves_of,
    in_halves,
    in_part,
    negate_halves,
    regroup,
    reverse_bits,
    reverse_pairs,
    swap_nibbles,
    without_subnormals,
    xor,
)

# PACKED NUMBERS


def _k_scales(change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Callable[[str], Bytes]:
    def changed(v: np.ndarray) -> np.ndarray:
        return k_scales.pack(*(a.astype(np.int32) for a in change(*k_scales.unpack(v))))

    return lambda name: in_field(name, "scales", changed)


def _top_bits_swapped(scales: np.ndarray, mins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The top two bits of scale j + 4 and of min j + 4 change places."""
    high = np.arange(8) >= 4
    return (np.where(high, scales & 15 | mins & 48, scales), np.where(high, mins & 15 | scales & 48, mins))


def _without_top_bits(scales: np.ndarray, mins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.arange(8) < 4
    return np.where(first, scales, scales & 15), np.where(first, mins, mins & 15)


def _as_stream(scales: np.ndarray, mins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sixteen 6-bit numbers side by side: first the scales, then the mins."""
    bits = np.unpackbits(k_scales.pack(*(a.astype(np.int32) for a in (scales, mins))), axis=-1, bitorder="little")
    numbers = bits.reshape(*bits.shape[:-1], 16, 6) @ (1 << np.arange(6))
    return numbers[..., :8], numbers[..., 8:]


def _into_stream(scales: np.ndarray, mins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.concatenate([scales, mins], axis=-1)
    bits = (numbers[..., None] >> np.arange(6) & 1).astype(np.uint8)
    packed = np.packbits(bits.reshape(*bits.shape[:-2], 96), axis=-1, bitorder="little")
    return k_scales.unpack(packed)


def _reverse_high_scales(word: np.ndarray) -> np.ndarray:
    """The eight 2-bit numbers of a 16-bit word, the first highest."""
    pairs = word[..., None] >> np.arange(0, 16, 2, dtype=np.uint16) & np.uint16(3)
    return (pairs[..., ::-1] << np.arange(0, 16, 2, dtype=np.uint16)).sum(axis=-1, dtype=np.uint16)


def _reverse_threes(word: np.ndarray) -> np.ndarray:
    """The four 3-bit numbers in bits 0-11 of a word, the first highest."""
    threes = word[..., None] >> np.arange(0, 12, 3, dtype=np.uint16) & np.uint16(7)
    turned = (threes[..., ::-1] << np.arange(0, 12, 3, dtype=np.uint16)).sum(axis=-1, dtype=np.uint16)
    return word & np.uint16(0xF000) | turned


def _turn_nibbles_of_d(word: np.ndarray) -> np.ndarray:
    """IQ1_M: the top nibbles of the four words in reverse order."""
    return word & np.uint16(0x0FFF) | word[..., ::-1] & np.uint16(0xF000)


def sign_words(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Bytes:
    """IQ2_XXS and IQ3_XXS: a change of the 32-bit words of sign codes and scale."""

    def changed(v: np.ndarray) -> np.ndarray:
        runs = v.reshape(*v.shape[:-1], 8, -1).copy() if name == "IQ2_XXS" else v.copy()
        part = runs[..., 4:] if name == "IQ2_XXS" else runs[..., 64:]
        words = np.ascontiguousarray(part).view("<u4").astype(np.uint32)
        part[...] = change(words).astype("<u4").view(np.uint8)
        return runs.reshape(v.shape)

    return in_field(name, "qs", changed)


def _reverse_sign_codes(word: np.ndarray) -> np.ndarray:
    """The four 7-bit codes of a word, the first highest."""
    codes = word[..., None] >> np.arange(0, 28, 7, dtype=np.uint32) & np.uint32(127)
    turned = (codes[..., ::-1] << np.arange(0, 28, 7, dtype=np.uint32)).sum(axis=-1, dtype=np.uint32)
    return word & np.uint32(0xF0000000) | turned


def _scale_in_the_low_bits(word: np.ndarray) -> np.ndarray:
    return word << np.uint32(28) | word >> np.uint32(4)


def _scale_back_on_top(word: np.ndarray) -> np.ndarray:
    return word >> np.uint32(28) | word << np.uint32(4)


def _four_bit_scales(v: np.ndarray) -> np.ndarray:
    """High bits that make 6-bit scales, offset 32, of 4-bit ones, offset 8: 24 is added."""
    low = spread(v[..., :8], 4).reshape(*v.shape[:-1], 16).astype(np.int32) + 24
    packed = gather((low & 15).reshape(*v.shape[:-1], 2, 8), 4), gather((low >> 4).reshape(*v.shape[:-1], 4, 4), 2)
    return np.concatenate(packed, axis=-1)


# BUGS


def bugs() -> Iterator[Bug]:
    yield from _scales()
    yield from _grids()


def _scales() -> Iterator[Bug]:
    yield from misread(
        "sign of min", ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"), "negated min",
        "Subtracts the min where it is to be added, or adds it where it is to be subtracted.",
        lambda name: in_field(name, "m" if name.endswith("1") else "dmin", negate_halves),
    )  # fmt: skip
    k_quants = ("Q4_K", "Q5_K")
    yield from misread(
        "packed scales", k_quants, "scales and mins swapped", "Takes the 6-bit scales for mins, and mins for scales.",
        _k_scales(lambda scales, mins: (mins, scales)),
    )  # fmt: skip
    yield from misread(
        "packed scales", k_quants, "top bits of scales and mins swapped",
        "Takes the top bits of the last four scales from the mins' bytes, and those of the mins from the scales'.",
        _k_scales(_top_bits_swapped),
    )  # fmt: skip
    yield from misread(
        "packed scales", k_quants, "scales side by side", "Takes the scales for a stream of 6-bit numbers.",
        _k_scales(_as_stream), _k_scales(_into_stream),
    )  # fmt: skip
    yield from misread(
        "packed scales", k_quants, "top bits lost", "Takes only four bits of the last four scales and mins.",
        _k_scales(_without_top_bits),
    )  # fmt: skip
    yield from misread(
        "packed scales", k_quants, "no sub-block scales", "Takes every 6-bit scale and min for 1.",
        _k_scales(lambda scales, mins: (scales * 0 + 1, mins * 0 + 1)), operations="decode dot",
    )  # fmt: skip
    yield from misread(
        "packed scales", ("Q2_K",), "scale and min swapped",
        "Takes the high nibble for the scale and the low one for the min.",
        lambda name: in_field(name, "scales", swap_nibbles),
    )  # fmt: skip
    yield from misread(
        "packed scales", ("Q3_K",), "high bits of scales transposed",
        "Takes the four pairs of bits of a byte for neighbouring scales.",
        lambda name: in_part(name, "scales", slice(8, 12), regroup(2, 4, 1)),
    )  # fmt: skip
    yield from misread(
        "packed scales", ("Q3_K",), "scales of 4 bits",
        "Takes 4-bit scales with an offset of 8 from the first 8 bytes.",
        lambda name: in_field(name, "scales", _four_bit_scales), operations="decode dot",
    )  # fmt: skip
    yield from misread(
        "offset of codes", ("Q3_K",), "scales in two's complement",
        "Takes 6-bit scales with an offset for two's complement.",
        lambda name: in_part(name, "scales", slice(8, 12), xor(0xAA)),
    )  # fmt: skip
    yield from misread(
        "packed scales", ("Q6_K",), "scales of the halves swapped",
        "Takes the scales of the second half for the first.",
        lambda name: in_field(name, "scales", lambda v: np.roll(v, 8, axis=-1)),
    )  # fmt: skip
    nibbles = {"IQ2_XS": "scales", "IQ2_S": "scales", "IQ3_S": "scales", "IQ4_XS": "scales_l"}
    yield from misread(
        "packed scales", nibbles, "swapped scales", "Takes the high nibble for the earlier scale.",
        lambda name: in_field(name, nibbles[name], swap_nibbles),
    )  # fmt: skip
    yield from misread(
        "packed scales", ("IQ4_XS",), "reversed high bits of scales",
        "Counts the high bits of the scales from the highest.",
        lambda name: in_field(name, "scales_h", as_words(_reverse_high_scales)),
    )  # fmt: skip
    yield from misread(
        "offset of codes", ("IQ4_XS",), "scales in two's complement",
        "Takes 6-bit scales with an offset for two's complement.",
        lambda name: in_field(name, "scales_h", xor(0xAA)),
    )  # fmt: skip
    yield from misread(
        "packed scales", ("IQ1_M",), "reversed scales", "Counts the four scales of a word from the highest.",
        lambda name: in_field(name, "scales", as_words(_reverse_threes)),
    )  # fmt: skip
    yield from misread(
        "packed scales", ("IQ1_M",), "reversed nibbles of d", "Takes the last word's top nibble for the lowest of d.",
        lambda name: in_field(name, "scales", as_words(_turn_nibbles_of_d)),
    )  # fmt: skip
    words = ("IQ2_XXS", "IQ3_XXS")
    yield from misread(
        "packed scales", words, "scale in the low bits",
        "Takes the scale from the lowest bits of the word of sign codes.",
        lambda name: sign_words(name, _scale_in_the_low_bits), lambda name: sign_words(name, _scale_back_on_top),
    )  # fmt: skip
    yield from misread(
        "packed scales", ("NVFP4",), "reversed scales", "Takes the last scale for the first sixteen weights.",
        lambda name: in_field(name, "d", lambda v: v[..., ::-1]),
    )  # fmt: skip
    tiny = [name for name in LLAMA_CPP if halves_of(name)]
    yield from misread(
        "f16 conversion", tiny, "subnormal f16 lost",
        "Takes subnormal f16 numbers for zero, and writes zeros for them.",
        in_halves(without_subnormals),
    )  # fmt: skip


def _grids() -> Iterator[Bug]:
    rows = {
        "IQ1_S": ("qs", slice(None)), "IQ1_M": ("qs", slice(None)), "IQ2_XXS": ("qs", None), "IQ2_XS": ("qs", None),
        "IQ2_S": ("qs", slice(0, 32)), "IQ3_XXS": ("qs", slice(0, 64)), "IQ3_S": ("qs", slice(None)),
    }  # fmt: skip

    def swapped(name: str) -> Bytes:
        field, part = rows[name]
        if part is not None:
            return in_part(name, field, part, swap_rows)
        if name == "IQ2_XXS":
            return in_field(name, field, _in_runs_of_eight(swap_rows))
        return in_field(name, field, as_words(_swap_nine_bit_rows))

    yield from misread(
        "code table",
        rows,
        "two rows of the grid swapped",
        "Has two neighbouring rows of the grid in the wrong order.",
        swapped,
    )
    high = {"IQ1_S": "qh", "IQ2_S": "qh", "IQ3_S": "qh", "IQ1_M": "qh", "IQ2_XS": "qs"}
    masks = {"IQ1_S": 0xF000, "IQ2_S": 0, "IQ3_S": 0, "IQ1_M": 0x8888, "IQ2_XS": 0xFEFF}
    yield from misread(
        "code table", high, "high bits of row numbers lost", "Takes only the low eight bits of a row number.",
        lambda name: in_field(name, high[name], as_words(lambda word: word & np.uint16(masks[name]))),
    )  # fmt: skip
    reverse = {"IQ1_S": as_words(_reverse_threes), "IQ2_S": reverse_pairs, "IQ3_S": reverse_bits, "IQ1_M": swap_nibbles}
    yield from misread(
        "high-bit plane", reverse, "reversed high bits of row numbers",
        "Takes the high bits of the last row number for those of the first.",
        lambda name: in_field(name, "qh", reverse[name]),
    )  # fmt: skip
    signs = {"IQ2_S": ("qs", slice(32, 64)), "IQ3_S": ("signs", slice(None))}
    yield from misread(
        "sign codes", signs, "reversed signs", "Takes the highest bit of a sign byte for the first weight.",
        lambda name: in_part(name, *signs[name], reverse_bits),
    )  # fmt: skip
    yield from misread(
        "sign codes",
        signs,
        "inverted signs",
        "Takes a 1 for plus.",
        lambda name: in_part(name, *signs[name], xor(0xFF)),
    )
    yield from misread(
        "sign codes", ("IQ2_XXS", "IQ3_XXS"), "reversed sign codes",
        "Takes the last sign code of a word for the first group.",
        lambda name: sign_words(name, _reverse_sign_codes),
    )  # fmt: skip
    yield from misread(
        "sign codes", ("IQ2_XS",), "signs in the low bits", "Takes the sign code from the low seven bits of a word.",
        lambda name: in_field(name, "qs", as_words(lambda word: word << np.uint16(9) | word >> np.uint16(7))),
        lambda name: in_field(name, "qs", as_words(lambda word: word >> np.uint16(9) | word << np.uint16(7))),
    )  # fmt: skip
    yield from misread(
        "shift of the grid", ("IQ1_S", "IQ1_M"), "inverted shift", "Subtracts the eighth where it is to be added.",
        lambda name: in_field(name, "qh",
        as_words(lambda word: word ^ np.uint16(0x8000 if name == "IQ1_S" else 0x8888))),
    )  # fmt: skip


def swap_rows(v: np.ndarray) -> np.ndarray:
    """Row numbers 0x5A and 0x5B change places."""
    return np.where(v >> 1 == 0x2D, v ^ 1, v).astype(v.dtype)


def _in_runs_of_eight(change: Bytes) -> Bytes:
    """A change of the first four bytes of each eight: the row numbers of IQ2_XXS."""

    def changed(v: np.ndarray) -> np.ndarray:
        runs = v.reshape(*v.shape[:-1], -1, 8).copy()
        runs[..., :4] = change(runs[..., :4])
        return runs.reshape(v.shape)

    return changed


def _swap_nine_bit_rows(word: np.ndarray) -> np.ndarray:
    return np.where(word >> 1 & 0xFF == 0x2D, word ^ 1, word).astype(np.uint16)
