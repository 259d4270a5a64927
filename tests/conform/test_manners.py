"""What goes wrong in an adapter, whole or in one sentence; and what an interrupt leaves."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conform.helpers import SUITES, run
from tests.paths import ROOT

ONE = ("--formats=Q4_0", "--operations=decode", f"--only={SUITES['Q4_0.decode'].cases[0].id}")
RAISES = (
    "import sys\n"
    "def decode(name, blocks):\n"
    "    print('about to fail', file=sys.stderr)\n"
    "    return helper(blocks)\n"
    "def helper(blocks):\n"
    "    raise ValueError('no such\\nthing')\n"
)


def placed(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "adapter.py").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")


def test_an_exception_is_a_sentence_and_with_debug_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    placed(RAISES, tmp_path, monkeypatch)
    code, out, err = run(capsys, "python:adapter", *ONE)
    assert (code, err) == (1, "") and "refused: 'raised ValueError: no such thing'\n" in out
    code, debugged, err = run(capsys, "python:adapter", *ONE, "--debug")
    assert (code, debugged) == (1, out)
    assert err.startswith("about to fail\nTraceback (most recent call last):\n") and err.count("Traceback") == 1
    assert 'adapter.py", line 6, in helper\n' in err and err.endswith("ValueError: no such\nthing\n")


def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    placed("def decode(:\n", tmp_path, monkeypatch)
    code, out, err = run(capsys, "python:adapter", *ONE)
    assert (code, err) == (1, "") and "not judged: ended with exit code 1: 'error: SyntaxError" in out
    code, debugged, err = run(capsys, "python:adapter", *ONE, "--debug")
    assert (code, debugged) == (1, out) and "def decode(:" in err and "Traceback" in err


def test_a_program_s_last_words_are_whole_with_debug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "program.sh"
    script.write_text("read line; echo ok; read line; echo first words >&2; echo last words >&2; exit 3\n")
    _, out, err = run(capsys, f"exec:sh {script}", *ONE)
    assert "ended with exit code 3: 'last words'" in out and err == ""
    _, out, err = run(capsys, f"exec:sh {script}", *ONE, "--debug")
    assert "ended with exit code 3: 'last words'" in out and err == "first words\nlast words\n"


def interrupted(words: list[str], cwd: Path, sign: Path) -> tuple[int, str, str]:
    """Exit code and output of a command that is interrupted, as from a terminal, when ``sign`` is there."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # What a shell runs in the background ignores interrupts, and so would all that it starts.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        [sys.executable, "-m", *words], cwd=cwd, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed,
    ) as process:  # fmt: skip
        while not sign.exists() and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_an_interrupt_leaves_one_line_and_no_half_of_a_report(tmp_path: Path) -> None:
    """Nor the program that was asked: it ends too. A report of an earlier run stays as it was."""
    (tmp_path / "old.json").write_text("an earlier report")
    sign = tmp_path / "asked"
    script = tmp_path / "program.sh"
    script.write_text(f"read line; echo ok; read line; echo $$ > {sign}.part; mv {sign}.part {sign}; sleep 60\n")
    reports = ["--json=old.json", "--html=new.html", "--junit=new.xml", "--markdown=new.md"]
    before = set(tmp_path.iterdir())
    code, out, err = interrupted(["hifi_ref.conform", f"exec:sh {script}", *reports], tmp_path, sign)
    assert (code, out, err) == (130, "", "hifi_ref.conform: interrupted\n")
    assert set(tmp_path.iterdir()) - before == {sign} and (tmp_path / "old.json").read_text() == "an earlier report"
    with pytest.raises(ProcessLookupError):
        os.kill(int(sign.read_text()), 0)


@pytest.mark.parametrize("command", ["check", "explain", "quantize", "perplexity", "ground"])
def test_an_interrupt_of_the_other_commands(command: str, tmp_path: Path) -> None:
    """While they read their flags, which takes a minute here."""
    sign = tmp_path / "asked"
    called = "guarded('check', main, [])" if command == "check" else "main([])"
    (tmp_path / "started.py").write_text(
        "import pathlib, sys, time\n"
        f"from hifi_ref.{command}.command import main\n"
        "from hifi_ref.commands import command_line\n"
        "from hifi_ref.commands.guarded import guarded\n"
        "def parse(*_, **__):\n"
        f"    pathlib.Path({str(sign)!r}).touch()\n"
        "    time.sleep(60)\n"
        "command_line.parse = parse\n"
        f"sys.exit({called})\n"
    )
    assert interrupted(["started"], tmp_path, sign) == (130, "", f"hifi_ref.{command}: interrupted\n")
