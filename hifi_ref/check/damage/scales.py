"""Scales and weights that fit none of their neighbours: magnitudes, and signs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from hifi_ref.check.damage.survey import PAGE
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import release
from hifi_ref.model_files.gguf_model import CHUNK, Gguf, Tensor
from hifi_ref.model_files.tensor_types import is_defined

# A scale is far above the others from so many octaves on.
OCTAVES = 10
# No weight of a matrix or a norm is as large as two to this.
LARGEST = 40
# Fields that are a block's scale, or that of its mins, and the types whose encoder never writes them negative.
SCALES = ("d", "dmin", "m")
POSITIVE = {
    "d": {
        "Q1_0", "Q2_0", "Q4_1", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q4_K", "Q5_K", "IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S",
        "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0",
    },
    "dmin": {"Q2_K", "Q4_K", "Q5_K"},
}  # fmt: skip
_FLOATS = {"F16": "u2", "BF16": "u2", "F32": "u4"}
NORM = re.compile(r"(^|[._])norm(_\w+)?\.weight$")


class Odd(NamedTuple):
    """Blocks (or weights) that fit none of the others: what is odd ("far", "sign" or "huge"), in which field, how many
    of how many, the first of them, and its value."""

    what: str
    field: str
    number: int
    total: int
    first: int
    value: float


class _Meaning(NamedTuple):
    """Of each of the words of 16 bits: its value, the octave of that, and whether it is finite, and below 0."""

    values: np.ndarray
    octave: np.ndarray
    finite: np.ndarray
    negative: np.ndarray


class _Column(NamedTuple):
    """A field of every block: its words u16[n] in the tensor's raw blocks uint8[n, type_size], and what they mean."""

    field: str
    words: Callable[[np.ndarray], np.ndarray]
    means: _Meaning
    positive: bool


