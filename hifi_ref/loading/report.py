"""The verdict, its parts, and the report that rules write into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LOADS, WILL_NOT_LOAD, NOT_JUDGED, NO_MODEL = "loads", "will not load", "not judged", "no model"


class Problem(NamedTuple):
    """One thing that is wrong, or worth knowing: a finding's code, the key or tensor it is about, one sentence."""

    code: str
    subject: str
    sentence: str


class Verdict(NamedTuple):
    """The judgement of one model.

    Attributes:
        kind: "loads", "will not load", "not judged" or "no model".
        architecture: general.architecture, or None where there is none.
        problems: why it will not load, or, if no model, why llama.cpp refuses it for what it is; else empty.
        notes: what is wrong and does not keep it from loading, why it was not judged, what it is if no model.
        what_it_rests_on: one sentence.
    """

    kind: str
    architecture: str | None
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    what_it_rests_on: str


@dataclass
class Report:
    """What the rules found: ``problems`` are fatal, ``unknown`` is what the rules do not cover, ``notes`` the rest."""

    problems: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def problem(self, code: str, subject: str, sentence: str) -> None:
        self.problems.append(Problem(code, subject, sentence))

    def doubt(self, subject: str, sentence: str) -> None:
        self.unknown.append(Problem("L010", subject, sentence))

    def note(self, code: str, subject: str, sentence: str) -> None:
        self.notes.append(Problem(code, subject, sentence))
