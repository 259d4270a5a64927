"""Products of a model's matrices with activations: found, checked, observed, and multiplied as the mode does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.models.arithmetic import Matrix
from hifi_ref.models.model import Model, ModelError

if TYPE_CHECKING:
    from jaxtyping import Float32, Int

    from hifi_ref.exact import Array


def linear(
    model: Model, name: str, x: Float32[Array, "tokens columns"], rows: int | None = None
) -> Float32[Array, "tokens rows"]:
    """``name``.weight times x, plus ``name``.bias where the model has one.

    Raises ModelError where the matrix is missing or has not so many rows, or x is not finite.
    """
    weight = _matrix_for(model, f"{name}.weight", x, 2, rows)
    model.observe(f"{name}.weight", np.asarray(x), None)
    out = model.arithmetic.product(weight, x)
    return out + model.vector(f"{name}.bias", out.shape[-1]) if model.has(f"{name}.bias") else out


def of_experts(
    model: Model, name: str, x: Float32[Array, "tokens slots columns"], chosen: Int[np.ndarray, "tokens slots"],
    rows: int | None = None,
) -> Float32[np.ndarray, "tokens slots rows"]:  # fmt: skip
    """Of ``name``.weight, matrix by matrix: for each token and slot the chosen expert's product. Raises as linear."""
    weight = _matrix_for(model, f"{name}.weight", x, 3, rows)
    if chosen.max() >= len(weight.blocks):
        raise ModelError(f"{model.name}: there is no expert {chosen.max()} in {name}.weight")
    x = np.asarray(x)
    model.observe(f"{name}.weight", x, chosen)
    x = np.broadcast_to(x, (*chosen.shape, x.shape[-1]))
    out = np.empty((*chosen.shape, weight.blocks.shape[1]), np.float32)
    for expert in np.unique(chosen):
        of_it = chosen == expert
        matrix = weight._replace(blocks=weight.blocks[expert])
        out[of_it] = model.arithmetic.product(matrix, np.ascontiguousarray(x[of_it]))
    return out


def _matrix_for(model: Model, name: str, x: Any, axes: int, rows: int | None) -> Matrix:
    weight = model.matrix(name, x.shape[-1])
    if weight.blocks.ndim != axes or rows not in (None, weight.blocks.shape[-2]):
        shape = [*weight.blocks.shape[:-1], weight.columns]
        raise ModelError(f"{model.name}: {name} has the shape {shape}, which does not fit the model's other sizes")
    finite = np.isfinite(np.asarray(x))
    if not finite.all():
        token = int(np.argwhere(~finite)[0, 0])
        raise ModelError(f"{model.name}: what {name} is to be multiplied with is not finite at token {token}")
    return weight
