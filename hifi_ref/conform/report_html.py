"""The report as one self-contained HTML page."""

from __future__ import annotations

from html import escape

from hifi_ref.conform.report import CONFORMS, NOT, XFAIL, CellReport, Report, Subject, summary, verdict_line

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; font-variant-numeric: tabular-nums }
.good { background: #e4f4e4 } .bad { background: #f8d8d8 } .known { background: #fdf0cc } .none { color: #888 }
code { background: #f2f2f2; padding: 0 .2rem; overflow-wrap: anywhere } h1 .bad, h1 .good { padding: 0 .4rem }
@media (prefers-color-scheme: dark) {
  body { background: #1c1c1c; color: #ddd } th, td { border-color: #555 } code { background: #333 }
  .good { background: #1d3a1d } .bad { background: #4a1f1f } .known { background: #453a12 }
}
"""
CLASS = {CONFORMS: "good", NOT: "bad", XFAIL: "known"}


def to_html(report: Report) -> str:
    """A whole document; it loads nothing."""
    verdict = f'<span class="{"good" if report.conforms else "bad"}">{escape(verdict_line(report))}</span>'
    cases = f"{report.vectors['cases']} cases of {report.dialect}, level {report.level}"
    facts = [cases, f"hifi_ref {report.version}", *report.machine.values()]
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>hifi_ref.conform</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{verdict}</h1>",
        f"<p>{escape(', '.join(facts))}</p>",
    ]
    parts += map(_subject, report.subjects)
    notes = [f"not judged: {target}: {why}" for target, why in report.not_judged.items()]
    notes += [f"unexpected pass: {line}; remove that line" for line in report.unexpected_passes]
    if notes:
        parts.append(f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def _subject(subject: Subject) -> str:
    parts = [f"<h2>{escape(subject.target)}</h2>", f"<p>{escape(subject.name)}</p>"]
    for library in subject.libraries:
        parts.append(f"<p><code>{escape(library['file'])}</code> sha256 <code>{library['sha256']}</code></p>")
    if subject.fault is not None:
        return "\n".join([*parts, f'<p class="bad">not judged: {escape(subject.fault)}</p>'])
    offered = subject.offered
    operations = [op for op in ("decode", "encode", "dot") if any(cell.operation == op for cell in offered)]
    cells = {(cell.format, cell.operation): cell for cell in offered}
    parts.append("<table>\n<tr><th>format</th>" + "".join(f"<th>{op}</th>" for op in operations) + "</tr>")
    for name in dict.fromkeys(cell.format for cell in offered):
        row = "".join(_cell(cells.get((name, op))) for op in operations)
        parts.append(f"<tr><th>{escape(name)}</th>{row}</tr>")
    return "\n".join([*parts, "</table>", *(_failures(cell) for cell in subject.cells if cell.failures)])


def _cell(cell: CellReport | None) -> str:
    css = "none" if cell is None else CLASS[cell.verdict]
    return f'<td class="{css}">{escape(summary(cell))}</td>'


def _failures(cell: CellReport) -> str:
    parts = [f"<details><summary>{escape(cell.name)}: {cell.failed} of {cell.cases} wrong</summary>"]
    if cell.diagnosis is not None:
        parts.append(f"<p>Diagnosis: {escape(str(cell.diagnosis))}</p>")
    parts.append("<ul>")
    for failure in cell.failures:
        known = f" Expected: {escape(failure.expected_to_fail)}." if failure.expected_to_fail else ""
        what = f"<code>{failure.id}</code> ({escape(failure.group)}): {escape(str(failure))}.{known}"
        parts.append(f"<li>{what}<br><code>{escape(failure.reproduce)}</code></li>")
    return "\n".join([*parts, "</ul></details>"])
