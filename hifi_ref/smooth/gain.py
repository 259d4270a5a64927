"""What smoothing changes: how far channels stand out, and the errors of quantized products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hifi_ref.commands import terminal
from hifi_ref.models.model import Model
from hifi_ref.smooth import products
from hifi_ref.smooth.fold import Scaling, nothing
from hifi_ref.smooth.groups import Group
from hifi_ref.smooth.scales import Chosen, group_errors, largest_activations
from hifi_ref.smooth.seen import Seen


class Range(NamedTuple):
    """Of the channels' largest magnitudes: the largest, and how many times that of the middle channel it is; None
    where the middle one is 0."""

    largest: float
    over_median: float | None


class Change(NamedTuple):
    """Of a group, each pair before and after. ``alpha``: None where it stays as it is. ``errors``: by target, squared
    errors of products by the squares of the products; None where the matrices cannot be quantized so."""

    name: str
    layer: int | None
    takers: tuple[str, ...]
    alpha: float | None
    activations: tuple[Range, Range]
    weights: tuple[Range, Range]
    errors: dict[str, tuple[float, float] | None]


def changes(
    model: Model, groups: Sequence[Group], seen: dict[str, Seen], chosen: dict[str, Chosen],
    scalings: dict[str, Scaling],
) -> list[Change]:  # fmt: skip
    """Of each group, in the order of the model. Products are of the rows of the text that were kept."""
    before, found = nothing(model), []
    with terminal.progress(len(groups), "groups", "products") as advance:
        for group in groups:
            one = chosen[group.giver]
            x = largest_activations(group, seen[group.giver])
            errors = {t: _errors(model, group, seen[group.giver], (before, scalings), one, t) for t in products.TARGETS}
            found.append(
                Change(
                    group.name,
                    group.layer,
                    group.takers,
                    one.alpha,
                    (_range(x), _range(x / one.scales)),
                    (_range(one.weights), _range(one.weights * one.scales)),
                    errors,
                )  # fmt: skip
            )
            advance(1, group.name)
    return found


def mean_errors(found: Sequence[Change], target: str) -> tuple[float, float] | None:
    """Over all groups that can be quantized so, before and after."""
    pairs = [pair for change in found if (pair := change.errors[target]) is not None]
    if not pairs:
        return None
    before, after = np.mean(pairs, axis=0)
    return float(before), float(after)


def _errors(
    model: Model, group: Group, seen: Seen, scalings: tuple[dict[str, Scaling], dict[str, Scaling]], one: Chosen,
    target: str,
) -> tuple[float, float] | None:  # fmt: skip
    same = np.ones_like(one.scales)
    before = group_errors(model, group, seen, scalings[0], [same], target)
    after = group_errors(model, group, seen, scalings[1], [one.scales], target)
    return (before[0], after[0]) if before and after else None


def _range(largest: np.ndarray) -> Range:
    middle = float(np.median(largest))
    return Range(float(largest.max()), float(largest.max()) / middle if middle else None)
