"""Products of a model's matrices with activations, each as the release's vector dot computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.kernels.matmul import matmul
from hifi_ref.models.model import Matrix, Model, ModelError

if TYPE_CHECKING:
    from jaxtyping import Float32, Int

# Sums that are added to in one go: in binary64 they fit the second-level cache.
TILE = 1 << 16


def linear(
    model: Model, name: str, x: Float32[np.ndarray, "tokens columns"], rows: int | None = None
) -> Float32[np.ndarray, "tokens rows"]:
    """``name``.weight times x, plus ``name``.bias where the model has one.

    Raises ModelError where the matrix is missing or has not so many rows, or x is not finite.
    """
    weight = _matrix_for(model, f"{name}.weight", x, 2, rows)
    model.observe(f"{name}.weight", x, None)
    out = product(weight, x)
    return out + model.vector(f"{name}.bias", out.shape[-1]) if model.has(f"{name}.bias") else out


def of_experts(
    model: Model, name: str, x: Float32[np.ndarray, "tokens slots columns"], chosen: Int[np.ndarray, "tokens slots"],
    rows: int | None = None,
) -> Float32[np.ndarray, "tokens slots rows"]:  # fmt: skip
    """Of ``name``.weight, matrix by matrix: for each token and slot the chosen expert's product. Raises as linear."""
    weight = _matrix_for(model, f"{name}.weight", x, 3, rows)
    if chosen.max() >= len(weight.blocks):
        raise ModelError(f"{model.name}: there is no expert {chosen.max()} in {name}.weight")
    model.observe(f"{name}.weight", x, chosen)
    x = np.broadcast_to(x, (*chosen.shape, x.shape[-1]))
    out = np.empty((*chosen.shape, weight.blocks.shape[1]), np.float32)
    for expert in np.unique(chosen):
        of_it = chosen == expert
        out[of_it] = product(weight._replace(blocks=weight.blocks[expert]), np.ascontiguousarray(x[of_it]))
    return out


def _matrix_for(model: Model, name: str, x: np.ndarray, axes: int, rows: int | None) -> Matrix:
    weight = model.matrix(name, x.shape[-1])
    if weight.blocks.ndim != axes or rows not in (None, weight.blocks.shape[-2]):
        shape = [*weight.blocks.shape[:-1], weight.columns]
        raise ModelError(f"{model.name}: {name} has the shape {shape}, which does not fit the model's other sizes")
    if not np.isfinite(x).all():
        token = int(np.argwhere(~np.isfinite(x))[0, 0])
        raise ModelError(f"{model.name}: what {name} is to be multiplied with is not finite at token {token}")
    return weight


def product(weight: Matrix, x: Float32[np.ndarray, "tokens columns"]) -> Float32[np.ndarray, "tokens rows"]:
    """One matrix. Activations are rounded or encoded to the format that the matrix's own is multiplied with."""
    f = FORMATS[weight.kind]
    if f.block_size > 1:
        return np.asarray(matmul(weight.kind, weight.blocks, x, "exact"))
    if f.dot_with and f.dot_with != "F32":
        x = decoded(Matrix(f.dot_with, np.asarray(api.encode(f.dot_with, x, lane="numpy")), weight.columns))
    return float_products(decoded(weight), x)


def decoded(weight: Matrix) -> Float32[np.ndarray, "rows columns"]:
    """The weights as floats: of plain floats they are views or conversions, of blocks what ``decode`` says."""
    if weight.kind == "F32":
        return np.ascontiguousarray(weight.blocks).view("<f4")
    if weight.kind == "F16":
        return np.ascontiguousarray(weight.blocks).view("<f2").astype(np.float32)
    return np.asarray(api.decode(weight.kind, weight.blocks, lane="numpy"))


def float_products(
    w: Float32[np.ndarray, "*m rows n"], x: Float32[np.ndarray, "*m tokens n"]
) -> Float32[np.ndarray, "*m tokens rows"]:
    """x times w transposed: products rounded to binary32, added first to last in binary64, the sum rounded once."""
    w, x = (np.ascontiguousarray(np.moveaxis(part, -1, 0)) for part in (w, x))
    n, *_, rows = w.shape
    out = np.empty((*x.shape[1:], rows), np.float32)
    step = max(1, TILE // max(1, out[..., 0].size))
    for first in range(0, rows, step):
        here = w[..., None, first : first + step]
        total = np.zeros(out[..., first : first + step].shape, np.float64)
        for k in range(n):
            total += x[k, ..., None] * here[k]
        out[..., first : first + step] = total
    return out
