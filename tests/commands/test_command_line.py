"""What all commands share: one sentence and an exit code for whatever goes wrong; reports whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from hifi_ref.commands import command_line
from hifi_ref.commands.command_line import FAULT, FINE, FOUND, INTERRUPTED, USAGE_ERROR, UsageError
from hifi_ref.model_files.files import InputError


def fault(what: str) -> str:
    return f"a fault of hifi_ref itself ({what}); please report it, with the output of --debug"


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (UsageError("no such thing"), USAGE_ERROR, "no such thing (--help tells the usage)"),
        (InputError("f is empty"), USAGE_ERROR, "f is empty"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
        (KeyError("x"), FAULT, fault("KeyError: 'x'")),
        (OSError(5, "no more"), FAULT, fault("OSError: [Errno 5] no more")),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(
    raised: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def own_part(arguments: list[str]) -> int:
        raise raised

    assert command_line.run("some", own_part, []) == code
    assert capsys.readouterr() == ("", f"hifi_ref.some: {message}\n")


def test_a_process_leaves_with_its_code_and_all_it_has_said() -> None:
    script = """
import sys
from hifi_ref.commands.command_line import leave
print("said", end="")
print("wrong", end="", file=sys.stderr)
leave(1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "said", "wrong")


def test_a_fault_shows_where_it_happened_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run("some", lambda arguments: {}["x"], ["--debug"]) == FAULT
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith(f"""hifi_ref.some: {fault("KeyError: 'x'")}\n""")


def test_exit_codes_and_refusals_are_the_commands_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run("some", lambda arguments: FOUND if arguments == ["a", "b"] else FINE, ("a", "b")) == FOUND
    assert command_line.run("some", lambda arguments: {}["x"], [], (KeyError,)) == USAGE_ERROR
    assert capsys.readouterr() == ("", "hifi_ref.some: 'x'\n")


def test_flags() -> None:
    values = command_line.flags_of_all()
    flags.DEFINE_string("json", None, "", flag_values=values)
    assert command_line.parse(values, ["FILE", "--json", "--debug", "--help"], bare=("--json",)) == ["FILE"]
    assert (values.json, values.debug, values.help) == ("-", True, True)
    with pytest.raises(UsageError, match="^Unknown command line flag 'nothing'"):
        command_line.parse(command_line.flags_of_all(), ["--nothing"])


def test_reports_go_to_files_or_take_the_place_of_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"

    def deliver(*targets: str | None) -> str:
        reports = [(target, lambda n=n: command_line.json_text([n])) for n, target in enumerate(targets)]
        command_line.deliver(reports, lambda: "text\n")
        return capsys.readouterr().out

    assert deliver(None, str(path)) == "text\n" and json.loads(path.read_text()) == [1]
    assert deliver("-", str(path)) == "[\n 0\n]\n" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match=r"^cannot write /nowhere/r\\x1b: No such file"):
        deliver("/nowhere/r\x1b")
