"""The `hifi-ref` command: what it hands on, and what it says otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hifi_ref
from hifi_ref import __main__ as command
from tests.paths import SAMPLE


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(arguments)
    return code, *capsys.readouterr()


def test_check_is_handed_on(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", str(SAMPLE), "--quiet")
    assert (code, err) == (0, "") and "\nsound: no findings\n" in out
    assert run(capsys, "check")[0] == 2


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_is_handed_on(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, name, "--help")
    assert (code, err) == (0, "") and out.startswith(f"usage: python -m hifi_ref.{name} ")
    assert run(capsys, name, "--nonsense") == (
        2, "", f"hifi_ref.{name}: Unknown command line flag 'nonsense' (--help tells the usage)\n"
    )  # fmt: skip
    assert f"\n  {name} " in run(capsys, "--help")[1]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--help")
    assert (code, err) == (0, "") and out.startswith("usage: hifi-ref COMMAND ...\n") and run(capsys, "-h")[1] == out
    assert run(capsys, "--version") == (0, f"hifi-ref {hifi_ref.__version__}\n", "")


def test_anything_else_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "chek", "f") == (2, "", "hifi-ref: there is no command 'chek' (--help tells the usage)\n")
    assert run(capsys) == (2, "", "hifi-ref: a command is needed (--help tells the usage)\n")


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "hifi_ref", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
