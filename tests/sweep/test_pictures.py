"""The pictures: the same each time, whole in one file, and refused in a sentence where their library is missing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from hifi_ref.sweep import command, drawing
from tests.sweep.test_command import FORMATS, run


def test_page_and_drawing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page, svg = tmp_path / "x.html", tmp_path / "x.svg"
    call = ("gauss", "--sample=2048", "--families=llama.cpp,hyper-single", "--optimum=256", f"--html={page}")
    assert run(capsys, *call, f"--svg={svg}")[0] == 0
    text = page.read_text()
    assert not re.search(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=", text)
    assert "Which to choose" in text and "least loss that a format" in text and "8 x 8 with fp8" in text
    shown = "".join(ET.fromstring(svg.read_text()).itertext())
    assert all(words in shown for words in ("Q4_K", "IQ2_XXS", "bits per weight", "fp8 at half the block", "frontier"))


def test_the_same_again(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = []
    monkeypatch.setattr(drawing, "to_svg", lambda result: found.append(result) or "")
    assert run(capsys, "gauss", "--sample=1024", FORMATS, f"--svg={tmp_path / 'x.svg'}")[0] == 0
    monkeypatch.undo()
    assert drawing.to_svg(found[0]) == drawing.to_svg(found[0])


def test_without_the_libraries(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    for flag, library in (("html", "plotly"), ("svg", "matplotlib")):
        message = f"hifi_ref.sweep: --{flag} needs {library}: pip install 'hifi-ref[sweep]'\n"
        assert run(capsys, "gauss", f"--{flag}=/tmp/none") == (2, "", message)
