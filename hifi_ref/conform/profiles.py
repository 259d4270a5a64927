"""Encoders held against each profile: which build's blocks they write, and suites that expect those of one build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from hifi_ref.conform.cases import HEXADECIMAL, Case, Suite, VectorError
from hifi_ref.conform.judge import Cell, agreement
from hifi_ref.formats import builds


class Match(NamedTuple):
    """A profile whose blocks all answers are, and how many of them the strict profile writes otherwise."""

    profile: str
    vectors: int

    def __str__(self) -> str:
        plural = "s" * (self.vectors != 1)
        return f"encodes as {self.profile} does ({self.vectors} vector{plural} that the strict profile has otherwise)"


def matches_of(cells: Sequence[Cell]) -> tuple[Match, ...]:
    """The profiles, beside the strict one, that all encoders' answers agree with, and one at least tells apart."""
    found = (Match(profile, _distinct(cells, profile)) for profile in builds.BUILDS)
    return tuple(match for match in found if match.vectors)


def _distinct(cells: Sequence[Cell], profile: str) -> int:
    """How many answers are the profile's and not the strict one's; 0 where any is not the profile's."""
    distinct, known = 0, builds.known_formats(profile)
    for cell in cells:
        if cell.suite.operation != "encode" or cell.suite.layout.name not in known:
            continue
        for verdict in cell.verdicts:
            case = verdict.case
            blocks = case.profiles.get(profile, case.expected)
            if blocks is None or case.result == "undefined-in-c" or not HEXADECIMAL.fullmatch(case.id):
                continue
            if verdict.observed is None or not agreement(cell.suite, verdict.observed, blocks).all():
                return 0
            distinct += not agreement(cell.suite, case.expected, blocks).all()
    return distinct


def of_profile(suites: Sequence[Suite], profile: str) -> list[Suite]:
    """The suites with what a profile's build writes as the expected blocks, as far as that is known.

    Raises VectorError for a profile that is not.
    """
    if profile == builds.STRICT:
        return list(suites)
    if profile not in builds.BUILDS:
        raise VectorError(f"no profile is called {profile!r}; there are {' '.join(builds.PROFILES)}")
    known = builds.known_formats(profile)
    return [_of_profile(s, profile) for s in suites if s.operation != "encode" or s.layout.name in known]


def _of_profile(suite: Suite, profile: str) -> Suite:
    if suite.operation != "encode":
        return suite
    cases = (_case(case, profile) for case in suite.cases)
    return replace(suite, cases=tuple(case for case in cases if case is not None))


def _case(case: Case, profile: str) -> Case | None:
    blocks = case.profiles.get(profile, case.expected)
    result = "valid" if case.result == "profile-dependent" else case.result
    return None if blocks is None else replace(case, expected=blocks, result=result, profiles={})
