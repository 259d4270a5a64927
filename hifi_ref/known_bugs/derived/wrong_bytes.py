"""Wrong answers to what takes bytes apart and puts them together: planes of codes, and the fields of a block."""

from __future__ import annotations

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import packing
from hifi_ref.formats.layout import Layout


def planes_reversed(result: np.ndarray) -> np.ndarray:
    return result[..., ::-1, :]


def planes_interleaved(result: np.ndarray) -> np.ndarray:
    """Neighbours from one byte, not from neighbouring bytes."""
    return np.ascontiguousarray(result.swapaxes(-1, -2)).reshape(result.shape)


def run_turned(result: np.ndarray) -> np.ndarray:
    return np.roll(result, -1, axis=-1)


def first_plane(result: np.ndarray) -> np.ndarray:
    return np.broadcast_to(result[..., :1, :], result.shape)


def last_plane(result: np.ndarray) -> np.ndarray:
    return np.broadcast_to(result[..., -1:, :], result.shape)


def gathered_reversed(planes: np.ndarray, width: int) -> np.ndarray:
    return packing.gather(planes[..., ::-1, :], width)


def gathered_interleaved(planes: np.ndarray, width: int) -> np.ndarray:
    runs = planes.reshape(*planes.shape[:-2], planes.shape[-1], planes.shape[-2])
    return packing.gather(np.ascontiguousarray(runs.swapaxes(-1, -2)), width)


def joined_swapped(codes: np.ndarray) -> np.ndarray:
    packed = packing.join_nibbles(codes)
    return packed >> 4 | packed << 4


def joined_interleaved(codes: np.ndarray) -> np.ndarray:
    return packing.gather(np.stack([codes[..., 0::2], codes[..., 1::2]], axis=-2), 4)


def stream_reversed(result: np.ndarray) -> np.ndarray:
    return result[..., ::-1]


def reversed_stream_of(codes: np.ndarray, width: int) -> np.ndarray:
    parts = codes.reshape(*codes.shape[:-1], -1, 8 // width)[..., ::-1]
    return packing.gather_stream(parts.reshape(codes.shape), width)


def unpacked(layout: Layout, blocks: np.ndarray, field: str, shift: int) -> tuple[np.ndarray, ...]:
    """What unpack gives, but one field is read ``shift`` bytes further on, at the end from the next block."""
    right = dict(zip(layout.names, layout.unpack(blocks), strict=True))
    moved = layout.unpack(_moved(blocks, shift))
    right[field] = moved[layout.names.index(field)]
    return tuple(right.values())


def _moved(blocks: np.ndarray, shift: int) -> np.ndarray:
    """All bytes ``shift`` places earlier; zeros where there is nothing."""
    moved = np.roll(blocks.reshape(-1), -shift)
    moved[-shift if shift > 0 else 0 : None if shift > 0 else -shift] = 0
    return moved.reshape(blocks.shape)


def unpacked_unsigned(layout: Layout, blocks: np.ndarray, field: str) -> tuple[np.ndarray, ...]:
    right = dict(zip(layout.names, layout.unpack(blocks), strict=True))
    signed = right[field]
    right[field] = signed.astype(np.int16 if signed.dtype == np.int8 else np.int32) & (2 ** (8 * signed.itemsize) - 1)
    return tuple(right.values())


def unpacked_as_half(layout: Layout, blocks: np.ndarray, field: str) -> tuple[np.ndarray, ...]:
    """A binary32 field whose first two bytes are taken for a binary16."""
    right = dict(zip(layout.names, layout.unpack(blocks), strict=True))
    raw = np.ascontiguousarray(blocks[..., layout.offset(field) :][..., :2])
    right[field] = exact.widen_f16(raw.view(np.uint16)[..., 0])
    return tuple(right.values())


def unpacked_in_steps(layout: Layout, blocks: np.ndarray, more: int) -> tuple[np.ndarray, ...]:
    """Block i of a row is looked for i * more bytes too far on."""
    flat = blocks.reshape(-1, blocks.shape[-2] * blocks.shape[-1])
    size = blocks.shape[-1]
    at = np.arange(blocks.shape[-2])[:, None] * (size + more) + np.arange(size)
    padded = np.pad(flat, ((0, 0), (0, blocks.shape[-2])))
    return layout.unpack(padded[:, at].reshape(blocks.shape))


def unpacked_of_neighbour(layout: Layout, blocks: np.ndarray, field: str) -> tuple[np.ndarray, ...]:
    """What unpack gives, but one field is that of the block before."""
    right = dict(zip(layout.names, layout.unpack(blocks), strict=True))
    right[field] = np.roll(right[field], 1, axis=blocks.ndim - 2)
    return tuple(right.values())


def packed(layout: Layout, field: str, **values: np.ndarray) -> np.ndarray:
    """What pack gives, but the numbers of one field, or a single number's blocks, are turned by a place."""
    return layout.pack(**{**values, field: np.roll(values[field], 1, axis=-1)})
