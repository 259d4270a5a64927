"""Every form of the report."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hifi_ref.conform import report
from tests.conform.helpers import SCHEMA, run


def test_every_report(spoilt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("json", "junit", "html", "markdown")}
    flags = [f"--{kind}={path}" for kind, path in paths.items()]
    assert run(capsys, spoilt, "--formats=Q4_0,Q8_0", *flags)[0] == 1
    content = json.loads(paths["json"].read_text())
    SCHEMA.validate(content)
    verdicts = {(c["format"], c["operation"]): c["verdict"] for c in content["subjects"][0]["cells"]}
    assert verdicts[("Q4_0", "decode")] == report.NOT and verdicts[("Q8_0", "dot")] == report.NOT_OFFERED

    root = ElementTree.fromstring(paths["junit"].read_text())
    assert root.tag == "testsuites" and [suite.tag for suite in root] == ["testsuite"]
    for element in (root, root[0]):
        counted = {key: int(element.get(key)) for key in ("tests", "failures", "errors", "skipped")}
        assert counted == {"tests": 6, "failures": 1, "errors": 0, "skipped": 5}
    assert len(root[0]) == 6 and {case.tag for case in root[0]} == {"testcase"}
    (failure,) = root.iter("failure")
    assert "swapped nibbles" in failure.text and "reproduce" in failure.text

    page = paths["html"].read_text()
    assert page.startswith("<!DOCTYPE html>") and "http" not in page and "swapped nibbles" in page
    balance(page)
    assert "| Q4\\_0 |" in paths["markdown"].read_text()


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
