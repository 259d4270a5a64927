"""`python -m tools.findings [SUBJECT ...]` shows each deviation of tools/findings_list.py once more: docs/findings.md.

What is asked is had by the commands that the document names, and lies in build/findings and build/field. Where it is
not there, or a finding no longer fails, the run ends with a sentence, and nothing is written.
"""

from __future__ import annotations

import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from hifi_ref.conform.cases import VectorError
from hifi_ref.conform.command import Run, conform
from hifi_ref.conform.report import CellReport, Report
from hifi_ref.conform.report_lines import cell_text
from hifi_ref.conform.targets import TargetError
from hifi_ref.model_files.files import write_atomically
from tools.findings_list import FINDINGS, SUBJECTS, YES, Finding, Subject

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "findings.md"
HEADING = """\
# What shipped implementations do otherwise

Deviations from llama.cpp v0.5.0 that were found in what people install, each reduced to one golden vector and run.
{count} findings, of which {harm} do harm. `python -m tools.findings` runs them again and writes this page; it ran on
{date}, {machine}.

A line under a finding is what was seen; the command above it repeats that, in a checkout in which the commands of its
section have brought the implementation. What the vectors say of whole libraries stands in
[conformance.md](conformance.md), and what the kinds of deviations are in [deviations.md](deviations.md).

| implementation | cell | what is otherwise | harm |
|---|---|---|---|
"""


class NotShownError(Exception):
    """A finding that does not fail; one sentence says which."""


def asked(subject: Subject, finding: Finding) -> tuple[Report, CellReport]:
    """The report of one vector, or of its cell where no vector is named. Raises NotShownError."""
    before = dict(os.environ)
    os.environ.update(dict(subject.environment))
    name, operation = finding.cell.split(".")
    only = (finding.id,) if finding.id else ()
    try:
        report = conform(Run(subject.target, (name,), (operation,), only=only, strict=finding.strict, timeout=300))
    finally:
        os.environ.clear()
        os.environ.update(before)
    cells = [cell for one in report.subjects for cell in one.cells if cell.failures]
    if len(cells) != 1:
        raise NotShownError(f"{finding.subject}, {finding.cell} {finding.id}: no failure was seen")
    return report, cells[0]


def shown(subject: Subject, finding: Finding, cell: CellReport) -> list[str]:
    """The section of one finding."""
    _, *details = cell_text(cell)
    *lines, command = (line.strip() for line in details)
    # Of a single vector only a known bug by name is a diagnosis; a pattern is too little.
    if cell.diagnosis is not None and cell.diagnosis.bug is None:
        lines = lines[1:]
    set_first = [f"{key}={shlex.quote(value)}" for key, value in subject.environment]
    strict = "--strict" if finding.strict else ""
    words = command.removeprefix("reproduce: ").replace(" --flags=", f" {strict}").replace(" '--flags='", f" {strict}")
    link = f" Upstream: <{finding.link}>." if finding.link else ""
    return [
        f"### {finding.cell}: {cell.failures[0].id}", "", f"{finding.what} Harm: {finding.harm}, {finding.why}.{link}",
        "", "```text", f"$ {' '.join([*set_first, words])}", *lines, "```", "",
    ]  # fmt: skip


def main(names: list[str]) -> int:
    """Run the findings of these subjects, all where there are no names; print or write what was seen."""
    sections: dict[str, list[str]] = {}
    rows, machine, harm = [], "", 0
    for finding in FINDINGS:
        if names and finding.subject not in names:
            continue
        subject = SUBJECTS[finding.subject]
        print(f"{finding.subject}: {finding.cell} ...", file=sys.stderr, flush=True)
        try:
            report, cell = asked(subject, finding)
        except (NotShownError, TargetError, VectorError) as error:
            print(error, file=sys.stderr)
            return 1
        machine = ", ".join(report.machine.values())
        had = ["```bash", *subject.had, "```", ""] if subject.had else []
        head = [f"## {subject.name}", "", *had]
        sections.setdefault(finding.subject, head).extend(shown(subject, finding, cell))
        rows.append(f"| {subject.name} | {finding.cell} | {finding.what} | {finding.harm} |")
        harm += finding.harm == YES
    heading = HEADING.format(count=len(rows), harm=harm, date=datetime.now(UTC).date(), machine=machine)
    text = heading + "\n".join(rows) + "\n\n"
    text += "\n".join(line for section in sections.values() for line in section).rstrip() + "\n"
    if names:
        print(text)
    else:
        write_atomically(DOCUMENT, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
