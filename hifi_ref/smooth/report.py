"""What was smoothed, as text and for programs."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.console import RenderableType

from hifi_ref.commands import provenance, terminal
from hifi_ref.models import setting
from hifi_ref.smooth.gain import Change, Range, mean_errors
from hifi_ref.smooth.products import TARGETS
from hifi_ref.smooth.scales import AUTO, Recipe

SCHEMA = "hifi_ref.smooth/1"


class Logits(NamedTuple):
    """Of the first chunk, the smoothed model's against the source's: the largest difference, and the root of the mean
    square of the source's; ``ids`` positions."""

    ids: int
    largest_change: float
    rms: float


class Smoothed(NamedTuple):
    """``widened``: the tensors that became F32 and what they were."""

    model: str
    out: str
    text: str
    mode: str
    context: int
    chunks: int
    recipe: Recipe
    groups: list[Change]
    widened: dict[str, str]
    logits: Logits


def to_text(of: Smoothed) -> str:
    """A table of the groups, their means, and what else changed."""
    head = ("channels of", "alpha", "inputs: largest / middle", "weights: largest / middle", *map(_title, TARGETS))
    rows = [_row(change) for change in of.groups]
    parts: list[RenderableType] = [terminal.table([head, *rows], right=range(1, len(head))), ""]
    for target in TARGETS:
        means = mean_errors(of.groups, target)
        if means is not None:
            before, after = means
            change = f", {100 * (after / before - 1):+.1f} %" if before else ""
            parts.append(f"mean error of {_title(target)} products: {_error(means)}{change}")
    parts.append(_logits(of.logits))
    if of.widened:
        parts.append(f"{len(of.widened)} tensors became F32, where their own type would have rounded them")
    parts += [basis(of), f"{of.out} is written"]
    return terminal.rendered(parts, terminal.has_colour())


def _title(target: str) -> str:
    return target.replace("w8a8", "W8A8")


def _row(of: Change) -> tuple[str, ...]:
    alpha = "-" if of.alpha is None else f"{of.alpha:g}"
    return of.name, alpha, _ranges(of.activations), _ranges(of.weights), *(_error(of.errors[t]) for t in TARGETS)


def _ranges(pair: tuple[Range, Range]) -> str:
    return " -> ".join("-" if each.over_median is None else f"{each.over_median:.1f}" for each in pair)


def _error(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else " -> ".join(f"{100 * each:.4f} %" for each in pair)


def _logits(of: Logits) -> str:
    change = f"at most {of.largest_change:.2g}, where their root mean square is {of.rms:.2g}"
    return f"logits of {of.ids} ids change by {change}"


def basis(of: Smoothed) -> str:
    """What the scales rest on, in a line."""
    recipe = of.recipe
    how = f"alpha {recipe.alpha}" if recipe.alpha != AUTO else f"alpha by the least error for {_title(recipe.target)}"
    powers = ", powers of two" if recipe.powers else ""
    where = f"{of.chunks} chunks of {of.context} ids of {of.text}"
    return f"{how}{powers}; {where}; {provenance.RELEASE} {setting(of.mode)}"


def to_json(of: Smoothed) -> dict[str, Any]:
    """The report ``SCHEMA``."""
    return {
        "schema": SCHEMA,
        "date": provenance.date(),
        "versions": provenance.versions(),
        "model": of.model,
        "out": of.out,
        "text": of.text,
        "mode": of.mode,
        "setting": setting(of.mode),
        "context": of.context,
        "chunks": of.chunks,
        "alpha": of.recipe.alpha,
        "target": of.recipe.target,
        "powers_of_two": of.recipe.powers,
        "logits": of.logits._asdict(),
        "widened": of.widened,
        "mean_errors": {target: _pair(mean_errors(of.groups, target)) for target in TARGETS},
        "groups": [_group(change) for change in of.groups],
    }


def _group(of: Change) -> dict[str, Any]:
    both = {"activations": of.activations, "weights": of.weights}
    ranges = {name: _pair((before._asdict(), after._asdict())) for name, (before, after) in both.items()}
    return {
        "name": of.name, "layer": of.layer, "takers": list(of.takers), "alpha": of.alpha, **ranges,
        "errors": {target: _pair(pair) for target, pair in of.errors.items()},
    }  # fmt: skip


def _pair(pair: tuple[Any, Any] | None) -> dict[str, Any] | None:
    return None if pair is None else dict(zip(("before", "after"), pair, strict=True))
