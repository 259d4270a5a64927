"""What a run found, as records, as JSON's types and as text."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hifi_ref.commands import terminal
from hifi_ref.conform.cases import OPERATIONS
from hifi_ref.conform.deviations import DEVIATIONS
from hifi_ref.conform.diagnose import Diagnosis, diagnose
from hifi_ref.conform.judge import ACCEPTABLE, BOUND, EXACT, FAILED, OPEN, UNBOUNDED, Cell, Target, Verdict
from hifi_ref.conform.locate import Place, first_divergence
from hifi_ref.conform.xfail import Expectation, expectation_of

SCHEMA = "hifi_ref.conform/2"
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

    deviations: flag -> acceptable cases.
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
    """Who was judged: the target's spelling, what it calls itself, its libraries' digests; and what came out."""

    target: str
    name: str
    libraries: tuple[dict[str, str], ...]
    cells: tuple[CellReport, ...]
    fault: str | None = None

    @property
    def offered(self) -> list[CellReport]:
        return [cell for cell in self.cells if cell.verdict != NOT_OFFERED]

    @property
    def conforms(self) -> bool:
        return self.fault is None and all(cell.verdict != NOT for cell in self.cells)

    @property
    def deviations(self) -> dict[str, list[CellReport]]:
        """The cells with acceptable deviations, by flag."""
        return {d.flag: cells for d in DEVIATIONS if (cells := [c for c in self.cells if c.deviations.get(d.flag)])}


@dataclass(frozen=True)
class Report:
    """One run. not_judged: part of the target -> why."""

    version: str
    dialect: str
    level: int
    vectors: dict[str, Any]
    machine: dict[str, str]
    subjects: tuple[Subject, ...]
    not_judged: dict[str, str] = field(default_factory=dict)
    unexpected_passes: tuple[str, ...] = ()

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
    words = ["python", "-m", "hifi_ref.conform", target, f"--formats={cell.suite.layout.name}"]
    return shlex.join([*words, f"--operations={cell.suite.operation}", *flags, f"--only={id}"])


def to_json(report: Report) -> dict[str, Any]:
    """The report as JSON's types; report.schema.json describes them."""
    return {
        "schema": SCHEMA,
        "hifi_ref": report.version,
        "conforms": report.conforms,
        "dialect": report.dialect,
        "level": report.level,
        "vectors": report.vectors,
        "machine": report.machine,
        "subjects": [
            {
                "target": subject.target,
                "name": subject.name,
                "conforms": subject.conforms,
                "fault": subject.fault,
                "libraries": list(subject.libraries),
                "cells": [_cell_json(cell) for cell in subject.cells],
            }
            for subject in report.subjects
        ],
        "not_judged": [{"target": target, "reason": reason} for target, reason in report.not_judged.items()],
        "unexpected_passes": list(report.unexpected_passes),
    }


def _cell_json(cell: CellReport) -> dict[str, Any]:
    diagnosis = None if cell.diagnosis is None else cell.diagnosis._asdict()
    return {**asdict(cell), "diagnosis": diagnosis}


def to_text(report: Report, quiet: bool = False, colour: bool = False) -> str:
    """The report as text: who was judged, the matrix, the failures with their diagnoses, and the verdict."""
    parts: list[RenderableType] = []
    for subject in report.subjects:
        parts += [f"{subject.target}: {subject.name}"]
        parts += [f"  {library['file']} sha256 {library['sha256']}" for library in subject.libraries]
        if subject.fault:
            parts += ["", Text(f"not judged: {subject.fault}", "yellow"), ""]
            continue
        if not quiet and subject.offered:
            parts += ["", _matrix_table(subject)]
        parts += ["", *_failures(subject)]
        acceptable = deviation_lines(subject)
        parts += [*acceptable, ""] if acceptable else []
    parts += [f"not judged: {target}: {reason}" for target, reason in report.not_judged.items()]
    parts += [f"unexpected pass: {line}; remove that line" for line in report.unexpected_passes]
    machine = ", ".join(report.machine.values())
    verdict = (verdict_line(report), "bold green" if report.conforms else "bold red")
    facts = f" ({cases_line(report)}; hifi_ref {report.version}; {machine})"
    return terminal.rendered([*parts, Text.assemble(verdict, facts)], colour)


def cases_line(report: Report) -> str:
    """What the verdict rests on."""
    subjects = [subject for subject in report.subjects if subject.fault is None]
    cells = (
        f"{sum(len(s.offered) for s in subjects)} of {report.vectors['suites'] * len(report.subjects)} cells offered"
    )
    asked = sum(cell.asked for subject in subjects for cell in subject.cells)
    vectors = f"{asked} of {report.vectors['cases'] * len(report.subjects)} vectors asked"
    of = f"{len(report.subjects)} subjects, " if len(report.subjects) > 1 else ""
    return f"{of}{cells}, {vectors} of {report.dialect}, level {report.level}"


