"""Scales and weights that fit none of their neighbours: magnitudes, and signs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from hifi_ref.check.damage.survey import PAGE
from hifi_ref.check.payload import release
from hifi_ref.formats import FORMATS
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
_WORD = {"f16": "u2", "f32": "u4"}
_FLOATS = {"F16": "u2", "BF16": "u2", "F32": "u4"}
NORM = re.compile(r"(^|[._])norm(_\w+)?\.weight$")


class Odd(NamedTuple):
    """Blocks (or weights) that fit none of the others: what is odd ("far", "sign" or "huge"), in which field, how many
    of how many, the first of them, and its value."""

    what: str
    field: str
    found: int
    total: int
    first: int
    value: float


class _Column(NamedTuple):
    """A field of every block: its values f32[n] from the tensor's raw blocks uint8[n, type_size]."""

    field: str
    values: Callable[[np.ndarray], np.ndarray]
    positive: bool


def odd_scales(gguf: Gguf, tensor: Tensor) -> tuple[list[Odd], bool]:
    """What fits none of the other blocks of a readable tensor; and whether all its scales are zero."""
    columns = list(_columns(tensor, gguf.order))
    if not columns:
        return [], False
    raw, kind = gguf.blocks(tensor), tensor.known_type
    step = max(1, CHUNK // kind.type_size)
    octaves = np.zeros((len(columns), 256), np.int64)
    negative = np.zeros(len(columns), np.int64)
    for at in range(0, len(raw), step):
        for i, column in enumerate(columns):
            values = column.values(raw[at : at + step])
            octaves[i] += np.bincount(_octaves(values), minlength=256)
            if column.positive:
                negative[i] += np.count_nonzero((values < 0) & np.isfinite(values))
        done = tensor.start + at * kind.type_size
        release(gguf.data, done, done + raw[at : at + step].nbytes)
    found = []
    pages = -(-2 * PAGE // kind.type_size)
    for i, column in enumerate(columns):
        total = int(octaves[i, 1:255].sum())
        few = min(total // 8, max(total // 1000, pages))
        limit = _limit(octaves[i], few)
        if limit is not None:
            far = int(octaves[i, limit:255].sum())
            found.append(_first(raw, step, column, "far", far, total, lambda v, n=limit: _between(v, n)))
        if 0 < negative[i] <= few:
            found.append(_first(raw, step, column, "sign", int(negative[i]), total, lambda v: v < 0))
    return found, not octaves[:, 1:].any()


def _limit(octaves: np.ndarray, few: int) -> int | None:
    """The octave from which on values are far above all but a ``few``; None where there are none so far."""
    counts = octaves.copy()
    counts[[0, 255]] = 0
    above = counts[::-1].cumsum()[::-1]
    if not counts.any():
        return None
    # The largest octave that more than the few reach, and the one that half do.
    most = int(np.flatnonzero(above > few).max(initial=0))
    half = int(np.flatnonzero(above > counts.sum() // 2).max(initial=0))
    # Where the others spread far themselves, little can be said.
    limit = most + max(OCTAVES, 2 * (most - half))
    return limit if most and limit < 255 and above[limit] else None


def _octaves(values: np.ndarray) -> np.ndarray:
    """f32[n] -> the biased exponents, 0 for zero, 255 for what is not finite."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 23 & 0xFF).astype(np.int64)


def _between(values: np.ndarray, limit: int) -> np.ndarray:
    octaves = _octaves(values)
    return (octaves >= limit) & (octaves < 255)


def _first(raw: np.ndarray, step: int, column: _Column, what: str, count: int, total: int, is_odd: Callable) -> Odd:
    """The second look, which only damaged tensors need."""
    for at in range(0, len(raw), step):
        values = column.values(raw[at : at + step])
        odd = is_odd(values) & np.isfinite(values)
        if odd.any():
            i = int(odd.argmax())
            return Odd(what, column.field, count, total, at + i, float(values[i]))
    raise AssertionError("counted, but not found again")


def _columns(tensor: Tensor, order: str) -> Iterator[_Column]:
    kind = tensor.known_type
    if kind.block_size == 1 or kind.name not in FORMATS or not is_defined(kind):
        return
    layout = FORMATS[kind.name].layout
    for field in layout.fields:
        span = layout.span(field.name)
        if field.name in SCALES and field.count == 1 and field.dtype in _WORD:
            dtype = np.dtype(order + field.dtype.replace("f16", "f2").replace("f32", "f4"))
            yield _Column(field.name, partial(_scale, span, dtype), kind.name in POSITIVE.get(field.name, ()))
    if kind.name == "IQ1_M":
        yield _Column("scales", lambda raw: _iq1_m(raw[:, layout.span("scales")], order), True)
    if kind.name == "MXFP4":
        yield _Column("e", lambda raw: (raw[:, 0].astype(np.uint32) << 23).view(np.float32), False)


def _scale(span: slice, dtype: np.dtype, raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw[:, span]).view(dtype)[:, 0].astype(np.float32)


def _iq1_m(raw: np.ndarray, order: str) -> np.ndarray:
    """uint8[n, 8] -> d, f32[n]: its bits are the words' top nibbles, the first word's lowest."""
    words = np.ascontiguousarray(raw).view(order + "u2").astype(np.uint16) >> 12
    return (words[:, 0] | words[:, 1] << 4 | words[:, 2] << 8 | words[:, 3] << 12).view(np.float16).astype(np.float32)


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
    """The largest finite magnitude's bits... of each page of a chunk."""
    size = np.bitwise_and(bits, bits.dtype.type((1 << 8 * bits.itemsize - 1) - 1))
    whole = len(size) // page * page
    maxima = size[:whole].reshape(-1, page).max(axis=1)
    return np.append(maxima, size[whole:].max()) if whole < len(size) else maxima


def _to_f32(bits: np.ndarray, name: str) -> np.ndarray:
    """Bits of F16, BF16 or F32 in either byte order -> f32."""
    if name == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    if name == "F16":
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)
    return bits.astype(np.uint32).view(np.float32)
