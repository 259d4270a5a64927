"""A checkpoint's tensors as views of a memory map: cut, turned, reordered and put together before a number is read.

A part holds planes, arrays whose first axes number its rows; a plain tensor has one plane, its numbers. A converter
that reorders, splits or transposes makes other views of the planes, and one that stacks puts parts one after another.
Only `rows` reads, and only the rows that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from hifi_ref.model_files.safetensors_file import Entry
from hifi_ref.model_files.weights import Rows, Weights

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"), "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn), "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}  # fmt: skip
FLOATS = ("F32", "F16", "BF16", "F64")


@dataclass(frozen=True)
class Part:
    """``count`` rows, as the first axes of each of ``planes`` number them; ``values`` makes floats of their planes.

    ``stored`` makes bytes of them, where nothing was changed.
    """

    planes: tuple[np.ndarray, ...]
    count: int
    values: Callable[..., np.ndarray]
    stored: Callable[..., np.ndarray] | None = None


@dataclass(frozen=True)
class Tensor:
    """``shape`` is as in PyTorch, the row length last; ``names`` are those of the checkpoint that it is made of.

    ``unknown`` says why nobody can tell its numbers, of which there are none then.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str
    parts: tuple[Part, ...]
    doubt: str = ""
    close: float = 0.0
    unknown: str = ""


def unknown_tensor(names: tuple[str, ...], why: str) -> Tensor:
    """A tensor that a file may hold, and of which only this is known."""
    return Tensor(names, (), "", (), unknown=why)


def stored_tensor(entry: Entry) -> Tensor:
    """An entry of a safetensors file as it is."""
    dtype = DTYPES[entry.dtype]
    plane = np.frombuffer(entry.data, dtype, math.prod(entry.shape), entry.start) if math.prod(entry.shape) else None
    array = (np.zeros(0, dtype) if plane is None else plane).reshape(entry.shape)
    stored = _bytes if entry.dtype in FLOATS else None
    return Tensor((entry.name,), entry.shape, entry.dtype, (Part((array,), _count(entry.shape), _floats, stored),))


def made_tensor(name: str, x: np.ndarray, close: float = 0.0) -> Tensor:
    """Numbers that a converter computes from the configuration, f32."""
    return Tensor((name,), x.shape, "F32", (Part((x.astype("<f4"),), _count(x.shape), _floats, _bytes),), close=close)


def viewed(tensor: Tensor, view: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None) -> Tensor:
    """The tensor through a view of its numbers, whose rows then stand in the order of the view's first axes.

    ``shape`` is the result's where the view has other axes. Raises ValueError where the view has not as many numbers.
    """
    (part,) = tensor.parts
    planes = tuple(view(plane) for plane in part.planes)
    made = planes[0].shape if shape is None else shape
    if planes[0].size * math.prod(tensor.shape) != part.planes[0].size * math.prod(made):
        raise ValueError(made)
    return replace(tensor, shape=made, parts=(replace(part, planes=planes, count=_count(made)),))


def joined(tensors: Iterable[Tensor], shape: tuple[int, ...] | None = None) -> Tensor:
    """The rows of all, one after another: matrices below each other, or stacked where ``shape`` says so."""
    every = list(tensors)
    rows = sum(tensor.shape[0] for tensor in every)
    parts = tuple(part for tensor in every for part in tensor.parts)
    if len({tensor.kind for tensor in every}) > 1:
        parts = tuple(replace(part, stored=None) for part in parts)
    names = tuple(dict.fromkeys(name for tensor in every for name in tensor.names))
    kind = every[0].kind if len({tensor.kind for tensor in every}) == 1 else "F32"
    doubt = next((tensor.doubt for tensor in every if tensor.doubt), "")
    if shape is None and len(every[0].shape) == 1:
        # Vectors are small, and one row.
        numbers = np.concatenate([_read(tensor, slice(None))[0] for tensor in every])
        return Tensor(names, numbers.shape, kind, (Part((numbers,), 1, _floats),), doubt)
    return Tensor(names, shape or (rows, *every[0].shape[1:]), kind, parts, doubt)


def stacked(tensors: list[Tensor]) -> Tensor:
    """Matrices of one shape, of the experts of a layer say, as one tensor."""
    return joined(tensors, (len(tensors), *tensors[0].shape))


