"""What every form of the report says in the same words: verdicts, counts, the matrix, a failing cell."""

from __future__ import annotations

from collections import Counter

from hifi_ref.conform.cases import OPERATIONS
from hifi_ref.conform.deviations import DEVIATIONS
from hifi_ref.conform.judge import ACCEPTABLE, BOUND, EXACT, OPEN, UNBOUNDED
from hifi_ref.conform.report import NOT, NOT_OFFERED, XFAIL, CellReport, Report, Subject
from hifi_ref.formats.builds import STRICT


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
    says |= {flag: f"without this fault: {text}" for cell in subject.cells for flag, text in cell.says.items()}
    lines = []
    for flag, cells in subject.deviations.items():
        n = sum(cell.deviations[flag] for cell in cells)
        lines.append(f"acceptable: {flag}, {n} case{'s' * (n > 1)} of {', '.join(c.name for c in cells)}: {says[flag]}")
    for flag, cells in subject.faults.items():
        n = sum(cell.faults[flag] for cell in cells)
        names = ", ".join(c.name for c in cells)
        lines.append(f"known fault: {flag}, {n} case{'s' * (n > 1)} of {names}: {cells[0].says[flag]}")
    return [*lines, *(f"profile: {match}" for match in subject.profiles)]


def verdict_line(report: Report) -> str:
    """One line for all."""
    matches = dict.fromkeys(match for subject in report.subjects for match in subject.profiles)
    return "; ".join([_verdict(report), *map(str, matches)])


def _verdict(report: Report) -> str:
    to = "" if report.profile == STRICT else f" to profile {report.profile}"
    if report.conforms:
        counts: Counter[str] = Counter()
        for subject in report.subjects:
            for cell in subject.cells:
                counts.update(cell.deviations)
        flags = ", ".join(f"{flag} ({n})" for flag, n in sorted(counts.items()))
        shown = sorted({flag for subject in report.subjects for flag in subject.faults})
        faults = f"; with the known faults of its system: {', '.join(shown)}" if shown else ""
        return f"conforms{to}, with acceptable deviations: {flags}{faults}" if flags else f"conforms{to}{faults}"
    bad = [cell.name for subject in report.subjects for cell in subject.cells if cell.verdict == NOT]
    if not any(subject.offered for subject in report.subjects):
        return f"does not conform{to}: nothing was judged"
    if not bad:
        return f"does not conform{to}: see above"
    cells = "1 cell" if len(bad) == 1 else f"{len(bad)} cells"
    return f"does not conform{to}: {cells}, {', '.join(bad[:6])}{' and more' if len(bad) > 6 else ''}"


def matrix(subject: Subject) -> list[tuple[str, ...]]:
    """format x operation, with a head: what is offered of them."""
    operations, rows = matrix_cells(subject)
    return [("format", *operations), *((name, *map(summary, cells)) for name, cells in rows.items())]


def matrix_cells(subject: Subject) -> tuple[list[str], dict[str, list[CellReport | None]]]:
    """The operations of which anything is offered, and the cells of each format in their order."""
    offered = subject.offered
    known = dict.fromkeys([*OPERATIONS, *(cell.operation for cell in offered)])
    operations = [op for op in known if any(cell.operation == op for cell in offered)]
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


def facts_line(report: Report) -> str:
    """When that was, what was asked, and who judged where."""
    versions = [f"{name} {version}" for name, version in report.versions.items()]
    digest = f"vectors sha256 {report.vectors['sha256']}" if "sha256" in report.vectors else ""
    return "; ".join(filter(None, [report.date, digest, ", ".join(versions), ", ".join(report.machine.values())]))


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
