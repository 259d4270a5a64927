"""The report as text, for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hifi_ref.commands import terminal
from hifi_ref.conform.report import CONFORMS, NOT, XFAIL, CellReport, Report, Subject
from hifi_ref.conform.report_lines import (
    cases_line,
    cell_text,
    deviation_lines,
    facts_line,
    matrix_cells,
    summary,
    verdict_line,
)


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
    verdict = (verdict_line(report), "bold green" if report.conforms else "bold red")
    parts += [Text.assemble(verdict, f" ({cases_line(report)})"), facts_line(report)]
    return terminal.rendered(parts, colour)


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
