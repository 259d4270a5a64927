"""Which configurations nothing beats, how far ggml's formats lie above them, and which one ggml lacks most."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

from hifi_ref.sweep.configurations import Configuration

# Anchors, not choices: more bits than any block of whole numbers.
FLOATS = ("F16", "BF16")


class Point(NamedTuple):
    """A configuration and its loss, which is more than 0."""

    configuration: Configuration
    loss: float

    @property
    def bits(self) -> float:
        return self.configuration.bits


class Gap(NamedTuple):
    """A format of ggml; the least loss at equal or fewer bits, and the fewest bits at equal or less loss."""

    point: Point
    lowest: Point
    fewest: Point

    @property
    def ratio(self) -> float:
        """Its loss by the least; 1 where it is itself on the frontier."""
        return self.point.loss / self.lowest.loss

    @property
    def bits_saved(self) -> float:
        return self.point.bits - self.fewest.bits


class Addition(NamedTuple):
    """What ggml lacks most: ``bits_saved`` a weight against a mixture of the two formats of ggml on either side."""

    point: Point
    bits_saved: float
    below: Point
    above: Point


def frontier(points: Sequence[Point]) -> list[Point]:
    """Those with less loss than all that have as many bits or fewer, from few bits to many."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.bits, p.loss, p.configuration.name)):
        if not found or point.loss < found[-1].loss:
            found.append(point)
    return found


def gaps(points: Sequence[Point]) -> list[Gap]:
    """Of each format of ggml that is no float, from few bits to many."""
    on = frontier(points)
    bits, losses = [p.bits for p in on], [-p.loss for p in on]
    own = sorted((p for p in points if _is_ggml(p)), key=lambda p: (p.bits, p.loss))
    return [Gap(p, on[bisect.bisect_right(bits, p.bits) - 1], on[bisect.bisect_left(losses, -p.loss)]) for p in own]


def addition(points: Sequence[Point]) -> Addition | None:
    """The configuration furthest below the hull of ggml's formats; None where none is, or ggml's are not there.

    The hull joins formats by lines in bits and the logarithm of the loss: what mixtures of two give, or nearly.
    """
    hull = _hull([p for p in points if _is_ggml(p)])
    best: Addition | None = None
    for point in frontier([p for p in points if p.configuration.family != "llama.cpp"]):
        for below, above in zip(hull, hull[1:], strict=False):
            if above.loss <= point.loss <= below.loss:
                share = math.log(below.loss / point.loss) / math.log(below.loss / above.loss)
                saved = below.bits + share * (above.bits - below.bits) - point.bits
                if saved > 0 and (best is None or saved > best.bits_saved):
                    best = Addition(point, saved, below, above)
    return best


def _is_ggml(point: Point) -> bool:
    return point.configuration.family == "llama.cpp" and point.configuration.name not in FLOATS


def _hull(points: Sequence[Point]) -> list[Point]:
    """The lower left hull in bits and logarithm of loss."""
    hull: list[Point] = []
    for point in frontier(points):
        while len(hull) > 1 and _slope(hull[-2], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(a: Point, b: Point) -> float:
    return math.log(b.loss / a.loss) / (b.bits - a.bits)
