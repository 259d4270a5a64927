"""A file that is cut off while it is read, and reports that cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import run_check
from tests.paths import ROOT, SAMPLE

# Cuts a file off at the moment at which the payload, or what the flags name, is about to be read.
CUT = """
import os, sys
from hifi_ref.check import command, look, {module}
from hifi_ref.commands.guarded import guarded
whole = {module}.{function}
def cut(*arguments):
    os.truncate({path!r}, 4096)
    return whole(*arguments)
{module}.{function} = cut
sys.exit(guarded("check", command.main, sys.argv[1:]))
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("given", ["file", "folder", "glob", "source"])
def test_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path, folder: Path, given: str) -> None:
    path = tmp_path / "q.gguf"
    shutil.copy(folder / ("f32.gguf" if given == "source" else "15.gguf"), path)
    size = path.stat().st_size
    arguments = {
        "file": [str(path)], "folder": [str(tmp_path)], "glob": [f"{tmp_path}/q*.gguf"],
        "source": [str(folder / "15.gguf"), f"--source={path}"],
    }[given]  # fmt: skip
    place = {"module": "compare", "function": "compare_tensor"} if given == "source" else {}
    program = CUT.format(path=str(path), **({"module": "look", "function": "check_payload"} | place))
    done = run(program, *arguments)
    wanted = f"{path} was cut off while it was read: it had {size} bytes, and has 4096"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"hifi_ref.check: {wanted}\n")


def test_the_process_of_its_own_changes_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hifi_ref.check"]
    for arguments in ([str(SAMPLE)], [str(tmp_path)], ["--help"], [str(SAMPLE), "--ignore=X"]):
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == run_check(*arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_other_signals_end_as_a_shell_has_it(number: signal.Signals) -> None:
    program = f"""
import os, sys
from hifi_ref.commands.guarded import guarded
sys.exit(guarded("check", lambda arguments: os.kill(os.getpid(), {int(number)}), []))
"""
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


def test_reports_are_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hifi_ref.check import look

    monkeypatch.setattr(look, "check_payload", lambda *_: pytest.fail("work was done"))
    for flag in ("--json", "--html", "--attest"):
        for path, why in [(tmp_path / "no" / "x", "No such file or directory"), (tmp_path, "Is a directory")]:
            assert run_check(SAMPLE, f"{flag}={path}") == (2, "", f"hifi_ref.check: cannot write {path}: {why}\n")
    assert os.listdir(tmp_path) == []
    file, matrix = (Path(shutil.copy(SAMPLE, tmp_path / name)) for name in ("model.gguf", "matrix.dat"))
    for flags, why in [
        ([f"--json={file}"], "it is read as well"),
        ([f"--source={SAMPLE}", f"--imatrix={matrix}", f"--html={matrix}"], "it is read as well"),
        ([f"--json={tmp_path / 'r'}", f"--attest={tmp_path / 'r'}"], "it would be written twice"),
        (["--json=/dev/null"], "it is no regular file"),
    ]:
        code, out, err = run_check(file, *flags)
        assert (code, out) == (2, "") and err.endswith(f": {why}\n"), err
    assert file.read_bytes() == matrix.read_bytes() == Path(SAMPLE).read_bytes() and len(os.listdir(tmp_path)) == 2
