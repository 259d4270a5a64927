"""The documents that tools/conformance.py writes, from small reports; and those that were written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hifi_ref.conform.diagnose import Diagnosis
from hifi_ref.conform.judge import DIFFERS, EXACT
from hifi_ref.conform.report import CONFORMS, NOT, NOT_OFFERED, CellReport, Failure, Report, Subject
from tools.conformance import JUDGED, NOT_JUDGED, heading
from tools.conformance_pages import Missing, Page, page_text, pages_of, table_text, write

DOCS = Path(__file__).resolve().parent.parent / "docs"


def cell(target: str, operation: str, failed: int = 0, verdict: str = "") -> CellReport:
    failure = Failure("0123", "g", (), "", 7, "d", None, None, "1.0", "2.0", None, f"python -m conform {target}")
    diagnosis = Diagnosis("half to even", None, "Rounds ties to the even code.", failed, failed) if failed else None
    failures = (failure,) if failed else ()
    counts = {EXACT: 9 - failed, DIFFERS: failed} if failed else {EXACT: 9}
    return CellReport("Q4_0", operation, verdict or (NOT if failed else CONFORMS), 9, counts, 0, 0, diagnosis, failures)


def subject(part: str, failed: int = 0) -> Subject:
    cells = (cell(part, "decode"), cell(part, "encode", failed), cell(part, "dot", verdict=NOT_OFFERED))
    return Subject(f"ggml:lib#{part}", part, ({"file": f"lib-{part}.so", "sha256": part * 2},), cells)


def report(*subjects: Subject, **known: str) -> Report:
    return Report("0.1", "llama.cpp", 1, {"cases": 27}, {"system": "Linux"}, subjects, known)


def test_a_report_of_one_subject() -> None:
    (page,) = pages_of("lib", "A library", "Of PyPI.", report(subject("ggml", failed=2)))
    assert (page.file, page.title, page.offered, page.conforming) == ("lib", "A library", 2, 1)
    text = page_text(page)
    assert text.startswith("# A library\n\nOf PyPI.\n\n**Does not conform**: 1 of 2 cells do.\n")
    assert "- `lib-ggml.so` sha256 `ggmlggml`" in text and "| Q4\\_0 | 9 exact | 2 of 9 wrong |" in text
    assert "- **Q4_0.encode**: 2 of 9 wrong. Rounds ties" in text and "`python -m conform ggml`" in text


def test_what_conforms_has_no_deviations() -> None:
    (page,) = pages_of("lib", "A library", "Of PyPI.", report(subject("ggml")))
    text = page_text(page)
    assert "**Conforms**: 2 of 2 cells do." in text and "What does not conform" not in text


def test_parts_alike_share_a_page() -> None:
    parts = [subject("avx"), subject("sse", failed=2), subject("avx2"), replace(subject("old"), fault="it hung")]
    found = pages_of("lib", "A library", "Of PyPI.", report(*parts, **{"ggml:lib#new": "cannot run here"}))
    assert [one.title for one in found] == [f"A library: {x}" for x in ("avx, avx2", "sse", "old", "new")]
    assert [one.file for one in found if isinstance(one, Page)] == ["lib-avx", "lib-sse"]
    assert found[0].libraries == ("`lib-avx.so` sha256 `avxavx`", "`lib-avx2.so` sha256 `avx2avx2`")
    assert found[2:] == [Missing("A library: old", "it hung"), Missing("A library: new", "cannot run here")]


def test_commands_of_parts_alike() -> None:
    """Only the target's part differs in the commands that reproduce a failure."""
    parts = [replace(subject(p), cells=(cell(f"ggml:lib#{p}", "encode", failed=1),)) for p in ("zen4", "icelake")]
    (page,) = pages_of("lib", "A library", "Of PyPI.", report(*parts))
    assert page.title == "A library: zen4, icelake" and "ggml:lib#zen4" in page_text(page)


def test_the_table_and_its_pages(tmp_path: Path) -> None:
    first = pages_of("lib", "A library", "Of PyPI.", report(subject("avx", failed=1), subject("sse")))
    write(tmp_path, "# Who", first, [Missing("Another", "no build")])
    assert (tmp_path / "conformance.md").read_text() == (
        "# Who\n\n| judged | cells | conform | do not |\n|---|---|---|---|\n"
        "| [A library: avx](conformance/lib-avx.md) | 2 | 1 | 1 |\n"
        "| [A library: sse](conformance/lib-sse.md) | 2 | 2 | 0 |\n\n"
        "## Not judged\n\n- Another: no build\n"
    )
    assert {path.name for path in (tmp_path / "conformance").iterdir()} == {"lib-avx.md", "lib-sse.md"}
    # A later run leaves no page that no row leads to.
    write(tmp_path, "# Who", [*pages_of("lib", "A library", "Of PyPI.", "pip failed"), *first[1:]], [])
    assert {path.name for path in (tmp_path / "conformance").iterdir()} == {"lib-sse.md"}
    assert "- A library: pip failed\n" in (tmp_path / "conformance.md").read_text()


def written() -> list[Page | Missing]:
    """The documents of the repository, read back into what they were written from."""
    rows = re.findall(r"^\| \[(.+)\]\(conformance/(.+)\.md\) \| (\d+) \| (\d+) \|", table(), re.MULTILINE)
    found: list[Page | Missing] = []
    for title, file, offered, conforming in rows:
        text = (DOCS / "conformance" / f"{file}.md").read_text()
        (target,) = re.findall(r"^Target: `(.*)`$", text, re.MULTILINE)
        libraries = tuple(re.findall(r"^- (`.*` sha256 `.*`)$", text, re.MULTILINE))
        cells = tuple(line for line in text.splitlines() if line.startswith("|"))
        deviations = tuple(text.partition("## What does not conform\n")[2].splitlines())
        about = text.splitlines()[2]
        found.append(Page(file, title, about, target, libraries, cells, deviations, int(offered), int(conforming)))
    missing = re.findall(r"^- (.+?): ([^:]+)$", table().partition("## Not judged")[0], re.MULTILINE)
    return [*found, *(Missing(*one) for one in missing)]


def table() -> str:
    return (DOCS / "conformance.md").read_text()


def test_what_was_written_has_this_shape() -> None:
    """The repository's pages are those that the writer makes of their content, and its own titles and reasons."""
    found = written()
    for page in found:
        assert page_text(page) == (DOCS / "conformance" / f"{page.file}.md").read_text()
        judged = sum(cell.strip() != "-" for row in page.cells[2:] for cell in row.split("|")[2:-1])
        failing = sum(line.startswith("- **") for line in page.deviations)
        assert (page.offered, page.offered - page.conforming) == (judged, failing), page.file
    reasons = table().partition("## Not judged\n")[2]
    assert all(f"- {one.title}: {one.why}\n" in reasons for one in NOT_JUDGED)
    rows = table_text("", found, []).strip()
    assert rows in table()
    assert {path.stem for path in (DOCS / "conformance").glob("*.md")} == {page.file for page in found}
    assert {page.title.partition(": ")[0] for page in found} == {one.title.partition(": ")[0] for one in JUDGED}
    assert heading([]).split("\n\n")[1] in table()