def beside(first: Tensor, second: Tensor) -> Tensor:
    """Two stacks of as many matrices as one, each matrix of the first above its like of the second."""
    count, rows, width = first.shape
    pairs = [matrix for i in range(count) for matrix in (_matrix(first, i), _matrix(second, i))]
    return joined(pairs, (count, rows + second.shape[1], width))


def _matrix(stack: Tensor, i: int) -> Tensor:
    if len(stack.parts) == stack.shape[0]:
        return replace(stack, shape=stack.shape[1:], parts=stack.parts[i : i + 1])
    return viewed(stack, lambda x: x[i])


def changed(tensor: Tensor, change: Callable[[np.ndarray], np.ndarray], close: float = 0.0) -> Tensor:
    """Every number changed, in the float that the converter computes in: binary16 stays, all others are widened."""

    def then(values: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        return lambda *planes: change(values(*planes))

    parts = tuple(replace(part, values=then(part.values), stored=None) for part in tensor.parts)
    return replace(tensor, parts=parts, close=max(close, tensor.close))


def weights_of(tensor: Tensor) -> Weights:
    """The tensor as a source of weights, whose shape has the row length first."""
    names = tensor.names[0] if len(tensor.names) == 1 else f"{tensor.names[0]} and {len(tensor.names) - 1} more"
    whole = all(part.stored is not None for part in tensor.parts) and len({p.stored for p in tensor.parts}) == 1

    def rows(which: Rows) -> np.ndarray:
        # What overflows, or is not finite, the comparison tells of.
        with np.errstate(all="ignore"):
            return _read(tensor, which).astype(np.float32, copy=False)

    def stored(which: Rows) -> np.ndarray:
        return _gather(tensor, which, lambda part: part.stored)  # type: ignore[return-value, arg-type]

    shape = tuple(reversed(tensor.shape)) or (1,)
    return Weights(names, shape, tensor.kind, rows, stored if whole else None, tensor.doubt, tensor.close)


def _read(tensor: Tensor, which: Rows) -> np.ndarray:
    return _gather(tensor, which, lambda part: part.values)


def _gather(tensor: Tensor, which: Rows, made: Callable[[Part], Callable[..., np.ndarray]]) -> np.ndarray:
    """What is made of these rows, from whichever parts they are in."""
    starts = np.cumsum([0, *(part.count for part in tensor.parts)])
    if len(tensor.parts) == 1:
        return _of_part(tensor.parts[0], which, made)
    numbers = np.arange(starts[-1])[which] if isinstance(which, slice) else np.asarray(which)
    holders = np.searchsorted(starts, numbers, side="right") - 1
    pieces = [(holders == i, i) for i in np.unique(holders).tolist()]
    got = [(mask, _of_part(tensor.parts[i], numbers[mask] - starts[i], made)) for mask, i in pieces]
    if len(got) == 1:
        return got[0][1]
    out = np.empty((len(numbers), got[0][1].shape[1]), np.result_type(*(x.dtype for _, x in got)))
    for mask, x in got:
        out[mask] = x
    return out


def _of_part(part: Part, which: Rows, made: Callable[[Part], Callable[..., np.ndarray]]) -> np.ndarray:
    planes = [_rows(plane, part.count, which) for plane in part.planes]
    return made(part)(*planes)


def _rows(plane: np.ndarray, count: int, which: Rows) -> np.ndarray:
    """[rows, what a row has of this plane], of the rows that the plane's first axes number."""
    if plane.flags.c_contiguous:
        return plane.reshape(count, -1)[which]
    axes, n = 0, 1
    while n != count and axes < plane.ndim:
        n *= plane.shape[axes]
        axes += 1
    if n != count or axes == 0:
        # A vector, or rows that no axes number: small, so copied.
        got = plane.reshape(count, -1)[which]
    elif axes == 1:
        got = plane[which]
    else:
        numbers = np.arange(count)[which] if isinstance(which, slice) else which
        got = plane[np.unravel_index(numbers, plane.shape[:axes])]
    return got.reshape(len(got), math.prod(got.shape[1:]))


def _count(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])


def _floats(x: np.ndarray) -> np.ndarray:
    return x if x.dtype == np.float16 else x.astype(np.float32)


def _bytes(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.uint8).reshape(len(x), -1)
