"""The reports of `check`: JSON by its schema, a page that refers to nothing, and what the documentation shows."""

from __future__ import annotations

import base64
import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema

from hifi_ref.check.report_json import SCHEMA_FILE
from tests.check.helpers import compare, different
from tests.hostile import run_check


def test_the_report(folder: Path) -> None:
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf")
    assert code == 0
    assert "blk.0.attn_q.weight       Q4_K  256 x 256          4.5     256  the same         -\n" in out
    assert out.endswith(
        "reproduced: every block of every tensor\n\n15.gguf: every tensor is bit for bit what the reference encoder "
        "(llama.cpp v0.5.0, x86-64) writes from f32.gguf (12 tensors, 2816 blocks, 525056 weights).\n\n"
        "rests on: 1 file, 12 tensors, 2816 blocks looked at, 2816 compared; 16 metadata entries compared; "
        "hifi_ref 0.1.0, llama.cpp v0.5.0\n"
        f"encoded again on: {', '.join(report['source']['encoded_on'])}\n"
        "recipe: Q4_K_M, as llama-quantize chooses\n"
        "loading: loads, architecture llama, by the tables of llama.cpp v0.5.0\n"
    )
    assert report["loading"]["kind"] == "loads" and report["rests_on"]["compared"] == 2816
    source = report["source"]
    assert (source["form"], source["reproduced"], source["outcomes"]) == ("GGUF", True, {"reproduced": 12})
    q = next(t["source"] for t in report["tensors"] if t["name"] == "blk.0.attn_q.weight")
    assert (q["source_type"], q["blocks_judged"], q["blocks_differing"], q["first"]) == ("F32", 256, 0, None)
    assert q["errors"]["rms"] == q["errors"]["reference_rms"] > 0 and sum(q["histogram"]) == 256
    assert [p.name for p in folder.iterdir() if p.name.endswith(".state")] == []


@functools.cache
def schema() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_reports_follow_their_schema(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "q.gguf"
    damaged = bytearray((folder / "15.gguf").read_bytes())
    damaged[-5000] ^= 1
    path.write_bytes(damaged)
    reports = [json.loads(run_check(path, "--json")[1]), compare(path, folder / "f32.gguf")[1]]
    reports.append(compare(path, folder / "f32.gguf", f"--imatrix={folder / 'imatrix.gguf'}", "--sample=2")[1])
    for report in reports:
        assert list(schema().iter_errors(report)) == []
    # A few blocks of one bit each: damage.
    assert {m for _, m in different(reports[1]).values()} == {"damage"}
    assert reports[0]["source"] is None and reports[0]["dialect"] == "llama.cpp"


class Page(HTMLParser):
    """What a page is made of: its tags in order, what it refers to, and its text; elements must nest."""

    VOID = ("meta", "img", "line", "rect", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.references, self.tags, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action", "data", "srcset")]
        if tag not in self.VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "<q>.gguf"
    damaged = bytearray((folder / "15.gguf").read_bytes())
    damaged[-5000] ^= 1
    path.write_bytes(damaged)
    target = tmp_path / "page.html"
    assert run_check(path, f"--source={folder / 'f32.gguf'}", f"--html={target}")[0] == 1
    text = target.read_text()
    page = Page(text)
    assert page.open == [] and "script" not in page.tags and "link" not in page.tags
    assert page.references and all(r.startswith("data:image/png;base64,") for r in page.references)
    assert not re.search(r"https?:|url\(|@import", text)
    words = " ".join(page.words)
    assert "Damaged against its source:" in words and "11 of 12" in words and "<q>.gguf" in words and "<q>" not in text
    assert page.tags.count("tr") == 13 and page.tags.count("img") == len(page.references) == 9
    for reference in page.references:
        assert base64.b64decode(reference.split(",")[1]).startswith(b"\x89PNG\r\n\x1a\n")
    # Without a source: the same page without what came of it.
    assert run_check(path, f"--html={target}")[0] == 0
    page = Page(target.read_text())
    assert page.open == [] and page.references == [] and page.tags.count("tr") == 13
