"""By how much each channel is scaled: s[j] = max|X[j]|^alpha / max|W[j]|^(1 - alpha), alpha given or tried out.

X are the inputs of a group's matrices, W the columns that they meet. A channel that is never fed, or meets zeros alone,
stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.models.model import Model
from hifi_ref.smooth import products
from hifi_ref.smooth.fold import Scaling, fold, matrix, nothing
from hifi_ref.smooth.groups import Group
from hifi_ref.smooth.seen import Seen

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

AUTO = "auto"
# Where alpha is tried out: None leaves the group as it is, and is taken unless another is better.
TRIED = (None, *(step / 10 for step in range(11)))


class Recipe(NamedTuple):
    """``alpha``: from 0 to 1, or AUTO, tried out for ``target``; ``powers``: scales are rounded to powers of two."""

    alpha: float | str
    target: str = products.W8A8
    powers: bool = False


class Chosen(NamedTuple):
    """``alpha`` of a group, None where it stays as it is; ``scales`` float64[1 or experts, channels]; ``weights``: the
    largest magnitudes of what the channels meet, float64 of that shape, before they are scaled."""

    alpha: float | None
    scales: np.ndarray
    weights: np.ndarray


def scales(
    activations: Float64[np.ndarray, "m channels"], weights: Float64[np.ndarray, "m channels"], alpha: float,
    powers: bool,
) -> Float64[np.ndarray, "m channels"]:  # fmt: skip
    """Of largest magnitudes. With ``powers`` the nearest powers of two, by which floats are scaled without rounding."""
    both = (activations > 0) & (weights > 0)
    x, w = np.where(both, activations, 1.0), np.where(both, weights, 1.0)
    found = x**alpha / w ** (1 - alpha)
    return np.where(both, np.exp2(np.round(np.log2(found))) if powers else found, 1.0)


def choose(
    model: Model, groups: Sequence[Group], seen: dict[str, Seen], recipe: Recipe
) -> tuple[dict[str, Chosen], dict[str, Scaling]]:
    """By giver what was chosen, and what becomes of each tensor.

    Matrices that give come first: their rows are what the norms' channels meet.
    """
    scalings, found = nothing(model), {}
    for group in sorted(groups, key=lambda group: group.of_norm):
        found[group.giver] = of_group = _of_group(model, group, seen[group.giver], scalings, recipe)
        fold(scalings, group, of_group.scales)
    return found, scalings


def _of_group(model: Model, group: Group, seen: Seen, scalings: dict[str, Scaling], recipe: Recipe) -> Chosen:
    largest = largest_weights(model, group, scalings)
    activations = largest_activations(group, seen)
    if recipe.alpha != AUTO:
        alpha = float(recipe.alpha)
        return Chosen(alpha, scales(activations, largest, alpha, recipe.powers), largest)
    same = np.ones_like(largest)
    tried = [same if a is None else scales(activations, largest, a, recipe.powers) for a in TRIED]
    errors = group_errors(model, group, seen, scalings, tried, recipe.target)
    best = int(np.argmin(errors)) if errors else 0
    return Chosen(TRIED[best], tried[best], largest)


def largest_activations(group: Group, seen: Seen) -> Float64[np.ndarray, "m channels"]:
    """Where experts share a norm, of all of them."""
    columns = seen.largest.max(axis=0, keepdims=True) if group.of_norm else seen.largest
    return group.channels_of(columns).astype(np.float64)


def largest_weights(model: Model, group: Group, scalings: dict[str, Scaling]) -> Float64[np.ndarray, "m channels"]:
    """Of all matrices that take them but the router, their rows divided as ``scalings`` says."""
    of_each = []
    for name in group.takers:
        rows = scalings[name].rows
        columns = [np.abs(matrix(model, name, i) / rows[i][:, None]).max(axis=0) for i in range(len(rows))]
        of_each.append(group.channels_of(np.stack(columns)))
    if group.of_norm:
        return np.max([each.max(axis=0, keepdims=True) for each in of_each], axis=0)
    return np.max(of_each, axis=0)


def group_errors(
    model: Model, group: Group, seen: Seen, scalings: dict[str, Scaling], tried: Sequence[np.ndarray], target: str
) -> list[float]:
    """For each of the scales tried: squared errors of products, quantized as ``target`` says, by the squares of the
    products, the mean over the matrices; those that saw no row do not count. Nothing where none can be quantized so.

    Rows are quantized divided as ``scalings`` says; errors are those of the source's own products.
    """
    of_each = []
    for name in group.takers:
        total, errors = 0.0, np.zeros(len(tried))
        for i, x in enumerate(seen.rows):
            if not len(x) or not products.fits(target, x.shape[1]):
                continue
            w, rows = matrix(model, name, i), scalings[name].rows[i]
            true = x @ w.T
            total += _squares(true)
            columns = (group.columns_of(s[i % len(s)]) for s in tried)
            errors += [_squares(_scaled_product(target, w, x, rows, s) - true) for s in columns]
        if total:
            of_each.append(errors / total)
    return np.mean(of_each, axis=0).tolist() if of_each else []


def _scaled_product(
    target: str, w: Float32[np.ndarray, "rows columns"], x: Float32[np.ndarray, "n columns"],
    rows: Float64[np.ndarray, "rows"], columns: Float64[np.ndarray, "columns"],
) -> Float64[np.ndarray, "n rows"]:  # fmt: skip
    scaled = (w * columns / rows[:, None]).astype(np.float32)
    return products.product(target, scaled, (x / columns).astype(np.float32)) * rows


def _squares(x: np.ndarray) -> float:
    return float(np.vdot(x, x.astype(np.float64)))
