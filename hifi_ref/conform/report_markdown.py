"""The report as Markdown: who was judged, the matrix, and each deviation with its diagnosis."""

from __future__ import annotations

from hifi_ref.conform.report import Report, Subject, cases_line, deviation_lines, matrix, verdict_line, wrong


def to_markdown(report: Report) -> str:
    """A document of its own."""
    lines = [f"# {verdict_line(report)}", "", f"{cases_line(report)}."]
    for subject in report.subjects:
        lines += ["", f"## {_escape(subject.target)}", "", *subject_lines(subject)]
    lines += ["", *(f"Not judged: {_escape(target)}: {_escape(why)}" for target, why in report.not_judged.items())]
    lines += [f"Unexpected pass: {_escape(line)}" for line in report.unexpected_passes]
    return "\n".join(lines).rstrip() + "\n"


def subject_lines(subject: Subject) -> list[str]:
    """One subject, without a heading."""
    if subject.fault is not None:
        return [f"Not judged: {_escape(subject.fault)}"]
    libraries = [f"`{library['file']}` sha256 `{library['sha256']}`" for library in subject.libraries]
    lines = [f"{_escape(subject.name)}", *libraries, ""]
    return [*lines, *matrix_lines(subject), *deviations(subject)]


def matrix_lines(subject: Subject) -> list[str]:
    """Format x operation."""
    head, *rows = matrix(subject)
    return [_row(head), "|".join(["", *["---"] * len(head), ""]), *map(_row, rows)]


def deviations(subject: Subject) -> list[str]:
    """What fails, why, and how to see it; and what deviates acceptably."""
    lines = []
    for cell in subject.cells:
        if not cell.failures:
            continue
        why = "" if cell.diagnosis is None else f" {_escape(str(cell.diagnosis))}"
        lines += ["", f"- **{cell.name}**: {wrong(cell)}.{why} {_escape(str(cell.failures[0]))}"]
        if cell.failures[0].expected_to_fail:
            lines.append(f"  Expected: {_escape(cell.failures[0].expected_to_fail)}")
        lines.append(f"  `{cell.failures[0].reproduce}`")
    return [*lines, *(line for text in deviation_lines(subject) for line in ("", f"- {_escape(text)}"))]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    for mark in "\\|*_<`":
        text = text.replace(mark, "\\" + mark)
    return text
