"""What was measured, as one page for a browser: what report.html shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hifi_ref.commands import pages, provenance
from hifi_ref.quality.grade import RULE, grade, verdict
from hifi_ref.quality.report import Quality, basis, figure_rows
from hifi_ref.quality.tensors import TensorError, bits_per_weight

TEMPLATE = Path(__file__).parent / "report.html"
WIDTH, HEIGHT, FLOOR = 720, 150, 136
# Positions drawn as bars: so many at most, each then the mean of several.
MOST_BARS = 120
KINDS = {"A": "good", "B": "good", "C": "warn", "D": "bad", "E": "bad", None: "none"}
# Relative errors from which a cell is tinted so.
TINTS = ((1e-1, "bad"), (1e-2, "warn"), (0.0, "good"))


class Bar(NamedTuple):
    """In pixels from the upper left, and what it says."""

    x: float
    y: float
    width: float
    height: float
    title: str


class Drawing(NamedTuple):
    """Bars that stand on ``floor``; ``marks``: places of the axis, and what stands there."""

    width: int
    height: int
    floor: int
    bars: list[Bar]
    marks: list[tuple[float, str]]


def to_html(of: Quality) -> str:
    """The whole page."""
    exact = of.figures["exact"]
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    return pages.render(
        TEMPLATE,
        title=f"{of.quantized} against {of.base}",
        facts=basis(of),
        made=f"{provenance.date()}, {versions}",
        kind=KINDS[grade(exact)],
        verdict=verdict(exact),
        rule=RULE,
        tiles=_tiles(of),
        figures=figure_rows(of.figures),
        positions=positions(of.by_position, of.first),
        grid=grid(of.tensors),
        tensors=sorted(of.tensors, key=lambda e: -e.share),
    )


def _tiles(of: Quality) -> list[tuple[str, str]]:
    exact = of.figures["exact"]
    return [
        (f"{bits_per_weight(of.tensors):.3f}", "bits a weight"),
        (f"{exact.divergence.value:.5f}", "nats of divergence"),
        (f"{exact.change.value:+.2f} %", "change of the perplexity"),
        (f"{100 * exact.same_top.value:.1f} %", "same first id"),
    ]


def positions(divergence: np.ndarray, first: int) -> Drawing:
    """The mean divergence by place in a chunk."""
    parts = np.array_split(divergence, min(MOST_BARS, len(divergence)))
    starts = first + np.cumsum([0, *map(len, parts[:-1])])
    means = [float(part.mean()) for part in parts]
    most, step = max(*means, 1e-30), WIDTH / len(parts)
    bars = []
    for i, (mean, start, part) in enumerate(zip(means, starts, parts, strict=True)):
        height = max(0.0, mean / most * (FLOOR - 12))
        where = f"{start}" if len(part) == 1 else f"{start} to {start + len(part) - 1}"
        x, y = round(i * step, 1), round(FLOOR - height, 1)
        bars.append(Bar(x, y, round(step * 0.85, 1), round(height, 1), f"position {where}: {mean:.6f}"))
    last = first + len(divergence) - 1
    marks = [(0.0, str(first)), (WIDTH / 2, str((first + last) // 2)), (WIDTH - 24.0, str(last))]
    return Drawing(WIDTH, HEIGHT, FLOOR, bars, marks)


def grid(tensors: list[TensorError]) -> dict[str, Any]:
    """Relative errors of what was quantized: a row a layer, a column a part; what lies in no layer is left out."""
    there = {(e.layer, e.part): e for e in tensors if e.layer is not None and e.type_name != e.base_type}
    parts = list(dict.fromkeys(part for _, part in there))
    layers = sorted({layer for layer, _ in there if layer is not None})
    return {
        "parts": parts,
        "rows": [(layer, [_cell(there.get((layer, part))) for part in parts]) for layer in layers],
    }


def _cell(error: TensorError | None) -> tuple[str, str, str]:
    """A tint, what is shown, and what more is said."""
    if error is None:
        return "none", "", ""
    tint = next(tint for least, tint in TINTS if error.relative >= least)
    more = f"{error.name}: {error.type_name}, {100 * error.share:.1f} % of all errors"
    return tint, f"{100 * error.relative:.2f} %", more
