"""Several models checked in one run: what was found of each, one table, one list of reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hifi_ref.check.report import Report, findings_lines, headline, totals, verdict_text
from hifi_ref.check.report_json import SCHEMA
from hifi_ref.check.report_json import to_json as one_to_json
from hifi_ref.commands import terminal
from hifi_ref.model_files.file_types import file_type, file_type_name
from hifi_ref.model_files.files import name_of
from hifi_ref.model_files.gguf_file import printable


class Refused(NamedTuple):
    """A file that could not be checked, and why, in a sentence."""

    path: str
    sentence: str


def to_text(reports: Sequence[Report | Refused], colour: bool = False) -> str:
    """What was found of each model, and a table of their verdicts."""
    parts: list[RenderableType] = []
    for report in reports:
        if isinstance(report, Refused):
            parts += [report.sentence, ""]
        elif report.findings.counts:
            parts += [headline(report), "", *findings_lines(report)]
    parts.append(_table(reports))
    sentences = [report.verdict.sentence for report in reports if isinstance(report, Report)]
    parts += ["", *filter(None, sentences)] if any(sentences) else []
    compared = [report.comparison for report in reports if isinstance(report, Report) and report.comparison]
    workers = sorted({worker for comparison in compared for worker in comparison.encoded_on})
    parts += [f"encoded again on: {', '.join(workers)}"] if workers else []
    return terminal.rendered(parts, colour)


def to_json(reports: Sequence[Report | Refused]) -> list[dict[str, object]]:
    """One report a model; of a file that could not be checked its path and why."""
    return [
        {"schema": SCHEMA, "path": report.path, "refused": report.sentence}
        if isinstance(report, Refused)
        else one_to_json(report)
        for report in reports
    ]


def page_names(paths: Sequence[str]) -> list[str]:
    """A name for the page of each model, after its first file; numbers tell those apart that are called the same."""
    names: list[str] = []
    for path in paths:
        stem = name_of(path)
        same = sum(name_of(other) == stem for other in paths[: len(names)])
        names.append(f"{stem}{f'.{same}' if same else ''}.html")
    return names


def _table(reports: Sequence[Report | Refused]) -> Table:
    rows: list[tuple[str | Text, ...]] = [
        ("model", "files", "type", "tensors", "bytes", "bits/weight", "loading", "verdict")
    ]
    for report in reports:
        name = printable(report.path)
        if isinstance(report, Refused):
            rows.append((name, "", "", "", "", "", "", Text("cannot be checked", "bold red")))
            continue
        number, total = file_type(report.gguf), totals(report.gguf.tensors)
        kind = "-" if number is None else file_type_name(number) or str(number)
        bits = total["bits_per_weight"]
        numbers = (str(total["tensors"]), str(report.size), "" if bits is None else f"{bits:.4g}")
        rows.append((name, str(len(report.parts)), kind, *numbers, report.loading.kind, verdict_text(report)))
    return terminal.table(rows, right=(1, 3, 4, 5))
