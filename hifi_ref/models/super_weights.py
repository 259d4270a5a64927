"""Super weights: single weights without which a language model is lost.

Such a weight lies in a matrix `ffn_down`. In one pass over any text its input has a spike in one column, its output a
spike in one row, and the product of that input and the weight where they meet is most of that output:

    output[token, row]  ~  input[token, column] * weight[row, column]

The paper finds spikes by eye. Here a spike is at least SPIKE times the median of the layer's outputs, by size, as
massive activations are defined; the one product is at least SHARE of it; the weight is at least LARGE times as large as
its matrix's root mean square; and what it adds is taken away before the next is looked for.

The coarse rule, which asks for no pass, takes the 0.01 % largest weights of every matrix.

Reference: Yu and others, The Super Weight in Large Language Models (2024), section 3; Sun and others, Massive
Activations in Large Language Models (2024); llm-quantize (c01ab77), specs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref.mixtures.kept import is_quantized
from hifi_ref.models.model import Model, ModelError, open_model
from hifi_ref.models.run import observed

if TYPE_CHECKING:
    from jaxtyping import Float32, Int

DOWN = re.compile(r"blk\.\d+\.ffn_down(_exps)?\.weight")
SPIKE, SHARE, LARGE = 1000.0, 0.5, 4.0
# Any text shows them.
TEXT = b"It was late when the train came to the last station, and nobody was there."
# A weight is kept where it is decoded to within this of itself.
KEPT = 0.01
# More of one matrix would be no single weights.
MOST = 16
# Of all weights of a matrix, by the coarse rule.
LARGEST = 1e-4


class SuperWeight(NamedTuple):
    """Where a weight lies, ``matrix`` being the expert's number, 0 where there is one; and what made it one.

    ``input``: what it is multiplied with where its output is largest; ``output``: that output; ``times``: by the median
    of the layer's outputs; ``share``: of the product in it. Of the coarse rule these four are None.
    """

    tensor: str
    matrix: int
    row: int
    column: int
    value: float
    input: float | None = None
    output: float | None = None
    times: float | None = None
    share: float | None = None


def by_spikes(path: str | os.PathLike[str], ids: Any, mode: str = "fast") -> list[SuperWeight]:
    """Those that show in one pass over these ids, layer by layer. Raises as `logits` does."""
    found: list[SuperWeight] = []
    model = open_model(path)

    def look(name: str, x: np.ndarray, chosen: np.ndarray | None) -> None:
        if DOWN.fullmatch(name):
            found.extend(_of_matrices(model, name, x, chosen))

    observed(path, ids, look, mode)
    return found


def largest(path: str | os.PathLike[str]) -> list[SuperWeight]:
    """The 0.01 % largest of every matrix that is quantized, at least one. Raises OSError, InputError."""
    model, found = open_model(path), []
    for name, (_, tensor) in model.tensors.items():
        if not is_quantized(name, tensor.shape, model.architecture):
            continue
        count = len(model.matrix(name).blocks.reshape(-1, *model.matrix(name).blocks.shape[-2:]))
        for matrix in range(count):
            w = _decoded(model, name, matrix)
            most = max(1, round(LARGEST * w.size))
            at = np.sort(np.argpartition(-np.abs(w.reshape(-1)), most - 1)[:most])
            rows, columns = np.divmod(at, w.shape[1])
            found += [
                SuperWeight(name, matrix, int(r), int(c), float(w[r, c])) for r, c in zip(rows, columns, strict=True)
            ]
    return found


def changes(path: str | os.PathLike[str], weights: Sequence[SuperWeight]) -> list[float]:
    """How much each weight is changed in another file of the model, relative to itself.

    Raises OSError, or InputError where that file has no such place.
    """
    model, found, matrices = open_model(path), [], dict[tuple[str, int], np.ndarray]()
    for weight in weights:
        key = weight.tensor, weight.matrix
        if key not in matrices:
            shape = model.tensors[weight.tensor][1].shape if weight.tensor in model.tensors else ()
            if weight.matrix >= (*shape[2:], 1)[0] or len(shape) < 2:
                raise ModelError(f"{model.name} is another model: it has no matrix {weight.tensor}")
            matrices = {key: _decoded(model, *key)}
        own = matrices[key]
        if weight.row >= own.shape[0] or weight.column >= own.shape[1]:
            raise ModelError(f"{model.name} is another model: {weight.tensor} has other sizes")
        now = float(own[weight.row, weight.column])
        found.append(abs(now - weight.value) / abs(weight.value) if weight.value else abs(now))
    return found


def _decoded(model: Model, name: str, matrix: int) -> Float32[np.ndarray, "rows columns"]:
    whole = model.matrix(name)
    blocks = whole.blocks.reshape(-1, *whole.blocks.shape[-2:])[matrix]
    return np.asarray(model.arithmetic.decoded(whole._replace(blocks=blocks)))


def _of_matrices(
    model: Model, name: str, x: Float32[np.ndarray, "tokens columns"], chosen: Int[np.ndarray, "tokens slots"] | None
) -> list[SuperWeight]:
    if chosen is None:
        return _of_matrix(name, 0, x, _decoded(model, name, 0))
    x = np.broadcast_to(x, (*chosen.shape, x.shape[-1]))
    of_each = ((int(expert), x[chosen == expert]) for expert in np.unique(chosen))
    return [
        weight for expert, own in of_each for weight in _of_matrix(name, expert, own, _decoded(model, name, expert))
    ]


def _of_matrix(
    name: str, matrix: int, x: Float32[np.ndarray, "tokens columns"], w: Float32[np.ndarray, "rows columns"]
) -> list[SuperWeight]:
    if not np.isfinite(w).all():
        raise ModelError(f"{name} holds weights that are not finite")
    out = x @ w.T
    usual, size = float(np.median(np.abs(out))), float(np.sqrt(np.square(w).mean()))
    found: list[SuperWeight] = []
    while usual and len(found) < MOST:
        token, row = np.unravel_index(np.argmax(np.abs(out)), out.shape)
        products = x[token] * w[row]
        column = int(np.argmax(np.abs(products)))
        peak, value, whole = (float(v) for v in (x[token, column], w[row, column], out[token, row]))
        times, share = abs(whole) / usual, float(products[column]) / whole if whole else 0.0
        if times < SPIKE or share < SHARE or abs(value) < LARGE * size:
            break
        found.append(SuperWeight(name, matrix, int(row), column, value, peak, whole, times, share))
        out[:, row] -= x[:, column] * w[row, column]
    return found
