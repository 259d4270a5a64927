"""The error of each tensor's weights against the base's, and how many bits a weight takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Gguf, Tensor
from hifi_ref.models.model import Model, open_model

# Weights that are decoded at a time.
PIECE = 1 << 22


class TensorError(NamedTuple):
    """``mse``: the mean square of the errors; ``relative``: their squares' sum by that of the weights; ``share``: by
    that of all tensors' errors. ``layer``: None outside of layers; ``part``: the name without it."""

    name: str
    layer: int | None
    part: str
    type_name: str
    base_type: str
    weights: int
    bits_per_weight: float
    mse: float
    relative: float
    share: float


def errors(quantized: str, base: str) -> list[TensorError]:
    """Of all tensors, in the order of the file. Raises OSError, or InputError where the models' tensors differ."""
    ours, theirs = open_model(quantized), open_model(base)
    names = ours.tensors.keys() ^ theirs.tensors.keys()
    if names:
        name = min(names)
        has = ours if name in ours.tensors else theirs
        raise InputError(f"{ours.name} and {theirs.name} are different models: {has.name} alone has the tensor {name}")
    found = [_error(name, ours, theirs) for name in ours.tensors]
    total = sum(error.mse * error.weights for error in found)
    return [e._replace(share=e.mse * e.weights / total if total else 0.0) for e in found]


def bits_per_weight(found: list[TensorError]) -> float:
    """Of all tensors together."""
    return sum(e.bits_per_weight * e.weights for e in found) / sum(e.weights for e in found)


def _error(name: str, ours: Model, theirs: Model) -> TensorError:
    (gguf, tensor), (base_gguf, base) = ours.tensors[name], theirs.tensors[name]
    if tensor.shape != base.shape:
        shapes = f"{list(tensor.shape)} in {ours.name} and {list(base.shape)} in {theirs.name}"
        raise InputError(f"these are different models: the tensor {name} has the shape {shapes}")
    square = power = 0.0
    for x, y in zip(_pieces(gguf, tensor, ours.name), _pieces(base_gguf, base, theirs.name), strict=True):
        square += float(np.square(x.astype(np.float64) - y).sum())
        power += float(np.square(y.astype(np.float64)).sum())
    found = re.match(r"blk\.(\d+)\.(.*)", name)
    layer, part = (int(found[1]), found[2]) if found else (None, name)
    bits = 8 * gguf.blocks(tensor).size / tensor.elements
    relative = square / power if power else 0.0
    return TensorError(
        name, layer, part.removesuffix(".weight"), tensor.type_name, base.type_name, tensor.elements, bits,
        square / tensor.elements, relative, 0.0,
    )  # fmt: skip


def _pieces(gguf: Gguf, tensor: Tensor, model: str) -> Iterator[np.ndarray]:
    """float32[n], row after row. Raises InputError for what cannot be decoded, or is not finite."""
    if tensor.type_name not in FORMATS or gguf.order != "<":
        what = tensor.type_name if gguf.order == "<" else "big-endian"
        raise InputError(f"{model}: the tensor {tensor.name} is {what}, which cannot be decoded")
    row = tensor.shape[0] if tensor.shape else 1
    rows = gguf.blocks(tensor).reshape(tensor.elements // row, -1)
    step = max(1, PIECE // row)
    for first in range(0, len(rows), step):
        values = np.asarray(api.decode(tensor.type_name, np.ascontiguousarray(rows[first : first + step])))
        if not np.isfinite(values).all():
            raise InputError(f"{model}: the tensor {tensor.name} holds weights that are not finite")
        yield values.reshape(-1)
