"""What the sweep's pictures show, whoever draws them: Hyper-Quantization's three figures, with all formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hifi_ref.sweep import claims
from hifi_ref.sweep.claims import Measurements, Trade
from hifi_ref.sweep.configurations import FAMILIES
from hifi_ref.sweep.frontier import Point
from hifi_ref.sweep.result import Result

# A colour and a diameter of each family's marks, which stay apart for readers who confuse red and green.
STYLES = {
    "llama.cpp": ("#d55e00", 9),
    "hifi": ("#cc79a7", 7),
    "hyper-single": ("#0072b2", 4),
    "hyper-double": ("#8fb8d8", 2.5),
    "neighbours": ("#009e73", 6),
}
FRONTIER = "#222222"
# What pictures show; floats lie beyond.
BITS = (0.8, 10.2)


class Trades(NamedTuple):
    """A figure of ratios: points below 1 gain."""

    title: str
    bits: str
    trades: list[Trade]


def families(result: Result) -> dict[str, list[Point]]:
    """The points of each family that has any."""
    found = {family: [p for p in result.points if p.configuration.family == family] for family in FAMILIES}
    return {family: points for family, points in found.items() if points}


def losses_shown(result: Result) -> tuple[float, float]:
    """The least and the largest loss of a picture that shows BITS: what is worse than zeros need not be seen."""
    shown = [p.loss for p in result.points if BITS[0] <= p.bits <= BITS[1]] or [1.0]
    return min(shown) / 1.3, min(max(shown), 1.2) * 1.2


def trades(result: Result) -> list[Trades]:
    """The two figures about fp8 scales, as far as their configurations were measured."""
    asked: list[tuple[str, str, Callable[[Measurements], list[Trade]]]] = [
        ("fp8 at half the block against fp16", "bits per weight of both", claims.half_blocks),
        ("8 x 8 with fp8 against 16 x 16 with fp16", "bits, as a ratio", claims.super_blocks),
    ]
    found = []
    for title, bits, make in asked:
        try:
            found.append(Trades(title, bits, make(result.measurements)))
        except KeyError:
            continue
    return found


def axis(loss: str) -> str:
    """A loss in words."""
    return {
        "rmse": "root mean square error",
        "normalized": "root mean square error, relative to the weights",
        "original": "mean error by each block's deviation",
        "weighted": "weighted error, relative to the weights",
    }[loss]
