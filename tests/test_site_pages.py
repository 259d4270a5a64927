"""tools/site_pages.py and mkdocs.yml. What comes of them is tested by tests/browser."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from tests.paths import ROOT
from tools import site_pages


def test_every_document_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    named = re.findall(r"([\w/-]+\.md)$", nav, re.MULTILINE)
    assert len(set(named)) == len(named)
    documents = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert documents <= set(named)
    assert set(named) - documents == site_pages.MOVED.keys() | {"formats/index.md", "api.md"}


def converted(text: str, here: str, origins: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(site_pages, "ORIGINS", origins)
    page = SimpleNamespace(file=SimpleNamespace(src_uri=here))
    return site_pages.on_page_markdown(text, page, None, None)


def test_links_lead_to_the_page_of_what_they_name(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = site_pages.MOVED | {
        "check.md": "docs/check.md",
        "conformance/mlx.md": "docs/conformance/mlx.md",
        "formats/q4_0.md": "hifi_ref/formats/q4_0.py",
        "source/golden/hifi_ref.h.md": "golden/hifi_ref.h",
    }
    text = (
        "[a](../README.md#how-exact) [b](../hifi_ref/formats/q4_0.py) [c](../golden/hifi_ref.h) [d](#e) [f](check.md)"
    )
    assert converted(text, "check.md", origins, monkeypatch) == (
        "[a](index.md#how-exact) [b](formats/q4_0.md#source) [c](source/golden/hifi_ref.h.md) [d](#e) [f](check.md)"
    )
    assert converted("[a](../check.md)", "conformance/mlx.md", origins, monkeypatch) == "[a](../check.md)"
    assert converted("[a](docs/check.md)", "index.md", origins, monkeypatch) == "[a](check.md)"
    # Addresses and listings stay as they are.
    text = "[a](https://example.org/x.md)\n```c\n[b](../README.md) a[0][1]\n```\n"
    assert converted(text, "check.md", origins, monkeypatch) == text


def test_lists_and_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "1. one\n   - two\n\n   | three |\n    four\na[0][1] `a[0][1]`"
    expected = "1. one\n    - two\n\n    | three |\n    four\na[0]\\[1] `a[0][1]`"
    assert converted(text, "check.md", site_pages.MOVED, monkeypatch) == expected


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(PluginError, match=r"hifi_ref/nothing\.py is linked to and is not there"):
        site_pages.shown("hifi_ref/nothing.py")
    assert "- `Q4_0.decode.json`" in site_pages.shown("golden/llama.cpp")


def test_the_notebook_as_a_page() -> None:
    path = ROOT / "docs" / "notebook" / "blocks.ipynb"
    text = site_pages.markdown_of(path)
    assert text.startswith("# Three block formats from nothing")
    cells = json.loads(path.read_text())["cells"]
    assert text.count("```python\n") == sum(cell["cell_type"] == "code" for cell in cells)
    assert "```text\n8000 blocks, the same bytes" in text
