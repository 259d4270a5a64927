"""What was measured, as text and for programs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from rich.console import RenderableType

from hifi_ref.commands import provenance, terminal
from hifi_ref.models import setting
from hifi_ref.models.divergence import Figures
from hifi_ref.quality.grade import RULE, grade, is_more_than_chance, verdict
from hifi_ref.quality.tensors import TensorError, bits_per_weight

SCHEMA = "hifi_ref.quality/1"
# Tensors that a terminal is shown.
SHOWN = 10
SHOWN_QUANTILES = ("median", "90%", "99%", "99.9%", "maximum")


class Quality(NamedTuple):
    """``figures`` by rule; ``by_position``: the mean divergence at each scored place of a chunk, from ``first`` on."""

    quantized: str
    base: str
    text: str
    mode: str
    context: int
    chunks: int
    figures: dict[str, Figures]
    by_position: np.ndarray
    first: int
    tensors: list[TensorError]


def basis(of: Quality) -> str:
    """What the figures rest on, in a line."""
    positions = of.figures["exact"].positions
    how = f"{provenance.RELEASE} {setting(of.mode)}"
    return f"{positions} positions of {of.chunks} chunks of {of.context} of {of.text}; {how}"


def to_text(of: Quality) -> str:
    """The verdict, the figures by both rules, the tensors with the largest shares of the error, and the rule."""
    largest = sorted(of.tensors, key=lambda e: -e.share)[:SHOWN]
    rows = [("tensor", "type", "error", "share"), *((e.name, e.type_name, *_percents(e)) for e in largest)]
    parts: list[RenderableType] = [
        verdict(of.figures["exact"]),
        "",
        terminal.table([("", "tool's rule", "exact"), *figure_rows(of.figures)], right=(1, 2)),
        "",
        f"{bits_per_weight(of.tensors):.3f} bits a weight; squared error by tensor, of its weights and of all errors:",
        terminal.table(rows, right=(2, 3)),
        "",
        basis(of),
        RULE,
    ]
    return terminal.rendered(parts, terminal.has_colour())


def _percents(e: TensorError) -> tuple[str, str]:
    return f"{100 * e.relative:.4f} %", f"{100 * e.share:.1f} %"


def figure_rows(figures: dict[str, Figures]) -> list[tuple[str, ...]]:
    """A figure's name, and its values by each rule."""
    columns = [_column(of) for of in figures.values()]
    return [(name, *(column[name] for column in columns)) for name in columns[0]]


def _column(of: Figures) -> dict[str, str]:
    shown = {
        "perplexity": f"{of.perplexity.perplexity:.4f} +/- {of.perplexity.uncertainty:.5f}",
        "of the base": f"{of.base.perplexity:.4f} +/- {of.base.uncertainty:.5f}",
        "change, %": f"{of.change.value:+.3f} +/- {of.change.uncertainty:.3f}",
        "divergence": f"{of.divergence.value:.6f} +/- {of.divergence.uncertainty:.6f}",
    }
    shown |= {name: f"{of.quantiles[name]:.6f}" for name in SHOWN_QUANTILES}
    same, rms = of.same_top, of.rms_change_of_p
    return shown | {
        "same first id, %": f"{100 * same.value:.3f} +/- {100 * same.uncertainty:.3f}",
        "RMS change of p, %": f"{100 * rms.value:.3f} +/- {100 * rms.uncertainty:.3f}",
    }


def to_json(of: Quality) -> dict[str, Any]:
    """The report ``SCHEMA``."""
    exact = of.figures["exact"]
    return {
        "schema": SCHEMA,
        "date": provenance.date(),
        "versions": provenance.versions(),
        "quantized": of.quantized,
        "base": of.base,
        "text": of.text,
        "mode": of.mode,
        "setting": setting(of.mode),
        "context": of.context,
        "chunks": of.chunks,
        "verdict": verdict(exact),
        "grade": grade(exact),
        "rule": RULE,
        "more_than_chance": is_more_than_chance(exact),
        "figures": {rule: _plain(figures) for rule, figures in of.figures.items()},
        "divergence_by_position": dict(
            zip(map(str, range(of.first, of.first + len(of.by_position))), of.by_position.tolist(), strict=True)
        ),
        "bits_per_weight": bits_per_weight(of.tensors),
        "tensors": [error._asdict() for error in of.tensors],
    }


def _plain(value: Any) -> Any:
    """Named tuples as objects."""
    if isinstance(value, tuple):
        return {name: _plain(part) for name, part in value._asdict().items()}  # type: ignore[attr-defined]
    return value