def odd_scales(gguf: Gguf, tensor: Tensor) -> tuple[list[Odd], bool]:
    """What fits none of the other blocks of a readable tensor; and whether all its scales are zero."""
    columns = list(_columns(tensor, gguf.order))
    if not columns:
        return [], False
    raw, size = gguf.blocks(tensor), tensor.known_type.type_size
    step = max(1, CHUNK // size)
    counts = np.zeros((len(columns), 1 << 16), np.int64)
    for at in range(0, len(raw), step):
        for count, column in zip(counts, columns, strict=True):
            count += np.bincount(column.words(raw[at : at + step]), minlength=1 << 16)
        done = tensor.start + at * size
        release(gguf.data, done, done + raw[at : at + step].nbytes)
    found, any_scale = [], False
    for count, column in zip(counts, columns, strict=True):
        means = column.means
        octaves = np.bincount(means.octave, count, 256).astype(np.int64)
        total = int(octaves[1:255].sum())
        any_scale |= bool(octaves[1:].any())
        few = min(total // 8, max(total // 1000, -(-2 * PAGE // size)))
        limit = _limit(octaves, few)
        if limit is not None:
            found.append(_first(raw, step, column, "far", count, (means.octave >= limit) & means.finite, total))
        if column.positive and 0 < count[means.negative].sum() <= few:
            found.append(_first(raw, step, column, "sign", count, means.negative, total))
    return found, not any_scale


def _limit(octaves: np.ndarray, few: int) -> int | None:
    """The octave from which on values are far above all but a ``few``; None where there are none so far."""
    counts = octaves.copy()
    counts[[0, 255]] = 0
    above = counts[::-1].cumsum()[::-1]
    # The largest octave that more than the few reach, and the one that half do.
    most = int(np.flatnonzero(above > few).max(initial=0))
    half = int(np.flatnonzero(above > counts.sum() // 2).max(initial=0))
    # Where the others spread far themselves, little can be said.
    limit = most + max(OCTAVES, 2 * (most - half))
    return limit if most and limit < 255 and above[limit] else None


def _octaves(values: np.ndarray) -> np.ndarray:
    """f32[n] -> the biased exponents, 0 for zero, 255 for what is not finite."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 23 & 0xFF).astype(np.int64)


def _meaning(values: np.ndarray) -> _Meaning:
    finite = np.isfinite(values)
    return _Meaning(values, _octaves(values), finite, (values < 0) & finite)


# An E8M0 byte is the exponent of a bfloat16.
_WORD = np.arange(1 << 16, dtype=np.uint16)
_F16 = _meaning(_WORD.view(np.float16).astype(np.float32))
_BF16 = _meaning((_WORD.astype(np.uint32) << 16).view(np.float32))


def _between(values: np.ndarray, limit: int) -> np.ndarray:
    octaves = _octaves(values)
    return (octaves >= limit) & (octaves < 255)


def _first(
    raw: np.ndarray, step: int, column: _Column, what: str, count: np.ndarray, odd: np.ndarray, total: int
) -> Odd:
    """The second look, which only damaged tensors need: where the first of the odd words stands, bool[65536]."""
    for at in range(0, len(raw), step):
        words = column.words(raw[at : at + step])
        if odd[words].any():
            i = int(odd[words].argmax())
            return Odd(what, column.field, int(count[odd].sum()), total, at + i, float(column.means.values[words[i]]))
    raise AssertionError("counted, but not found again")


def _columns(tensor: Tensor, order: str) -> Iterator[_Column]:
    kind = tensor.known_type
    if kind.block_size == 1 or kind.name not in FORMATS or not is_defined(kind):
        return
    layout = FORMATS[kind.name].layout
    for field in layout.fields:
        if field.name in SCALES and field.count == 1 and field.dtype in ("f16", "f32"):
            # Of an f32 the upper half, which is a bfloat16.
            upper = 2 if field.dtype == "f32" and order == "<" else 0
            words = partial(_words, order + "u2", layout.offset(field.name) + upper)
            means = _F16 if field.dtype == "f16" else _BF16
            yield _Column(field.name, words, means, kind.name in POSITIVE.get(field.name, ()))
    if kind.name == "IQ1_M":
        yield _Column("scales", partial(_spread, order, layout.offset("scales")), _F16, True)
    if kind.name == "MXFP4":
        yield _Column("e", lambda raw: raw[:, 0].astype(np.uint16) << 7, _BF16, False)


def _words(dtype: str, offset: int, raw: np.ndarray) -> np.ndarray:
    """The words at an offset of every block, without a copy."""
    record = np.dtype({"names": ["word"], "formats": [dtype], "offsets": [offset], "itemsize": raw.shape[1]})
    return raw.reshape(-1).view(record)["word"]


def _spread(order: str, offset: int, raw: np.ndarray) -> np.ndarray:
    """The bits of IQ1_M's d are the top nibbles of four words, the first word's lowest."""
    nibbles = [_words(order + "u2", offset + 2 * i, raw).astype(np.uint16) >> 12 for i in range(4)]
    return nibbles[0] | nibbles[1] << 4 | nibbles[2] << 8 | nibbles[3] << 12


def odd_weights(gguf: Gguf, tensor: Tensor) -> list[Odd]:
    """Weights of a float tensor that are larger than any model's, or, page by page, far above all others."""
    word, matrix = _FLOATS.get(tensor.type_name), sum(n > 1 for n in tensor.shape) > 1
    if word is None or not (matrix or NORM.search(tensor.name)):
        return []
    bits = np.frombuffer(gguf.data, gguf.order + word, tensor.elements, tensor.start)
    page = PAGE // bits.itemsize
    largest = np.concatenate([
        _page_maxima(bits[at : at + CHUNK // bits.itemsize], page) for at in range(0, len(bits), CHUNK // bits.itemsize)
    ])  # fmt: skip
    octaves = _octaves(_to_f32(largest, tensor.type_name))
    total = len(octaves)
    huge = np.flatnonzero((octaves >= 127 + LARGEST) & (octaves < 255))
    if len(huge):
        return [_weight(bits, tensor, page, huge, "huge", 127 + LARGEST)]
    limit = _limit(np.bincount(octaves, minlength=256), min(total // 8, max(total // 1000, 2)))
    if limit is None or not matrix:
        return []
    return [_weight(bits, tensor, page, np.flatnonzero((octaves >= limit) & (octaves < 255)), "far", limit)]


def _weight(bits: np.ndarray, tensor: Tensor, page: int, pages: np.ndarray, what: str, limit: int) -> Odd:
    """The first such weight, and how many there are in these pages."""
    count, first, value = 0, -1, 0.0
    for at in (int(p) * page for p in pages):
        weights = _to_f32(bits[at : at + page], tensor.type_name)
        odd = np.flatnonzero(_between(weights, limit))
        if first < 0:
            first, value = at + int(odd[0]), float(weights[odd[0]])
        count += len(odd)
    return Odd(what, "weight", count, tensor.elements, first, value)


def _page_maxima(bits: np.ndarray, page: int) -> np.ndarray:
    """The bits of each page's largest magnitude, for a chunk."""
    size = np.bitwise_and(bits, bits.dtype.type((1 << 8 * bits.itemsize - 1) - 1))
    whole = len(size) // page * page
    maxima = size[:whole].reshape(-1, page).max(axis=1)
    return np.append(maxima, size[whole:].max()) if whole < len(size) else maxima


def _to_f32(bits: np.ndarray, name: str) -> np.ndarray:
    """Bits of F16, BF16 or F32 in either byte order -> f32."""
    if name == "F32":
        return bits.astype(np.uint32).view(np.float32)
    return (_F16 if name == "F16" else _BF16).values[bits]
