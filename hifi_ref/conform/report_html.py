"""The report as one page for a browser: what report.html shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hifi_ref.commands import pages
from hifi_ref.conform.report import CONFORMS, NOT, XFAIL, CellReport, Report, Subject
from hifi_ref.conform.report_lines import (
    cases_line,
    deviation_lines,
    facts_line,
    matrix_cells,
    summary,
    verdict_line,
    wrong,
)

TEMPLATE = Path(__file__).parent / "report.html"
KINDS = {CONFORMS: "good", NOT: "bad", XFAIL: "warn"}


def to_html(report: Report) -> str:
    """The whole page."""
    notes = [f"not judged: {target}: {why}" for target, why in report.not_judged.items()]
    notes += [f"unexpected pass: {line}; remove that line" for line in report.unexpected_passes]
    return pages.render(
        TEMPLATE,
        title="hifi_ref.conform",
        verdict={"kind": "good" if report.conforms else "bad", "sentence": verdict_line(report)},
        facts=[cases_line(report), facts_line(report)],
        subjects=[_subject(subject) for subject in report.subjects],
        notes=notes,
        wrong=wrong,
    )


def _subject(subject: Subject) -> dict[str, Any]:
    operations, rows = matrix_cells(subject)
    return {
        "target": subject.target,
        "name": subject.name,
        "libraries": subject.libraries,
        "fault": subject.fault,
        "operations": operations,
        "rows": [{"format": name, "cells": [_cell(cell) for cell in cells]} for name, cells in rows.items()],
        "failing": [cell for cell in subject.cells if cell.failures],
        "deviations": deviation_lines(subject),
    }


def _cell(cell: CellReport | None) -> dict[str, str]:
    return {"kind": "none" if cell is None else KINDS[cell.verdict], "summary": summary(cell)}
