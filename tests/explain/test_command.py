"""The command: its text, page and data, its exit codes, and that it loads no jax."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hifi_ref.explain import command, page
from hifi_ref.explain.parts import Fold, Listing, Paragraph, Table, to_html, to_markdown, to_text
from hifi_ref.formats import FORMATS
from tests.explain.schema import SCHEMA

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(arguments)
    return code, *capsys.readouterr()


class Closed(HTMLParser):
    """Every element of a page is closed, in order."""

    VOID = ("meta", "rect", "path", "circle", "polyline", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["Q4_K", "IQ2_XXS", "F32", "Q4_K_HIFI"])
def test_one_explanation_three_renderings(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html, data = tmp_path / "page.html", tmp_path / "data.json"
    code, text, err = run(capsys, name.lower(), f"--html={html}", f"--json={data}")
    assert (code, err) == (0, "") and text.startswith(f"{name}: ")
    explained = json.loads(data.read_text())
    SCHEMA.validate(explained)
    assert explained["format"] == name and explained["schema"] == "hifi_ref.explain/1"
    assert not SCHEMA.is_valid(explained | {"more": 1}) and not SCHEMA.is_valid(explained | {"worked": {}})
    written = html.read_text()
    checked = Closed()
    checked.feed(written)
    assert not checked.open and checked.found.count("svg") >= 2
    assert "<script" not in written and not re.search(r"<link|src=|url\(|@import", written)
    for shown in explained["worked"]["by_hand"][:1]:
        for _, how in shown["lines"]:
            assert how in text and how in written.replace("&lt;", "<").replace("&#8203;", "")


@pytest.mark.parametrize("name", FORMATS)
def test_the_page_as_markdown(name: str) -> None:
    """Headings from level 2 on; pictures that are SVG, with a text alternative, and no empty line in HTML."""
    text = page.markdown(name)
    heads = re.findall(r"^(#+) ", text, re.MULTILINE)
    assert heads[0] == "##" and set(heads) <= {"##", "###"}
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) >= 2
    for picture in pictures:
        assert "\n\n" not in picture
        root = ElementTree.fromstring(picture)
        assert root.get("role") == "img" and len(root.get("aria-label", "")) > 20
    for fold in re.findall(r"<details>.*?</details>", text, re.DOTALL):
        assert "\n\n" not in fold
    assert "src=" not in text and "href=" not in text


def test_what_is_folded_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    folded, opened = run(capsys, "Q4_0")[1], run(capsys, "Q4_0", "--all")[1]
    assert "[Solution: weight 30: --all shows it]" in folded and len(opened) > len(folded) and "[" not in opened[:10]
    assert "Solution: weight 30\n" in opened


def test_json_in_place_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "Q8_0", "--json")[1])["type_size"] == 34


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "a FORMAT, or a FILE and a TENSOR, are needed, none are given"),
        (("Q4_0", "Q4_1"), "cannot read Q4_0: No such file or directory"),
        (("Q4_KM",), "no format is called 'Q4_KM'; near it are Q4_K, "),
        (("q4_k_m",), "Q4_K_M is a mixture of formats, named after Q4_K: explain Q4_K"),
        (("zzz",), "no format is called 'zzz'"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith(f"hifi_ref.explain: {sentence}") and err.count("\n") == 1


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "Q4_0", f"--html={tmp_path}/no/page.html")
    assert (code, out) == (2, "") and "cannot write" in err


def test_no_jax_is_loaded() -> None:
    script = "import sys; from hifi_ref.explain import command; assert command.main(['Q4_K']) == 0; " \
             "sys.exit('jax' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_the_excerpts_of_the_documents(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of text in docs/explain.md stands in the output of the command that is named before it."""
    text = (DOCS / "explain.md").read_text()
    found = re.findall(r"`explain ([^`]+)`(?:(?!`explain ).)*?```text\n(.*?)```", text, re.DOTALL)
    assert len(found) == text.count("```text") == 5
    monkeypatch.chdir(DOCS.parent)
    for arguments, excerpt in found:
        assert excerpt in run(capsys, *arguments.split())[1]


def test_the_renderings_of_parts() -> None:
    parts = [
        Paragraph("a < b, `c_d` and e_f*"), Table(("x", "y"), [("1", "`a|b`")], right=(0,)),
        Fold("more", [Listing("l1\n\nl2")]),
    ]  # fmt: skip
    assert to_text(parts) == "a < b, c_d and e_f*\n\n  x  y\n  1  a|b\n\n[more: --all shows it]\n"
    assert "l1\n" in to_text(parts, opened=True)
    assert to_markdown(parts[:2]) == "a \\< b, `c_d` and e\\_f\\*\n\n| x | y |\n| ---: | --- |\n| 1 | `a\\|b` |\n"
    html = to_html(parts)
    assert "<p>a &lt; b, <code>c_d</code> and e_f*</p>" in html and "\n\n" not in html
    assert "<details><summary>more</summary>" in html and '<td class="n">1</td>' in html
