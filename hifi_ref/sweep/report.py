"""What a sweep found, as text, as JSON's types, which report.schema.json describes, and as comma-separated values."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from hifi_ref.commands import provenance, terminal
from hifi_ref.sweep.configurations import Configuration
from hifi_ref.sweep.frontier import Addition, Gap
from hifi_ref.sweep.losses import LOSSES
from hifi_ref.sweep.result import Result

SCHEMA = "hifi_ref.sweep/1"
SCHEMA_FILE = Path(__file__).parent / "report.schema.json"
# Steps of bits at which the text shows the frontier; JSON has all of it.
STEP = 0.25


def to_text(result: Result) -> str:
    """The frontier, ggml's formats above it, and the verdicts."""
    return terminal.rendered([
        f"{len(result.lines)} configurations on {result.weights} weights of {result.source}; loss: {result.loss}",
        *(f"left out: {name}: {why}" for name, why in result.left_out.items()),
        "", "the frontier, at every quarter of a bit", "", terminal.table(_frontier(result), right=(0, 1)),
        "", "ggml's formats: loss over the least at their bits, and bits that the same loss needs less", "",
        terminal.table(_gaps(result), right=(1, 2, 3, 5)),
        "", addition_sentence(result.addition), "",
        *(f"{_judged(v.holds)}: {v.claim}: {v.sentence}" for v in result.verdicts),
        *(_distances(result) if result.distances else ()),
    ], terminal.has_colour())  # fmt: skip


def _distances(result: Result) -> list[Any]:
    head = ["format", "encoder", "loss", "least", "times", "given"]
    rows = [
        [d.format, d.encoder, _shown(d.loss), _shown(d.least), f"{d.ratio:.3f}", d.given or "nothing"]
        for d in result.distances
    ]
    return [
        "",
        "encoders and the least loss that a format's blocks can hold",
        "",
        terminal.table([head, *rows], (2, 3, 4)),
    ]


def _frontier(result: Result) -> list[list[str]]:
    last: dict[float, Any] = {}
    for point in result.frontier:
        last[-(-point.bits // STEP)] = point
    rows = [[f"{p.bits:.4g}", _shown(p.loss), p.configuration.name] for p in last.values()]
    return [["bits", result.loss, "configuration"], *rows]


def _gaps(result: Result) -> list[list[str]]:
    head = ["format", "bits", result.loss, "times", "least at its bits", "saved", "fewest bits at its loss"]
    return [head, *(gap_row(gap) for gap in result.gaps)]


def gap_row(gap: Gap) -> list[str]:
    """The cells of one of ggml's formats."""
    on = gap.ratio == 1
    return [
        gap.point.configuration.name, f"{gap.point.bits:.5g}", _shown(gap.point.loss), f"{gap.ratio:.3f}",
        "itself" if on else gap.lowest.configuration.name, f"{gap.bits_saved:.3f}",
        "itself" if on else gap.fewest.configuration.name,
    ]  # fmt: skip


def addition_sentence(addition: Addition | None) -> str:
    """What ggml would gain most by."""
    if addition is None:
        return "nothing that was measured lies below the line through ggml's formats"
    point = addition.point
    return (
        f"what ggml lacks most: {point.configuration.name}, {point.bits:.4g} bits, loss {_shown(point.loss)}: a mixture"
        f" of {addition.below.configuration.name} and {addition.above.configuration.name} needs"
        f" {addition.bits_saved:.3f} bits more for it"
    )


def _shown(loss: float) -> str:
    return f"{loss:.5g}"


def _judged(holds: bool | None) -> str:
    return "not judged" if holds is None else "holds" if holds else "does not hold"


def to_json(result: Result) -> dict[str, Any]:
    """The report as JSON's types; the same for the same weights and versions."""
    return {
        "schema": SCHEMA,
        "versions": provenance.versions(),
        "source": result.source,
        "weights": result.weights,
        "matrices": result.matrices,
        "loss": result.loss,
        "configurations": [
            {
                "name": line.configuration.name, "family": line.configuration.family,
                "bits": line.configuration.bits, "scheme": line.configuration.scheme,
                "parameters": _parameters(line.configuration), "losses": line.losses,
            }
            for line in result.lines
        ],
        "left_out": result.left_out,
        "frontier": [point.configuration.name for point in result.frontier],
        "ggml": [
            {
                "name": gap.point.configuration.name, "ratio": gap.ratio, "lowest": gap.lowest.configuration.name,
                "bits_saved": gap.bits_saved, "fewest": gap.fewest.configuration.name,
            }
            for gap in result.gaps
        ],
        "addition": _addition(result.addition),
        "verdicts": [verdict._asdict() for verdict in result.verdicts],
        "optimum": [distance._asdict() | {"ratio": distance.ratio} for distance in result.distances],
    }  # fmt: skip


def _parameters(configuration: Configuration) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in configuration.parameters}


def _addition(addition: Addition | None) -> dict[str, Any] | None:
    if addition is None:
        return None
    return {
        "name": addition.point.configuration.name, "bits_saved": addition.bits_saved,
        "below": addition.below.configuration.name, "above": addition.above.configuration.name,
    }  # fmt: skip


def to_csv(result: Result) -> str:
    """A line a configuration; a loss that is not known is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", "family", "bits", *LOSSES])
    for line in result.lines:
        c = line.configuration
        writer.writerow([c.name, c.family, c.bits, *(line.losses[name] for name in LOSSES)])
    return out.getvalue()
