"""What becomes of each tensor: its rows divided by, its columns multiplied with, scales of channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ml_dtypes
import numpy as np

from hifi_ref.models import exact_mode
from hifi_ref.models.model import Model, ModelError
from hifi_ref.smooth.groups import Group

FLOATS = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
# Weights that are taken at a time.
PIECE = 1 << 22


class Scaling(NamedTuple):
    """Of one tensor, float64: ``rows`` [matrices, rows] divide, ``columns`` [matrices, columns] multiply.

    A vector is a row."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def is_nothing(self) -> bool:
        return bool((self.rows == 1).all() and (self.columns == 1).all())


def nothing(model: Model) -> dict[str, Scaling]:
    """Each tensor as it is."""
    found = {}
    for name, (_, tensor) in model.tensors.items():
        columns, rows, matrices = (*tensor.shape, 1, 1)[:3]
        found[name] = Scaling(np.ones((matrices, rows)), np.ones((matrices, columns)))
    return found


def fold(scalings: dict[str, Scaling], group: Group, scales: np.ndarray) -> None:
    """Divide the giver's channels by ``scales``, float64[1 or experts, channels]; multiply the takers' columns."""
    channels = slice(group.first, group.first + group.channels)
    bias = f"{group.name}.bias"
    if group.of_norm:
        scalings[group.giver].columns[:, channels] /= scales
    else:
        scalings[group.giver].rows[:, channels] *= scales
        if bias in scalings:
            scalings[bias].columns[:, channels] /= scales
    for name in (*group.takers, group.router):
        if name is not None:
            scalings[name].columns[...] *= group.columns_of(scales)


def matrix(model: Model, name: str, number: int = 0) -> np.ndarray:
    """The weights of one matrix of a tensor, float32[rows, columns]; a vector's are a row."""
    whole = model.matrix(name)
    blocks = whole.blocks.reshape(-1, *((1, *whole.blocks.shape)[-2:]))
    return np.asarray(exact_mode.decoded(whole._replace(blocks=blocks[number])))


def pieces(model: Model, name: str, scaling: Scaling) -> Iterator[np.ndarray]:
    """All weights of a tensor, scaled, float64[rows, columns] a few rows at a time.

    Raises ModelError where one is no number, or none any more.
    """
    whole = model.matrix(name)
    rows, columns = scaling.rows.reshape(-1), scaling.columns
    blocks = whole.blocks.reshape(len(rows), -1)
    of_matrix = len(rows) // len(columns)
    step = max(1, PIECE // columns.shape[1])
    for number in range(len(columns)):
        end = (number + 1) * of_matrix
        for first in range(number * of_matrix, end, step):
            here = slice(first, min(first + step, end))
            weights = np.asarray(exact_mode.decoded(whole._replace(blocks=blocks[here]))).astype(np.float64)
            if not np.isfinite(weights).all():
                raise ModelError(f"{model.name}: the tensor {name} has weights that are no numbers")
            weights = weights * columns[number] / rows[here, None]
            if not (np.abs(weights) <= np.finfo(np.float32).max).all():
                raise ModelError(f"{model.name}: scaled weights of {name} are beyond binary32")
            yield weights


def kind_of(model: Model, name: str, scaling: Scaling) -> str:
    """The type that a tensor has been in, where that holds each of its scaled weights; else F32. Raises ModelError."""
    kind = model.tensors[name][1].type_name
    fits = True
    with np.errstate(over="ignore"):
        for weights in pieces(model, name, scaling):
            fits = fits and (kind == "F32" or bool((weights.astype(FLOATS[kind]).astype(np.float64) == weights).all()))
    return kind if fits else "F32"
