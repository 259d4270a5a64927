"""Bugs planted in kernels of C are caught, and named rightly or not at all."""

from __future__ import annotations

from tests.conform.battery import run
from tests.conform.battery.planted import PLANTED
from tests.conform.helpers import SUITES

# Small blocks, whose bugs take a second each.
SMALL = ("Q4_0.decode", "Q5_0.decode", "Q8_0.decode", "Q4_1.decode", "MXFP4.decode", "Q1_0.decode", "Q8_0.encode")
SAMPLE = [planted for planted in PLANTED if planted.section in SMALL][::2]


def test_the_kernels_are_right_without_a_bug() -> None:
    for section in ("Q4_0.decode", "Q4_K.dot", "Q6_K.decode", "TQ1_0.encode", "Q8_K.encode"):
        assert not run.judge.judge_suite(run.Kernel(section), SUITES[section]).failures, section


def test_planted_bugs_are_caught_and_named() -> None:
    results = [run.judged(SUITES[planted.section], planted) for planted in SAMPLE]
    outcomes = [result.outcome for result in results]
    assert len(results) >= 20
    assert run.MISSED not in outcomes
    wrong = [(r.planted.section, r.planted.old, r.diagnosis) for r in results if r.outcome == run.MISLEADING]
    assert not wrong
    assert outcomes.count(run.NAMED) >= 0.75 * len(results)


def test_there_are_two_hundred_of_ten_formats() -> None:
    assert len(PLANTED) >= 200 and len({planted.section.partition(".")[0] for planted in PLANTED}) >= 10
