"""Wrong answers to what numbers are: of another sign, of too many bits or too few, in another order, carried over."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref.formats import packing
from hifi_ref.formats.layout import Layout
from hifi_ref.known_bugs.derived.orders import orders
from hifi_ref.known_bugs.derived.wrong import NotApplicableError

# SIGNS AND WIDTHS


def twos_complement(value: Any, width: int) -> np.ndarray:
    """Numbers of ``width`` bits, of which the highest counts as a sign."""
    if value.dtype.kind not in "ui":
        raise NotApplicableError("not whole numbers")
    wide = value.astype(np.int64) & (2**width - 1)
    signed = wide - (wide >> (width - 1) << width)
    return signed.astype(np.int8 if width <= 8 else np.int32)


def centred(value: Any, width: int) -> np.ndarray:
    """Numbers of ``width`` bits less half of their range."""
    if value.dtype.kind not in "ui":
        raise NotApplicableError("not whole numbers")
    return value.astype(np.int16) - np.int16(2 ** (width - 1))


def shifted_signed(value: Any, by: Any) -> np.ndarray:
    """An arithmetic shift of what has no sign."""
    if value.dtype.kind != "u":
        raise NotApplicableError("it has a sign")
    signed = value.view(np.dtype(f"i{value.dtype.itemsize}"))
    return signed >> by.astype(signed.dtype)


def unmasked(packed: np.ndarray, width: int) -> np.ndarray:
    """spread, but the bits above a code stay."""
    return packed[..., None, :] >> np.arange(0, 8, width, dtype=np.uint8)[:, None]


def narrowed(codes: np.ndarray, width: int) -> np.ndarray:
    """Codes without their highest bit."""
    return codes & codes.dtype.type(2 ** (width - 1) - 1)


def widened(packed: np.ndarray, width: int) -> np.ndarray:
    """spread, but a code keeps the lowest bit of the next."""
    return unmasked(packed, width) & np.uint8(2 ** (width + 1) - 1)


def unwrapped(a: Any, b: Any) -> np.ndarray:
    """A product of bytes that does not wrap around."""
    if not all(isinstance(v, np.ndarray) and v.dtype == np.uint8 for v in (a, b)):
        raise NotApplicableError("not bytes")
    return a.astype(np.uint16) * b.astype(np.uint16)


# ORDERS


def in_order(result: Any, order: str, axes: int, part: int | None = None) -> Any:
    """A result, or one of its parts, read in another order within each block; ``axes`` are those of blocks."""
    if part is not None:
        return tuple(in_order(one, order, axes) if i == part else one for i, one in enumerate(result))
    flat = result.reshape(*result.shape[:axes], -1)
    return flat[..., orders(flat.shape[-1])[order].taken].reshape(result.shape)


def of_bytes_in_order(codes: np.ndarray, order: str, count: int, is_stream: bool) -> np.ndarray:
    """The ``count`` codes of each byte in another order: planes, or side by side in a stream."""
    taken = orders(count)[order].taken
    if not is_stream:
        return codes[..., taken, :]
    return codes.reshape(*codes.shape[:-1], -1, count)[..., taken].reshape(codes.shape)


def unpacked_in_order(layout: Layout, blocks: np.ndarray, field: str, order: str) -> tuple[np.ndarray, ...]:
    """A field's numbers in another order; behind its end lies what follows, at last the next block."""
    right: dict[str, Any] = dict(zip(layout.names, layout.unpack(blocks), strict=True))
    found = next(one for one in layout.fields if one.name == field)
    n = found.count
    taken = orders(n, beyond=True)[order].taken
    if taken.max() < n:
        right[field] = np.ascontiguousarray(right[field][..., taken])
        return tuple(right.values())
    size, at = found.size // n, layout.offset(field)
    places = (at + taken[:, None] * size + np.arange(size)).reshape(-1)
    rows = blocks.reshape(-1, layout.type_size)
    padded = np.pad(rows.reshape(-1), (0, int(places.max()) + 1))
    other = rows.copy()
    other[:, layout.span(field)] = padded[np.arange(len(rows))[:, None] * layout.type_size + places]
    right[field] = layout.unpack(other.reshape(blocks.shape))[layout.names.index(field)]
    return tuple(right.values())


def unpacked_of_blocks(layout: Layout, blocks: np.ndarray, which: str, *fields: str) -> tuple[np.ndarray, ...]:
    """Some fields are those of another block of the row: of the "first", of the first of each two, of the "other"."""
    axis = blocks.ndim - 2
    at = np.arange(blocks.shape[axis])
    taken = {"first": at * 0, "even": at & ~1, "other": np.minimum(at ^ 1, at[-1])}[which]
    other: Any = layout.unpack(np.take(blocks, taken, axis=axis))
    both: Any = zip(layout.names, layout.unpack(blocks), other, strict=True)
    return tuple(moved if name in fields else right for name, right, moved in both)


# CARRIED OVER


def carried(sums: Any, axis: int) -> np.ndarray:
    """Sums that are not set to 0 for the next block, or sub-block."""
    if not isinstance(sums, np.ndarray) or sums.ndim < 2 or sums.shape[axis] < 1 or sums.dtype.kind not in "if":
        raise NotApplicableError("not sums of blocks")
    return np.cumsum(sums, axis=axis, dtype=sums.dtype)


# CHOICES


def last_least(values: Any, axis: int) -> np.ndarray:
    """argmin, the last of equals."""
    return values.shape[axis] - 1 - np.flip(values, axis).argmin(axis=axis)


def last_most(values: Any, axis: int = -1) -> np.ndarray:
    """argmax, the last of equals."""
    return values.shape[axis] - 1 - np.flip(values, axis).argmax(axis=axis)


def widened_stream(packed: np.ndarray, width: int, word: int, more: int) -> np.ndarray:
    """spread_stream, but a code has ``more`` bits, or all that are left of its byte."""
    codes = packing.spread_stream(packed, 1, word)
    bits: Any = codes.reshape(*codes.shape[:-1], -1, 8)
    starts = np.arange(0, 8, width)
    widths = [min(width + more, 8 - start) if more else 8 - start for start in starts]
    found = [
        sum(bits[..., start + i].astype(np.uint32) << np.uint32(i) for i in range(count))
        for start, count in zip(starts, widths, strict=True)
    ]
    return np.stack(found, axis=-1).reshape(*codes.shape[:-1], -1)


def last_extreme(x: Any, axis: int = 0) -> np.ndarray:
    """scale_search.extreme, of equals the last."""
    largest = np.flip(abs(x), axis).argmax(axis=axis)
    at = np.expand_dims(x.shape[axis] - 1 - largest, axis)
    return np.take_along_axis(x, at, axis=axis).squeeze(axis) + np.float32(0)


def last_of_run(candidates: Any, first: Any) -> np.ndarray:
    """np.minimum.reduceat, but the largest of each run; what stands for none is larger than all."""
    last = np.maximum.reduceat(np.where(candidates == candidates.max(), -1, candidates), first)
    return np.where(last < 0, np.minimum.reduceat(candidates, first), last)


def always(condition: Any) -> np.ndarray:
    return np.ones_like(condition)


def divided(a: Any, d: Any) -> np.ndarray:
    """a / d, and 0 where d is 0."""
    return np.where(d != 0, np.divide(a, np.where(d != 0, d, np.float32(1)), dtype=np.float32), np.float32(0))


def divided_by_any(a: Any, d: Any) -> np.ndarray:
    return np.divide(a, d, dtype=np.float32)
