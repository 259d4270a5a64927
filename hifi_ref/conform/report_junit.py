"""The report as JUnit XML: a suite per subject, a test case per cell, so that other people's CI shows it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hifi_ref.conform.report import NOT, NOT_OFFERED, XFAIL, CellReport, Report, Subject
from hifi_ref.conform.report_lines import wrong

# XML has no place for the other control characters.
NOT_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]")


def to_junit(report: Report) -> str:
    """JUnit XML, one document."""
    root = ElementTree.Element("testsuites", name="hifi_ref.conform")
    known = {"vectors sha256": str(report.vectors.get("sha256", "")), **report.versions, **report.machine}
    for subject in report.subjects:
        _subject(root, subject, report.date, known)
    if report.unexpected_passes:
        suite = ElementTree.SubElement(
            root, "testsuite", name="xfail", tests=str(len(report.unexpected_passes)),
            failures=str(len(report.unexpected_passes)), errors="0", skipped="0",
        )  # fmt: skip
        for line in report.unexpected_passes:
            case = ElementTree.SubElement(suite, "testcase", classname="xfail", name=_clean(line))
            ElementTree.SubElement(case, "failure", message="unexpected pass: remove that line")
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _subject(root: ElementTree.Element, subject: Subject, date: str, known: dict[str, str]) -> None:
    verdicts = [cell.verdict for cell in subject.cells]
    suite = ElementTree.SubElement(
        root, "testsuite", name=_clean(subject.target), tests=str(len(verdicts) + (subject.fault is not None)),
        failures=str(verdicts.count(NOT)), errors=str(int(subject.fault is not None)),
        skipped=str(verdicts.count(NOT_OFFERED) + verdicts.count(XFAIL)),
    )  # fmt: skip
    if date:
        suite.set("timestamp", date.rstrip("Z"))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in known.items():
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    if subject.fault is not None:
        case = ElementTree.SubElement(suite, "testcase", classname=_clean(subject.target), name="start")
        ElementTree.SubElement(case, "error", message=_clean(subject.fault))
    for cell in subject.cells:
        case = ElementTree.SubElement(suite, "testcase", classname=f"hifi_ref.{cell.format}", name=cell.operation)
        if cell.verdict == NOT_OFFERED:
            ElementTree.SubElement(case, "skipped", message="not offered")
        elif cell.verdict == XFAIL:
            reason = f"fails as expected: {cell.failures[0].expected_to_fail}"
            ElementTree.SubElement(case, "skipped", message=_clean(reason))
        elif cell.verdict == NOT:
            failure = ElementTree.SubElement(case, "failure", message=wrong(cell))
            failure.text = _clean(_failure_text(cell))


def _failure_text(cell: CellReport) -> str:
    lines = [] if cell.diagnosis is None else [f"diagnosis: {cell.diagnosis}"]
    for failure in cell.failures:
        lines += [f"{failure.id} ({failure.group}): {failure}", f"  reproduce: {failure.reproduce}"]
    return "\n".join(lines)


def _clean(text: str) -> str:
    return NOT_XML.sub("?", text)
