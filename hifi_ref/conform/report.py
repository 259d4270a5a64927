"""What a run found, as records: a report of subjects, of cells, of failures. The other report_* files show them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hifi_ref.conform.deviations import DEVIATIONS
from hifi_ref.conform.diagnose import Diagnosis, diagnose
from hifi_ref.conform.judge import FAILED, Cell, Target, Verdict
from hifi_ref.conform.locate import Place, first_divergence
from hifi_ref.conform.profiles import Match
from hifi_ref.conform.xfail import Expectation, expectation_of
from hifi_ref.formats.builds import STRICT

# Failures of one cell that are kept in full.
SHOWN = 5

CONFORMS, NOT, XFAIL, NOT_OFFERED = "conforms", "does not conform", "fails as expected", "not offered"


@dataclass(frozen=True)
class Failure:
    """One failing case. block to observed: as in locate.Place; None without an answer. reproduce: a command line."""

    id: str
    group: str
    flags: tuple[str, ...]
    detail: str
    block: int | None = None
    field: str | None = None
    unit: str | None = None
    index: int | None = None
    expected: str | None = None
    observed: str | None = None
    expected_to_fail: str | None = None
    reproduce: str = ""

    def __str__(self) -> str:
        if self.expected is None:
            return self.detail
        where = [] if self.block is None else [f"block {self.block}"]
        where += [f"field {self.field}"] if self.field else []
        where += [] if self.unit is None else [f"{self.unit} {self.index}"]
        values = f"expected {self.expected}, observed {self.observed}"
        return f"{', '.join([*where, values])}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True)
class CellReport:
    """One format, one operation. verdict: CONFORMS, NOT, XFAIL or NOT_OFFERED. counts: outcome -> cases.

    deviations: flag -> acceptable cases. faults: flag -> right answers that show a fault which the reference has too.
    says: flag -> what it means, of those that no other list describes.
    """

    format: str
    operation: str
    verdict: str
    cases: int
    counts: dict[str, int]
    not_asked: int
    declined: int
    diagnosis: Diagnosis | None
    failures: tuple[Failure, ...]
    deviations: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.format}.{self.operation}"

    @property
    def failed(self) -> int:
        return sum(self.counts.get(outcome, 0) for outcome in FAILED)

    @property
    def asked(self) -> int:
        """Cases that were answered, or were not although they are offered."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Subject:
    """Who was judged: the target's spelling, what it calls itself, its libraries' digests; and what came out.

    profiles: those whose blocks its encoders write, where these are not the expected ones.
    """

    target: str
    name: str
    libraries: tuple[dict[str, str], ...]
    cells: tuple[CellReport, ...]
    fault: str | None = None
    profiles: tuple[Match, ...] = ()

    @property
    def offered(self) -> list[CellReport]:
        return [cell for cell in self.cells if cell.verdict != NOT_OFFERED]

    @property
    def conforms(self) -> bool:
        return self.fault is None and all(cell.verdict != NOT for cell in self.cells)

    @property
    def deviations(self) -> dict[str, list[CellReport]]:
        """The cells with acceptable deviations, by flag."""
        flags = dict.fromkeys([*(d.flag for d in DEVIATIONS), *(flag for c in self.cells for flag in c.deviations)])
        return {flag: cells for flag in flags if (cells := [c for c in self.cells if c.deviations.get(flag)])}

    @property
    def faults(self) -> dict[str, list[CellReport]]:
        """The cells that show faults of the reference, by flag."""
        flags = dict.fromkeys(flag for cell in self.cells for flag in cell.faults)
        return {flag: [cell for cell in self.cells if flag in cell.faults] for flag in flags}


@dataclass(frozen=True)
class Report:
    """One run.

    vectors: how many suites and cases were to be asked, the seed, and sha256, as cases.digest has it. not_judged: part
    of the target -> why. date: in UTC. versions: of what judged. profile: whose blocks were expected.
    """

    version: str
    dialect: str
    level: int
    vectors: dict[str, Any]
    machine: dict[str, str]
    subjects: tuple[Subject, ...]
    not_judged: dict[str, str] = field(default_factory=dict)
    unexpected_passes: tuple[str, ...] = ()
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    profile: str = STRICT

    @property
    def conforms(self) -> bool:
        judged = any(subject.offered for subject in self.subjects)
        return judged and not self.unexpected_passes and all(subject.conforms for subject in self.subjects)


def cell_report(
    cell: Cell,
    spelling: str,
    flags: Sequence[str] = (),
    expectations: Sequence[Expectation] = (),
    target: Target | None = None,
) -> CellReport:
    """A cell's verdict, its first failures and its diagnosis.

    spelling, flags: of the command that reproduces a failure. target: who can still be asked, to locate failures.
    """
    reasons = {v.case.id: expectation_of(cell, v, expectations) for v in cell.failures}
    # Those that nobody expects come first.
    shown = sorted(cell.failures, key=lambda v: reasons[v.case.id] is not None)[:SHOWN]
    failures = []
    for v in shown:
        command = reproduce(spelling, cell, v.case.id, flags)
        failures.append(_failure(v, reasons[v.case.id], first_divergence(cell.suite, v, target), command))
    if not cell.offered:
        verdict = NOT_OFFERED
    elif not failures:
        verdict = CONFORMS
    else:
        verdict = XFAIL if all(reasons.values()) and not cell.not_asked else NOT
    layout = cell.suite.layout
    return CellReport(
        layout.name, cell.suite.operation, verdict, len(cell.suite.cases), dict(sorted(cell.counts.items())),
        cell.not_asked, cell.declined, diagnose(cell), tuple(failures), dict(sorted(cell.deviations.items())),
    )  # fmt: skip


def _failure(verdict: Verdict, reason: Expectation | None, place: Place | None, command: str) -> Failure:
    case, expected = verdict.case, None if reason is None else reason.reason
    if place is None:
        return Failure(case.id, case.group, case.flags, verdict.detail, expected_to_fail=expected, reproduce=command)
    return Failure(
        case.id, case.group, case.flags, place.hint, place.block, place.field, place.unit, place.index, place.expected,
        place.observed, expected, command,
    )  # fmt: skip


def reproduce(target: str, cell: Cell, id: str, flags: Sequence[str]) -> str:
    """A command line that judges this one case."""
    return reproduced_by(target, cell.suite.layout.name, cell.suite.operation, flags, id)


def reproduced_by(target: str, name: str, operation: str, flags: Sequence[str], id: str) -> str:
    """The same, of a format and an operation by name."""
    words = ["python", "-m", "hifi_ref.conform", target, f"--formats={name}"]
    return shlex.join([*words, f"--operations={operation}", *flags, f"--only={id}"])
