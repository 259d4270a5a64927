"""What a tensor loses in a format: the noise that its product has by it, relative to the product.

    error = sum w[j] * (x[i, j] - decoded[i, j])^2  /  sum w[j] * x[i, j]^2

over rows i and columns j, with the importance w of the columns, or 1 where there is none. w[j] is the mean square of
what column j is multiplied with, so that numerator and denominator are the mean squares of the noise in the product and
of the product itself, were the inputs not correlated. A share has no unit: it compares tensors of any size and scale,
and no tensor counts more for having large weights or large inputs, which the norm behind it divides out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hifi_ref import api
from hifi_ref.commands import kept, terminal
from hifi_ref.lanes import choose
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_model import Tensor
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.plan import Plan, share_of
from hifi_ref.quantize.source import Source

# Weights of a tensor that are measured: rows at even distances, of at most so many of its matrices.
SAMPLE, MATRICES = 1 << 16, 8
# A format whose encoder takes importance, as errors do whatever the format.
SEARCHED = "Q4_K"


def measured(
    plans: Mapping[str, Sequence[Plan]], source: Source, importance: Importance | None = None, state: str | None = None
) -> dict[tuple[str, str], float]:
    """(name of the tensor, format) -> error, of all plans of each tensor, whose rows are read once.

    ``state``: a file that keeps what is measured, also for later calls; errors of another source, importance or sample
    are not taken from it. Raises OSError, and InputError for weights that are not finite, or another's file.
    """
    columns = {name: columns_of(importance, own[0].tensor) for name, own in plans.items()}
    digest = _digest(columns, source)
    found = kept.load(state, digest) if state else {}
    todo = {name: [p for p in own if _key(p) not in found] for name, own in plans.items()}
    todo = {name: own for name, own in todo.items() if own}
    work = [(p.format, p.importance is not None, SAMPLE) for own in todo.values() for p in own if not p.is_copied]
    choose.announce(work)
    with terminal.progress(len(todo), "tensors", "errors") as advance:
        for name, own in todo.items():
            found |= {key: np.array(error) for key, error in _of_tensor(own, source, columns[name]).items()}
            if state:
                kept.save(state, digest, found)
            advance(1, name)
    return {(name, p.format): float(found[_key(p)]) for name, own in plans.items() for p in own}


def columns_of(importance: Importance | None, tensor: Tensor) -> np.ndarray | None:
    """The importance of a tensor's columns, f32[matrices, row length], whatever its format; None for none."""
    return share_of(importance, tensor, tensor.name, SEARCHED)


def _key(plan: Plan) -> str:
    return json.dumps([plan.tensor.name, plan.format, sorted(plan.context.items())])


def _digest(columns: Mapping[str, np.ndarray | None], source: Source) -> str:
    found = hashlib.sha256()
    for name, row in sorted(columns.items()):
        found.update(name.encode() + (b"" if row is None else row.tobytes()))
    return kept.digest_of(source.paths[:1], [SAMPLE, MATRICES], 0, f"errors {found.hexdigest()}")


def _of_tensor(plans: Sequence[Plan], source: Source, importance: np.ndarray | None) -> dict[str, float]:
    tensor = plans[0].tensor
    row, rows = tensor.shape[0], tensor.elements // tensor.shape[0]
    matrices = tensor.shape[2] if len(tensor.shape) > 2 else 1
    chosen = _even(matrices, MATRICES)
    numbers = _even(rows // matrices, max(1, SAMPLE // (row * len(chosen))))
    weights = source.find(tensor.name)
    assert weights is not None
    noise, power = dict.fromkeys(map(_key, plans), 0.0), 0.0
    for matrix in chosen:
        x = weights.rows(matrix * (rows // matrices) + numbers)
        if not np.isfinite(x).all():
            raise InputError(f"tensor {tensor.name} has weights that are not finite: it cannot be quantized")
        w = 1.0 if importance is None else importance[matrix if len(importance) > 1 else 0].astype(np.float64)
        power += float((w * np.square(x.astype(np.float64))).sum())
        for plan in plans:
            if not plan.is_copied:
                noise[_key(plan)] += _noise(plan, x, w, matrix)
    weights.forget()
    return {key: total / power if power else 0.0 for key, total in noise.items()}


def _noise(plan: Plan, x: np.ndarray, w: Any, matrix: int) -> float:
    own = None if plan.importance is None else plan.importance[matrix if len(plan.importance) > 1 else 0]
    decoded = np.asarray(api.decode(plan.format, api.encode(plan.format, x, own, **plan.context))).reshape(x.shape)
    return float((w * np.square(x.astype(np.float64) - decoded)).sum())


def _even(count: int, most: int) -> np.ndarray:
    """At most so many whole numbers below ``count``, at even distances."""
    most = min(count, most)
    return np.arange(most) * count // most
