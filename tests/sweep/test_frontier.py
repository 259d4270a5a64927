"""The frontier, ggml's distance from it, what it lacks, and the verdicts, on losses made for the purpose."""

from __future__ import annotations

import itertools

import pytest

from hifi_ref.sweep import claims, frontier
from hifi_ref.sweep.claims import Measurements
from hifi_ref.sweep.configurations import Configuration, configurations
from hifi_ref.sweep.frontier import Point


def point(name: str, bits: float, loss: float, family: str = "hyper-single") -> Point:
    return Point(Configuration(name, family, bits, name), loss)


A, B, C = (point(name, bits, loss, "llama.cpp") for name, bits, loss in (("A", 2, 8), ("B", 4, 2), ("C", 6, 1)))
F16 = point("F16", 16, 0.001, "llama.cpp")


def names(points: list[Point]) -> list[str]:
    return [p.configuration.name for p in points]


def test_frontier() -> None:
    points = [B, point("worse", 4, 3), C, point("same", 5, 2), A, point("more", 7, 1.5), point("x", 3, 2.5)]
    assert names(frontier.frontier(points)) == ["A", "x", "B", "C"]
    assert frontier.frontier([]) == []


def test_gaps() -> None:
    points = [A, B, C, F16, point("x", 3.5, 1.6), point("y", 6, 0.9)]
    gaps = {gap.point.configuration.name: gap for gap in frontier.gaps(points)}
    assert gaps.keys() == {"A", "B", "C"}
    assert gaps["A"].ratio == 1 and gaps["A"].bits_saved == 0
    assert gaps["B"].ratio == 2 / 1.6 and gaps["B"].bits_saved == 0.5 and gaps["B"].lowest.configuration.name == "x"
    assert gaps["C"].ratio == 1 / 0.9 and gaps["C"].fewest.configuration.name == "y" and gaps["C"].bits_saved == 0


def test_what_is_lacking() -> None:
    # Between A and B a bit halves the loss, so that 4 needs 3 bits.
    x = point("x", 2.6, 4)
    found = frontier.addition([A, B, C, F16, x, point("y", 3.3, 3.4)])
    assert found is not None and (found.point, found.below, found.above) == (x, A, B)
    assert found.bits_saved == pytest.approx(0.4)
    assert frontier.addition([A, B, C, point("z", 3.2, 4)]) is None
    # A float's line is no mixture of blocks, and nothing is said without ggml's formats.
    assert frontier.addition([A, B, C, F16, point("z", 7, 0.5)]) is None
    assert frontier.addition([x]) is None


def test_a_format_above_its_own_hull_bounds_nothing() -> None:
    worse = point("D", 3, 7, "llama.cpp")
    assert frontier.addition([A, B, C, worse, point("x", 2.9, 4.5)]) is None


ALL = {c.name: c for c in configurations(["llama.cpp", "hyper-single", "hyper-double"])}


def measurements(**changed: float) -> Measurements:
    """All losses 1, but for those that are named, with _ for a blank."""
    losses = dict.fromkeys(ALL, 1.0) | changed
    return Measurements(ALL, losses)


def held(m: Measurements) -> list[bool | None]:
    return [verdict.holds for verdict in claims.verdicts(m)]


def test_verdicts_on_both_sides() -> None:
    assert held(measurements()) == [False] * 5
    better = {"hyper 5a/32 fp8": 0.75, "hyper 4s/16 fp8": 0.905, "hyper 6s/8 1s/8 fp8": 0.8, "Q4_K": 0.7}
    assert held(measurements(**better)) == [True] * 5
    nearly = {"hyper 5a/32 fp8": 0.78, "hyper 4s/16 fp8": 0.92, "hyper 6s/8 1s/8 fp8": 0.85}
    assert held(measurements(**nearly))[:3] == [False] * 3
    # 47% more bits are more than 2%.
    assert not held(measurements(**{"hyper 1a/8 6s/8 fp8": 0.5}))[2]


def test_what_was_not_measured_is_not_judged() -> None:
    for without, judged in (("hyper 4s/16 fp8", 1), ("Q4_K", 4), ("hyper 1s/8 1s/8 fp8", 2), ("Q8_0", 3)):
        losses = {name: 1.0 for name in ALL if name != without}
        verdicts = claims.verdicts(Measurements(ALL, losses))
        assert verdicts[judged].holds is None and verdicts[judged].sentence.startswith("not judged: ")
    assert held(Measurements({}, {})) == [None] * 5


def test_sentences_have_their_figures() -> None:
    sentences = [v.sentence for v in claims.verdicts(measurements(**{"hyper 4s/16 fp8": 0.9, "Q2_K": 2.0}))]
    assert sentences[1].startswith("4s/16 fp8 loses 10.0% less than 4s/32 fp16")
    assert "Q2_K: " in sentences[4] and "loses 50.0% less" in sentences[4]
    assert all("nan" not in s for s in itertools.chain(sentences))
