"""What a converter does to tensors, one step each: the names that it is done to, the names that come of it, and how.

Each maker is given a tensor, the model and the number of the layer, and answers one tensor for each name. It only
looks: the views that it answers are read later, a few rows at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hifi_ref.model_files.hugging_face.model import Model
from hifi_ref.model_files.hugging_face.tensors import Part, Tensor, changed, joined, unknown_tensor, viewed
from hifi_ref.model_files.weights import NotKnown

Maker = Callable[[Tensor, Model, int], list[Tensor]]
SAME = (r"\g<0>",)
# The relative error that libraries' exp and pow differ by at most.
LIBRARY = 1e-6


class Step(NamedTuple):
    """``pattern`` is matched with the whole name in the checkpoint; ``names`` may refer to its groups.

    Without ``make`` the tensor only gets another name, and without names it is left out. ``when`` says of which models.
    """

    pattern: str
    names: tuple[str, ...] = SAME
    make: Maker | None = None
    when: Callable[[Model, int], bool] = lambda model, layer: True


def run(steps: Sequence[Step], name: str, tensor: Tensor, model: Model) -> list[tuple[str, Tensor]]:
    """The names and tensors that a tensor becomes, each step being done to what the ones before it made."""
    made = [(name, tensor)]
    for step in steps:
        made = [result for item in made for result in _step(step, *item, model)]
    return made


def _step(step: Step, name: str, tensor: Tensor, model: Model) -> list[tuple[str, Tensor]]:
    match = re.fullmatch(step.pattern, name)
    layer = next((int(part) for part in name.split(".") if part.isdecimal()), -1)
    if match is None or not step.when(model, layer):
        return [(name, tensor)]
    names = [match.expand(each) for each in step.names]
    if step.make is None or tensor.unknown or not names:
        return [(each, tensor) for each in names]
    try:
        made = step.make(tensor, model, layer)
    except NotKnown as error:
        made = [unknown_tensor(tensor.names, str(error))] * len(names)
    except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError):
        why = f"the shape {list(tensor.shape)} of {tensor.names[0]} is none that the converter takes for {model.arch}"
        made = [unknown_tensor(tensor.names, why)] * len(names)
    return list(zip(names, made, strict=True))


def tied(model: Model, layer: int) -> bool:
    """Whether the output shares the token embeddings."""
    return bool(model.config.get("tie_word_embeddings"))


def extra_layer(model: Model, layer: int) -> bool:
    """Whether the layer stands behind the model's own, as one that predicts further tokens does."""
    return layer >= model.layers


def interleaved(heads: Callable[[Model], int]) -> Maker:
    """Rows of rotary halves laid side by side: of each head 0 n 1 n+1 ... from 0 1 ... n n+1 ..."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        return [interleaved_rows(tensor, heads(model))]

    return make


def interleaved_rows(tensor: Tensor, heads: int) -> Tensor:
    """As `interleaved`, of so many heads."""
    rows, *rest = tensor.shape
    return viewed(tensor, lambda x: x.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2), tensor.shape)


def rows_from(*sizes: Callable[[Tensor, Model], int]) -> Maker:
    """The tensor cut between rows into matrices of so many rows each."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        counts = [size(tensor, model) for size in sizes]
        if sum(counts) != tensor.shape[-2 if len(tensor.shape) > 1 else -1]:
            raise ValueError(counts)
        return cut(tensor, counts)

    return make


