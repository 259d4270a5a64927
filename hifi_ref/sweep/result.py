"""What a sweep found: every configuration's losses, the frontier by one of them, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hifi_ref.sweep import claims, frontier
from hifi_ref.sweep.claims import Measurements, Verdict
from hifi_ref.sweep.configurations import Configuration
from hifi_ref.sweep.frontier import Addition, Gap, Point
from hifi_ref.sweep.losses import losses
from hifi_ref.sweep.measure import Measured
from hifi_ref.sweep.optimum.encoders import Distance


class Line(NamedTuple):
    """A configuration with its losses by name; None for a loss that is not known."""

    configuration: Configuration
    losses: dict[str, float | None]


class Result(NamedTuple):
    """``loss``: the name of the one that orders; ``points`` have it, and are what the rest follows from. ``distances``
    of encoders to the least loss are there where they were asked for."""

    source: str
    weights: int
    matrices: int
    loss: str
    lines: list[Line]
    left_out: dict[str, str]
    points: list[Point]
    frontier: list[Point]
    gaps: list[Gap]
    addition: Addition | None
    measurements: Measurements
    verdicts: list[Verdict]
    distances: Sequence[Distance] = ()


def result(
    source: str, weights: int, matrices: int, loss: str, configurations: Sequence[Configuration], measured: Measured
) -> Result:
    """All that follows from the sums. Losses are rounded to seven digits, which all machines share."""
    lines = [
        Line(c, {name: None if value is None else float(f"{value:.7g}") for name, value in losses(sums).items()})
        for c, sums in zip(configurations, measured.sums, strict=True)
        if c.name not in measured.left_out
    ]
    points = [Point(line.configuration, found) for line in lines if (found := line.losses[loss])]
    charted = {line.configuration.name: found for line in lines if (found := line.losses["original_as_coded"])}
    measurements = Measurements({line.configuration.name: line.configuration for line in lines}, charted)
    return Result(
        source, weights, matrices, loss, lines, measured.left_out, points, frontier.frontier(points),
        frontier.gaps(points), frontier.addition(points), measurements, claims.verdicts(measurements),
    )  # fmt: skip