def deviation_lines(subject: Subject) -> list[str]:
    """The acceptable deviations: how many cases, of which cells, and what each is."""
    says = {deviation.flag: deviation.says for deviation in DEVIATIONS}
    lines = []
    for flag, cells in subject.deviations.items():
        n = sum(cell.deviations[flag] for cell in cells)
        lines.append(f"acceptable: {flag}, {n} case{'s' * (n > 1)} of {', '.join(c.name for c in cells)}: {says[flag]}")
    return lines


def verdict_line(report: Report) -> str:
    """One line for all."""
    if report.conforms:
        counts: Counter[str] = Counter()
        for subject in report.subjects:
            for cell in subject.cells:
                counts.update(cell.deviations)
        flags = ", ".join(f"{flag} ({n})" for flag, n in sorted(counts.items()))
        return f"conforms, with acceptable deviations: {flags}" if flags else "conforms"
    bad = [cell.name for subject in report.subjects for cell in subject.cells if cell.verdict == NOT]
    if not any(subject.offered for subject in report.subjects):
        return "does not conform: nothing was judged"
    if not bad:
        return "does not conform: see above"
    cells = "1 cell" if len(bad) == 1 else f"{len(bad)} cells"
    return f"does not conform: {cells}, {', '.join(bad[:6])}{' and more' if len(bad) > 6 else ''}"


def matrix(subject: Subject) -> list[tuple[str, ...]]:
    """format x operation, with a head: what is offered of them."""
    operations, rows = matrix_cells(subject)
    return [("format", *operations), *((name, *map(summary, cells)) for name, cells in rows.items())]


def matrix_cells(subject: Subject) -> tuple[list[str], dict[str, list[CellReport | None]]]:
    """The operations of which anything is offered, and the cells of each format in their order."""
    offered = subject.offered
    operations = [op for op in OPERATIONS if any(cell.operation == op for cell in offered)]
    cells = {(cell.format, cell.operation): cell for cell in offered}
    formats = dict.fromkeys(cell.format for cell in offered)
    return operations, {name: [cells.get((name, op)) for op in operations] for name in formats}


def summary(cell: CellReport | None) -> str:
    """One cell of the matrix."""
    if cell is None or cell.verdict == NOT_OFFERED:
        return "-"
    if cell.failed:
        return f"{wrong(cell)}, expected" if cell.verdict == XFAIL else wrong(cell)
    parts = [f"{cell.counts[EXACT]} exact"] if cell.counts.get(EXACT) else []
    parts += [f"{cell.counts[key]} {key}" for key in (BOUND, UNBOUNDED, OPEN, ACCEPTABLE) if cell.counts.get(key)]
    return ", ".join([*parts, *([f"{cell.declined} declined"] if cell.declined else [])])


def wrong(cell: CellReport) -> str:
    """How many answers are wrong, of those that were asked for."""
    unasked = f", {cell.not_asked} not asked" if cell.not_asked else ""
    return f"{cell.failed} of {cell.asked} wrong{unasked}"


def _matrix_table(subject: Subject) -> Table:
    operations, rows = matrix_cells(subject)
    lines: list[tuple[str | Text, ...]] = [("format", *operations)]
    lines += [(name, *(Text(summary(cell), _colour(cell)) for cell in cells)) for name, cells in rows.items()]
    return terminal.table(lines)


def _colour(cell: CellReport | None) -> str:
    return "" if cell is None else {CONFORMS: "green", NOT: "bold red", XFAIL: "yellow"}[cell.verdict]


def _failures(subject: Subject) -> list[str | Text]:
    lines: list[str | Text] = []
    for cell in subject.cells:
        if cell.failures:
            verdict, *details = cell_text(cell)
            lines += [Text(verdict, _colour(cell)), *details, ""]
    return lines


def cell_text(cell: CellReport) -> list[str]:
    """A failing cell: its verdict, diagnosis, first failure, and how to see it."""
    lines = [f"{cell.name} {cell.verdict}: {wrong(cell)}"]
    if cell.diagnosis is not None:
        lines.append(f"  diagnosis: {cell.diagnosis}")
    first = cell.failures[0]
    lines.append(f"  {first.id} ({first.group}): {first}")
    if first.expected_to_fail:
        lines.append(f"  expected: {first.expected_to_fail}")
    return [*lines, f"  reproduce: {first.reproduce}"]