def cut(tensor: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Matrices of so many rows each; of a tensor of several matrices, from each of them."""
    starts = np.cumsum([0, *counts]).tolist()
    axis = max(0, len(tensor.shape) - 2)
    before = (slice(None),) * axis
    return [between(tensor, a, b, before) for a, b in zip(starts, starts[1:], strict=False)]


def between(tensor: Tensor, start: int, stop: int, before: tuple[slice, ...] = ()) -> Tensor:
    """What lies between two places of one axis, that after those of ``before``."""
    return viewed(tensor, lambda x: x[(*before, slice(start, stop))])


def halves(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """The first half of the rows of each matrix, and the second."""
    rows = tensor.shape[-2]
    if rows % 2:
        raise ValueError(rows)
    return cut(tensor, [rows // 2, rows // 2])


def turned(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """Each matrix transposed."""
    return [viewed(tensor, lambda x: x.swapaxes(-1, -2))]


def turned_halves(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    return halves(turned(tensor, model, layer)[0], model, layer)


def alternate(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """The even rows of each matrix, and the odd ones; of vectors that stand below each other, the numbers."""
    if len(tensor.shape) == 2:
        return [viewed(tensor, lambda x: x[:, ::2]), viewed(tensor, lambda x: x[:, 1::2])]
    experts, rows, length = tensor.shape
    if rows % 2:
        raise ValueError(rows)
    made = (experts, rows // 2, length)
    return [viewed(tensor, lambda x: x[:, ::2], made), viewed(tensor, lambda x: x[:, 1::2], made)]


def turned_alternate(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    return alternate(turned(tensor, model, layer)[0], model, layer)


def regrouped(*groups: slice) -> Callable[[Tensor, int, int], list[Tensor]]:
    """A tensor whose rows are ``heads`` groups of ``each`` pieces, cut into the pieces that each slice takes."""

    def make(tensor: Tensor, heads: int, each: int) -> list[Tensor]:
        rows, *rest = tensor.shape
        shaped = (heads, each, rows // heads // each, *rest)
        counts = [len(range(each)[group]) * rows // each for group in groups]

        def pieces(group: slice, count: int) -> Tensor:
            return viewed(tensor, lambda x: x.reshape(shaped)[:, group], (count, *rest))

        return [pieces(group, count) for group, count in zip(groups, counts, strict=True)]

    return make


def raised(amount: float) -> Maker:
    """A number added to every weight, which PyTorch rounds to their float first."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        return [changed(tensor, lambda x: x + x.dtype.type(amount))]

    return make


def times(tensor: Tensor, *factors: float) -> Tensor:
    """Every weight times each of these, one after another. PyTorch multiplies binary16 in binary32."""
    for factor in factors:
        tensor = _times(tensor, np.float32(factor))
    return tensor


def _times(tensor: Tensor, factor: np.float32) -> Tensor:
    return changed(tensor, lambda x: (x.astype(np.float32) * factor).astype(x.dtype))


def minus_exp(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """A = -exp(A_log) of state space models."""
    return [changed(tensor, lambda x: -np.exp(x), LIBRARY)]


def squeezed(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """The axes of one element dropped."""
    return [viewed(tensor, np.squeeze)]


def upright(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """A vector as a matrix of rows of one number."""
    return [viewed(tensor, lambda x: x.reshape(-1, 1))]


def in_groups(*keys: str) -> Maker:
    """A vector as a matrix of so many rows as config.json says under the first of these keys."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        return [viewed(tensor, lambda x: x.reshape(model.number(*keys), -1))]

    return make


def as_the_file(gguf_name: str) -> Maker:
    """So many rows as the file has, whose vocabulary the converter takes from the tokenizer."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        return [viewed(tensor, lambda x: x[: model.rows_in_file.get(gguf_name, len(x))])]

    return make


def padded(key: str) -> Maker:
    """Rows of zeros added up to the number that config.json says."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        rows, length = tensor.shape
        more = (model.find(key) or rows) - rows
        if more <= 0:
            return [tensor]
        part = tensor.parts[0]
        zeros = tuple(np.broadcast_to(np.zeros(1, plane.dtype), (more, length)) for plane in part.planes)
        return [
            joined(
                [tensor, replace(tensor, shape=(more, length), parts=(Part(zeros, more, part.values, part.stored),))]
            )
        ]

    return make


def doubted(why: str) -> Maker:
    """A tensor that the converter changes in a way that cannot be followed bit for bit."""
    return lambda tensor, model, layer: [replace(tensor, doubt=why)]
