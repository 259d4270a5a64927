"""The examples in docs/examples: each conforms, and does not where something in it is wrong."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conform.helpers import EXAMPLES, run
from tests.paths import ROOT


class Example(NamedTuple):
    """A source, what compiles it to kernels, its target; and a bug: what it replaces, and which cells then fail."""

    source: str
    compiler: tuple[str, ...]
    target: str
    right: str
    wrong: str
    fails: str


C = ("cc", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'golden'}", "-o", "kernels")
ALL = {
    "C": Example("kernels.c", (*C, "kernels.c", "-lm"), "exec:./kernels", "7 * g & 127", "8 * g & 127",
                 "IQ2_XXS.decode"),
    "JavaScript": Example("kernels.mjs", (), "exec:node kernels.mjs", "f32(f32(v * inverse) + 8.5)",
                          "v * inverse + 8.4", "Q4_0.encode"),
    "Python": Example("kernels.py", (), "python:kernels", "zip(*[iter(entry)] * 3, strict=True)", "[entry[:3]]",
                      "IQ2_XXS.decode"),
    "Rust": Example("kernels.rs", ("rustc", "-O", "--edition=2021", "-o", "kernels", "kernels.rs"), "exec:./kernels",
                    "sum as f32 * (widen(w) * widen(a))", "sum as f32 * (widen(w) * widen(w))", "Q8_0.dot"),
}  # fmt: skip
HERE = {name: e for name, e in ALL.items() if name != "Rust" or shutil.which("rustc")}


def judged(example: Example, bug: bool, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """In a folder with the repository's places: the example finds golden/grids.json from its own."""
    place = folder / "docs" / "examples" / "conform"
    place.mkdir(parents=True)
    (folder / "golden").symlink_to(ROOT / "golden")
    source = (EXAMPLES / example.source).read_text()
    assert source.count(example.right) == 1
    (place / example.source).write_text(source.replace(example.right, example.wrong) if bug else source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("PYTHONPATH", str(ROOT))
        if example.compiler:
            subprocess.run(example.compiler, check=True)
        return run(capsys, example.target, "--formats=Q4_0,Q8_0,IQ2_XXS", f"--level={1 if bug else 2}")


@pytest.mark.parametrize("language", HERE)
def test_an_example_conforms(language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = judged(HERE[language], False, tmp_path, capsys)
    assert (code, err) == (0, "") and "\nconforms (7 of 9 cells offered" in out and "declined" in out, out


@pytest.mark.parametrize("language", HERE)
def test_an_example_with_a_bug_does_not(language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = judged(HERE[language], True, tmp_path, capsys)
    assert (code, err) == (1, "") and f"does not conform: 1 cell, {HERE[language].fails} (" in out, out
