"""Encoders against profiles: the build that wrote the answers is named, and a mutant of it is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.conform import judge, report
from hifi_ref.conform.cases import Case, Suite, VectorError, question
from hifi_ref.conform.command import Run
from hifi_ref.conform.profiles import Match, matches_of, of_profile
from hifi_ref.conform.report_lines import verdict_line
from hifi_ref.formats import builds
from tests.conform.helpers import SCHEMA, SUITES, run

ENCODERS = [suite for suite in SUITES.values() if suite.operation == "encode"]


class Recorded:
    """Answers what a profile's build writes, changed by ``spoil``."""

    def __init__(self, profile: str, spoil: Callable[[Suite, Case, np.ndarray], np.ndarray] | None = None) -> None:
        self.answers: dict[str, np.ndarray] = {}
        for suite in ENCODERS:
            for case in suite.cases:
                blocks = case.profiles.get(profile, case.expected)
                blocks = case.expected if blocks is None else blocks
                self.answers[question(suite, case)] = blocks if spoil is None else spoil(suite, case, blocks)

    def ask(
        self, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float]
    ) -> np.ndarray:
        suite = SUITES[f"{name}.{operation}"]
        return self.answers[question(suite, Case("", "", (), "", given, np.empty(0), context))]


def judged(target: Recorded, profile: str = builds.STRICT) -> list[judge.Cell]:
    return judge.judge(target, of_profile(ENCODERS, profile), accepted=())


@pytest.mark.parametrize(
    ("profile", "vectors"), [("clang-arm64", 86), ("gcc-x86-fma", 204), ("gcc-x86-fma-intel", 197)]
)
def test_a_build_is_named_and_conforms_to_its_profile(profile: str, vectors: int) -> None:
    assert matches_of(judged(Recorded(profile))) == (Match(profile, vectors),)
    assert not any(cell.failures for cell in judged(Recorded(profile), profile))
    others = [other for other in builds.PROFILES if other != profile]
    assert all(any(cell.failures for cell in judged(Recorded(profile), other)) for other in others)


def test_the_strict_profile_is_no_other() -> None:
    strict = judged(Recorded(builds.STRICT))
    assert matches_of(strict) == () and not any(cell.failures for cell in strict)


@pytest.mark.parametrize("profile", builds.BUILDS)
@pytest.mark.parametrize("dependent", [True, False])
def test_one_bit_elsewhere_is_no_build(profile: str, dependent: bool) -> None:
    """In one vector of which the profile has blocks of its own, or in one of which it has not."""
    names = [suite for suite in ENCODERS if suite.layout.name in builds.known_formats(profile)]
    of = next(
        c for s in names for c in s.cases if (profile in c.profiles) == dependent and c.result != "undefined-in-c"
    )

    def spoil(suite: Suite, case: Case, blocks: np.ndarray) -> np.ndarray:
        changed = blocks.copy()
        changed[-1] ^= case.id == of.id
        return changed

    assert matches_of(judged(Recorded(profile, spoil))) == ()
    failing = [v.case.id for cell in judged(Recorded(profile, spoil), profile) for v in cell.failures]
    assert failing == [of.id]


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A module that encodes as clang-arm64 does is judged strictly, and by its own profile."""
    words = ("python:tests.conform.as_arm64", "--formats=Q6_K", "--operations=encode")
    code, out, _ = run(capsys, *words, f"--json={tmp_path / 'report'}")
    assert code == 0 and "encodes as clang-arm64 does (3 vectors that the strict profile has otherwise)" in out
    content = json.loads((tmp_path / "report").read_text())
    SCHEMA.validate(content)
    assert content["profile"] == "strict"
    assert content["subjects"][0]["profiles"] == [{"profile": "clang-arm64", "vectors": 3}]
    code, out, _ = run(capsys, *words, "--profile=clang-arm64")
    assert code == 0 and "\nconforms to profile clang-arm64 (1 of 1 cells" in out


def test_the_verdict_and_the_repeating_command_tell_the_profile_asked_for() -> None:
    failing = report.CellReport("Q4_K", "encode", report.NOT, 1, {judge.DIFFERS: 1}, 0, 0, None, ())
    subject = report.Subject("python:module", "", (), (failing,))
    whole = report.Report("", "llama.cpp", 1, {}, {}, (subject,), profile="gcc-x86-fma")
    assert verdict_line(whole) == "does not conform to profile gcc-x86-fma: 1 cell, Q4_K.encode"
    assert "--profile=gcc-x86-fma" in Run("python:module", profile="gcc-x86-fma").repeated


def test_an_unknown_profile_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        VectorError, match="no profile is called 'fast'; there are strict clang-arm64 gcc-x86-fma gcc-x86-fma-intel"
    ):
        of_profile(ENCODERS, "fast")
    code, _, err = run(capsys, "gguf-py", "--profile=clang-arm64", "--level=2")
    assert code == 2 and "--profile is for the golden vectors of llama.cpp: without --level=2" in err
