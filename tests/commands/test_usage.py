"""The help of commands: made from their flags, each with what it does, and nothing left out."""

from __future__ import annotations

from importlib import import_module

import pytest
from absl import flags

from hifi_ref.__main__ import COMMANDS
from hifi_ref.commands import command_line
from hifi_ref.commands.usage import Usage, help_text

EXPECTED = """\
usage: python -m hifi_ref.bake CAKE [flags]

Bakes.

targets:
  cake   round

flags:
  --sugar[=GRAMS]   how sweet: very
  --colour=NAME     of the icing
  --heat=False      serve it raw
  --debug           after a fault of this program, print where it happened
  --help            print this text

exit codes: 0 baked, 1 burnt

more
"""


def test_the_whole_help() -> None:
    values = command_line.flags_of_all()
    flags.DEFINE_integer("sugar", 1, "GRAMS: how sweet: very", flag_values=values)
    flags.DEFINE_enum("colour", None, ["red", "blue"], "NAME: of the icing", flag_values=values)
    flags.DEFINE_boolean("heat", True, "serve it raw", flag_values=values)
    usage = Usage("bake", "CAKE [flags]", "bake", "Bakes.", {0: "baked", 1: "burnt"}, [("cake", "round")])
    assert help_text(usage, values, ["--sugar"], "more\n") == EXPECTED


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_says_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = import_module(f"hifi_ref.{name}.command")
    assert command.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    section = lines[lines.index("flags:") + 1 :]
    section = section[: section.index("")]
    flag_lines = [line for line in section if line.startswith("  --")]
    assert [line.split("=")[0].split()[0].rstrip("[") for line in flag_lines][-2:] == ["--debug", "--help"]
    for line in flag_lines:
        spelled, text = line.strip().split(maxsplit=1)
        assert text and (spelled.endswith("=False") or "=" not in spelled or spelled.strip("]").split("=")[1].isupper()
                         or spelled == "--level=1|2"), line  # fmt: skip
    assert max(map(len, section)) <= 120
