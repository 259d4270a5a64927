"""The report as Markdown: who was judged, the matrix, and each deviation with its diagnosis.

It fits the description of a pull request: what would make it longer is left out, and a sentence says so.
"""

from __future__ import annotations

from typing import NamedTuple

from hifi_ref.conform.report import CellReport, Report, Subject
from hifi_ref.conform.report_lines import cases_line, deviation_lines, facts_line, matrix, verdict_line, wrong

# What GitHub takes, in characters; counted here are bytes, of which there are as many or more.
LIMIT = 65_536
# Kept for the sentence that says what was left out.
RESERVE = 300


class Part(NamedTuple):
    """Lines that are shown together or not at all. kind: their name where they are left out. rank: 0 comes first."""

    kind: str
    rank: int
    lines: list[str]


def to_markdown(report: Report, limit: int = LIMIT) -> str:
    """A document of its own, of no more than ``limit`` bytes."""
    head = [f"# {verdict_line(report)}", "", f"{cases_line(report)}.", "", _escape(facts_line(report))]
    parts = [part for subject in report.subjects for part in _parts(subject)]
    known = report.not_judged.items()
    parts += [Part("not judged", 0, ["", f"Not judged: {_escape(name)}: {_escape(why)}"]) for name, why in known]
    passes = report.unexpected_passes
    parts += [Part("unexpected pass", 0, ["", f"Unexpected pass: {_escape(line)}"]) for line in passes]
    shown, left_out = fitting(parts, limit - RESERVE - _size(head))
    tail = ["", left_out] if left_out else []
    return "\n".join([*head, *(line for part in shown for line in part.lines), *tail]).rstrip() + "\n"


def fitting(parts: list[Part], room: int) -> tuple[list[Part], str]:
    """The parts that fit, of a lower rank first, in their order; and a sentence on the others, or nothing."""
    kept = set()
    for rank in sorted({part.rank for part in parts}):
        for i, part in enumerate(parts):
            if part.rank == rank and _size(part.lines) <= room:
                kept.add(i)
                room -= _size(part.lines)
    missing = [part.kind for i, part in enumerate(parts) if i not in kept]
    counts = ", ".join(f"{kind} ({missing.count(kind)})" for kind in dict.fromkeys(missing))
    sentence = f"Left out, so that this fits a pull request: {counts}. The other forms of the report have them."
    return [part for i, part in enumerate(parts) if i in kept], sentence if missing else ""


def _size(lines: list[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _parts(subject: Subject) -> list[Part]:
    heading = ["", f"## {_escape(subject.target)}", ""]
    if subject.fault is not None:
        return [Part("heading", 0, [*heading, f"Not judged: {_escape(subject.fault)}"])]
    libraries = [f"`{library['file']}` sha256 `{library['sha256']}`" for library in subject.libraries]
    failing = [Part("failing cell", 1, cell_lines(cell)) for cell in subject.cells if cell.failures]
    return [
        Part("heading", 0, [*heading, _escape(subject.name), *libraries]),
        Part("table", 2, ["", *matrix_lines(subject)]),
        *failing,
        *(Part("acceptable deviation", 2, lines) for lines in _acceptable(subject)),
    ]


def matrix_lines(subject: Subject) -> list[str]:
    """Format x operation."""
    head, *rows = matrix(subject)
    return [_row(head), "|".join(["", *["---"] * len(head), ""]), *map(_row, rows)]


def deviations(subject: Subject) -> list[str]:
    """What fails, why, and how to see it; and what deviates acceptably."""
    failing = [line for cell in subject.cells if cell.failures for line in cell_lines(cell)]
    return [*failing, *(line for lines in _acceptable(subject) for line in lines)]


def cell_lines(cell: CellReport) -> list[str]:
    """A failing cell: its diagnosis, its first failure, and how to see that."""
    first = cell.failures[0]
    why = "" if cell.diagnosis is None else f" {_escape(str(cell.diagnosis))}"
    lines = ["", f"- **{cell.name}**: {wrong(cell)}.{why} {_escape(str(first))}"]
    if first.expected_to_fail:
        lines.append(f"  Expected: {_escape(first.expected_to_fail)}")
    return [*lines, f"  `{first.reproduce}`"]


def _acceptable(subject: Subject) -> list[list[str]]:
    return [["", f"- {_escape(text)}"] for text in deviation_lines(subject)]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    for mark in "\\|*_<`":
        text = text.replace(mark, "\\" + mark)
    return text
