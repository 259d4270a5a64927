"""Every form of the report."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from golden import judge
from hifi_ref.conform import cases, report, report_markdown
from tests.conform.helpers import SCHEMA, SUITES, run


def test_every_report(
    spoilt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("json", "junit", "html", "markdown")}
    flags = [f"--{kind}={path}" for kind, path in paths.items()]
    assert run(capsys, spoilt, "--formats=Q4_0,Q8_0", *flags)[0] == 1
    content = json.loads(paths["json"].read_text())
    SCHEMA.validate(content)
    assert content["date"] == "2026-01-01T00:00:00Z"
    verdicts = {(c["format"], c["operation"]): c["verdict"] for c in content["subjects"][0]["cells"]}
    assert verdicts[("Q4_0", "decode")] == report.NOT and verdicts[("Q8_0", "dot")] == report.NOT_OFFERED

    root = ElementTree.fromstring(paths["junit"].read_text())
    assert root.tag == "testsuites" and [suite.tag for suite in root] == ["testsuite"]
    for element in (root, root[0]):
        counted = {key: int(element.get(key)) for key in ("tests", "failures", "errors", "skipped")}
        assert counted == {"tests": 6, "failures": 1, "errors": 0, "skipped": 5}
    assert [element.tag for element in root[0]] == ["properties", *["testcase"] * 6]
    (failure,) = root.iter("failure")
    assert "swapped nibbles" in failure.text and "reproduce" in failure.text

    page = paths["html"].read_text()
    assert page.startswith("<!DOCTYPE html>") and "http" not in page and "swapped nibbles" in page
    balance(page)
    markdown = paths["markdown"].read_text()
    assert "| Q4\\_0 |" in markdown
    # When, by whom, on what, in every form; and nothing that must be unfolded.
    facts = [content["date"], content["vectors"]["sha256"], f"numpy {content['versions']['numpy']}"]
    assert all(fact in page and fact in markdown for fact in facts) and "<details" not in page
    properties = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert properties["vectors sha256"] == facts[1] and properties["numpy"] == content["versions"]["numpy"]
    assert root[0].get("timestamp") == facts[0].rstrip("Z")


def balance(page: str) -> None:
    """Every element that is opened is closed, in order."""
    opened: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in ("meta", "br"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Parser().feed(page)
    assert not opened


def test_the_digest_is_of_what_is_asked_and_expected() -> None:
    """Anybody can compute it from a file of vectors."""
    suite = SUITES["Q4_0.dot"]
    lines = []
    for test in judge.all_tests(judge.load("Q4_0", "dot")):
        more = f" rows={test['rows']}" if "rows" in test else ""
        lines.append(f"dot Q4_0 {test['w']} {test['a']}{more} {test['expected']}\n")
    assert cases.digest([suite]) == hashlib.sha256("".join(lines).encode()).hexdigest()
    other = replace(suite.cases[0], expected=suite.cases[0].expected + np.float32(1))
    assert cases.digest([replace(suite, cases=(other, *suite.cases[1:]))]) != cases.digest([suite])


def failing_cell(name: str, size: int) -> report.CellReport:
    failure = report.Failure("0123", "g", (), "x" * size, reproduce="python -m hifi_ref.conform a")
    return report.CellReport(name, "decode", report.NOT, 9, {"differs": 9}, 0, 0, None, (failure,))


def many(subjects: int, cells: int, size: int) -> report.Report:
    judged = tuple(
        report.Subject(f"exec:{i}", "ä_" * size, (), tuple(failing_cell(f"F{j}", size) for j in range(cells)))
        for i in range(subjects)
    )
    return report.Report("1", "llama.cpp", 1, {"suites": 1, "cases": 1}, {"cpu": "c"}, judged, {"b": "y" * size})


@pytest.mark.parametrize(("subjects", "cells", "size"), [(1, 3, 10), (2, 300, 90), (900, 2, 9), (1, 1, 70000)])
def test_markdown_fits_a_pull_request(subjects: int, cells: int, size: int) -> None:
    whole, text = (report_markdown.to_markdown(many(subjects, cells, size), limit) for limit in (1 << 40, 65536))
    assert text.startswith("# does not conform") and len(text.encode()) <= 65536
    assert (text == whole) == (len(whole.encode()) < 65000)
    left_out = re.search(r"\nLeft out, so that this fits a pull request: (.*?)\. The other forms", text)
    assert (left_out is None) == (text == whole)
    # What is shown and what is counted as left out are all there is.
    counted = dict(re.findall(r"([a-z ]+?) \((\d+)\)", left_out[1] if left_out else ""))
    counted = {kind.strip(): int(n) for kind, n in counted.items()}
    assert text.count("- **F") + counted.get("failing cell", 0) == subjects * cells
    assert text.count("\n## ") + counted.get("heading", 0) == subjects
    assert text.count("| format |") + counted.get("table", 0) == subjects
    assert text.count("Not judged: b") + counted.get("not judged", 0) == 1
