"""docs/findings.md and what writes it: a deviation that is there is shown, one that is not ends the run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from golden import judge
from tests.conform.helpers import SUITES
from tests.paths import ROOT
from tools import findings
from tools.findings_list import ADAPTERS, FINDINGS, NO, SUBJECTS, YES, Finding, Subject

PAGE = (ROOT / "docs" / "findings.md").read_text()
SWAPS = (
    "from hifi_ref import api\n"
    "def decode(name, blocks):\n"
    "    blocks = blocks.copy()\n"
    "    blocks[:, 2:] = blocks[:, 2:] >> 4 | blocks[:, 2:] << 4\n"
    "    return api.decode(name, blocks, lane='numpy')\n"
)


def test_the_page_has_every_finding() -> None:
    for finding in FINDINGS:
        assert f"### {finding.cell}: {finding.id}\n\n{finding.what} Harm: {finding.harm}, {finding.why}." in PAGE
    assert PAGE.count("\n### ") == PAGE.count("\n$ ") == len(FINDINGS)
    harm = sum(finding.harm == YES for finding in FINDINGS)
    assert f"{len(FINDINGS)} findings, of which {harm} do harm." in PAGE
    assert re.findall("^## (.*)$", PAGE, re.MULTILINE) == [s.name for s in SUBJECTS.values()]


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda f: f"{f.subject} {f.cell}")
def test_a_finding_names_a_vector_and_what_repeats_it(finding: Finding) -> None:
    assert finding.id in {case.id for case in SUITES[finding.cell].cases}
    assert finding.harm in (YES, NO) and finding.subject in SUBJECTS
    assert not finding.link or re.fullmatch(r"https://github.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", finding.link)
    section = PAGE.split(f"## {SUBJECTS[finding.subject].name}\n")[1].split("\n## ")[0]
    part = section.split(f"### {finding.cell}: {finding.id}\n")[1]
    command = re.search(r"^\$ (.*)$", part, re.MULTILINE)[1]
    assert f"--only={finding.id}" in command and ("--strict" in command) == finding.strict
    assert f"\n{finding.id} (" in part


def test_adapters_are_there() -> None:
    for subject in SUBJECTS.values():
        kind, _, rest = subject.target.partition(":")
        if kind == "python":
            assert (ROOT / ADAPTERS / f"{rest}.py").is_file(), subject.target
        assert all((ROOT / file).is_file() for file in re.findall(rf"{ADAPTERS}/[\w.]+", subject.target))


@pytest.fixture
def swapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    (tmp_path / "swaps.py").write_text(SWAPS)
    monkeypatch.chdir(tmp_path)
    return Subject("a module that swaps nibbles", (), "python:swaps", (("PYTHONPATH", f".:{ROOT}"),))


def test_a_deviation_is_shown_and_can_be_repeated(swapping: Subject) -> None:
    test = judge.all_tests(judge.load("Q4_0", "decode"))[2]
    finding = Finding("swaps", "Q4_0.decode", test["id"], "Nibbles are swapped.", YES, "of course", "https://x.org/1")
    report, cell = findings.asked(swapping, finding)
    assert not report.conforms
    text = "\n".join(findings.shown(swapping, finding, cell))
    assert text.startswith(
        f"### Q4_0.decode: {test['id']}\n\nNibbles are swapped. Harm: yes, of course. Upstream: <https"
    )
    assert f"$ PYTHONPATH=.:{ROOT} python -m hifi_ref.conform python:swaps --formats=Q4_0" in text
    assert "expected" in text and "swapped nibbles" in text


def test_what_is_not_so_ends_the_run(
    swapping: Subject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {case.id: case.given["blocks"][2:] for case in SUITES["Q4_0.decode"].cases}
    passing = next(id for id, qs in codes.items() if (qs >> 4 == qs & 15).all())
    finding = Finding("swaps", "Q4_0.decode", passing, "", YES, "")
    with pytest.raises(findings.NotShownError, match=f"swaps, Q4_0.decode {passing}: no failure was seen"):
        findings.asked(swapping, finding)
    monkeypatch.setattr(findings, "SUBJECTS", {"swaps": swapping})
    monkeypatch.setattr(findings, "FINDINGS", (finding,))
    monkeypatch.setattr(findings, "DOCUMENT", Path("page.md"))
    assert findings.main([]) == 1 and "no failure was seen" in capsys.readouterr().err
    assert not Path("page.md").exists()
    monkeypatch.setattr(findings, "SUBJECTS", {"swaps": swapping._replace(target="python:nowhere_at_all")})
    assert findings.main([]) == 1 and "there is no module 'nowhere_at_all'" in capsys.readouterr().err
