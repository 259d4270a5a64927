"""The command: expected failures, wrong usage, the pytest plugin, the installed package."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hifi_ref.conform import command, xfail
from tests.conform.helpers import SUITES, run
from tests.paths import ROOT


def test_a_failure_is_diagnosed_and_can_be_reproduced(spoilt: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, spoilt, "--formats=Q4_0,Q4_1")
    assert (code, err) == (1, "") and "Q4_0.decode swapped nibbles: matches" in out and "field qs[" in out
    line = next(line for line in out.splitlines() if "reproduce: " in line).split("reproduce: ")[1]
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "hifi_ref.conform"]
    code, out, _ = run(capsys, *words[3:])
    assert code == 1 and "1 of 1 wrong" in out


def test_the_documentation(spoilt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its example but for numbers and ids, which change where vectors are added; and every flag that needs words."""
    shutil.copy(tmp_path / "spoilt.py", tmp_path / "my_kernels.py")
    document = (ROOT / "docs" / "using-conform.md").read_text()
    words, output = re.search(r"\$ python -m hifi_ref.conform ([^\n]*)\n(.*?)```", document, re.DOTALL).groups()
    _, out, _ = run(capsys, *words.split())

    def masked(text: str) -> str:
        return re.sub(r"[0-9a-f]{16}|\d+(?= |,|$)", "#", text)

    shown = out.splitlines()[: output.count("\n")]
    heads = [[masked(line).split(": block")[0] for line in lines] for lines in (shown, output.splitlines())]
    assert heads[0] == heads[1]
    for option in set(re.findall(r"--(\w+)", run(capsys, "--help")[1])) - {
        "vectors",
        "timeout",
        "quiet",
        "debug",
        "help",
    }:
        assert f"--{option}" in document


def test_expected_failures(spoilt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "xfail.txt"

    def judged(text: str) -> tuple[int, str, str]:
        file.write_text(text)
        return run(capsys, spoilt, "--formats=Q4_0", "--operations=decode", f"--xfail={file}")

    code, out, _ = judged("# known\nQ4_0.decode: nibbles are swapped\n")
    assert code == 0 and "wrong, expected" in out and "expected: nibbles are swapped" in out
    code, out, _ = judged(f"Q4_0.decode {SUITES['Q4_0.decode'].cases[0].id}: this one\n")
    assert code == 1 and "does not conform" in out
    codes = {case.id: case.given["blocks"][2:] for case in SUITES["Q4_0.decode"].cases}
    passing = next(id for id, qs in codes.items() if (qs >> 4 == qs & 15).all())
    code, out, _ = judged(f"*.decode: all\nQ4_0.* {passing}: none\n")
    assert code == 1 and f"unexpected pass: line 2, Q4_0.* {passing}: none; remove that line" in out
    assert judged("Q4_0.decode:\n")[0::2] == (
        2, f"hifi_ref.conform: {file}, line 1: a reason is missing behind 'Q4_0.decode:'\n"
    )  # fmt: skip
    assert "is not FORMAT.OPERATION [ID or DEVIATION]: REASON" in judged("banana\n")[2]
    with pytest.raises(xfail.XfailError, match="cannot read"):
        xfail.read_expectations(tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "one TARGET is needed, 0 are given"),
        (("banana",), "'banana' is no python:MODULE, gguf-py, exec:COMMAND or ggml:DIR[#PART]"),
        (("ggml:/nowhere",), "there is no /nowhere"),
        (("ggml:/usr",), "/usr holds no libggml-base"),
        (("gguf-py", "--formats=Q9"), "no format of llama.cpp is called 'Q9'"),
        (("gguf-py", "--operations=add"), "no operation is called 'add'"),
        (("gguf-py", "--dialect=none"), "holds no vectors of the dialect 'none'"),
        (("gguf-py", "--only=zzz", "--formats=Q4_0"), "no case has the id 'zzz'"),
        (("gguf-py", "--level=3"), "--level=3"),
        (("gguf-py", "--formats=Q4_0", "--operations=decode", "--json=/nowhere/x"), "cannot write"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1, err


def test_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(command, "suites_of", broken)
    code, out, err = run(capsys, "gguf-py")
    assert (code, out, err.count("\n")) == (3, "", 1) and "a fault of hifi_ref itself (KeyError: 'x')" in err


def test_the_pytest_plugin(spoilt: str, tmp_path: Path) -> None:
    (tmp_path / "xfail.txt").write_text("Q4_0.decode: nibbles are swapped\n")
    words = [sys.executable, "-m", "pytest", "-p", "hifi_ref.conform.pytest_plugin", "-p", "no:jaxtyping", "-v"]
    words += [f"--hifi-ref-target={spoilt}", "--hifi-ref-formats=Q4_0", "--hifi-ref-operations=decode,dot"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "hifi_ref[Q4_0.decode] FAILED" in done.stdout, done.stdout + done.stderr
    assert "hifi_ref[Q4_0.dot] SKIPPED" in done.stdout and "swapped nibbles" in done.stdout
    done = subprocess.run([*words, "--hifi-ref-xfail=xfail.txt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1 skipped, 1 xfailed" in done.stdout
    done = subprocess.run([*words, "--hifi-ref-formats=Q9"], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "no format of llama.cpp is called 'Q9'" in done.stderr


def test_an_installed_package_has_its_data(tmp_path: Path) -> None:
    """The golden vectors, the templates of pages, their stylesheet and the schemas of reports."""
    source, out = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("hifi_ref", "golden"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command_line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={out}", str(source)]
    subprocess.run(command_line, check=True, capture_output=True)

    def data(folder: Path) -> set[Path]:
        code = (".py", ".pyc")
        return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix not in code}

    golden = out / "hifi_ref" / "golden"
    assert data(golden) == {path.relative_to(ROOT / "golden") for path in (ROOT / "golden").rglob("*.json")}
    shutil.move(golden, tmp_path / "golden")
    assert data(out / "hifi_ref") == data(ROOT / "hifi_ref")
    shutil.move(tmp_path / "golden", golden)
    program = "from hifi_ref.conform import cases; print(cases.vectors_folder())"
    environment = {"PYTHONPATH": str(out)}
    done = subprocess.run([sys.executable, "-c", program], cwd=out, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(golden), done.stderr
