"""A command's --help, made from its flags, and that of hifi-ref, made from its commands.

A flag's help, as absl's DEFINE_* take it, is "PLACEHOLDER: what the flag does", such as "FILE: the importance matrix".
A boolean flag has no placeholder; one that is on by default is shown as --NAME=False, and its help says what that does.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from absl import flags

WIDTH = 120
# Flags that every command has come last.
SHARED = ("debug", "help")


class Usage(NamedTuple):
    """What a command's help says besides its flags.

    command: its name. arguments: what stands behind it. summary: one line of hifi-ref's help. description: what it
    does. exit_codes: what each means. targets: lines of a section of that name.
    """

    command: str
    arguments: str
    summary: str
    description: str
    exit_codes: Mapping[int, str]
    targets: Sequence[tuple[str, str]] = ()


def help_text(usage: Usage, values: flags.FlagValues, bare: Collection[str] = (), more: str = "") -> str:
    """The whole help. ``bare``: flags that may stand without their value; ``more``: sections that follow."""
    names = [name for name in values if values[name].name == name]
    listed = [_described(values[name], bare) for name in sorted(names, key=SHARED.__contains__)]
    # A code stays beside the first word of what it means.
    exit_codes = ", ".join(f"{code}\u00a0{meaning}" for code, meaning in usage.exit_codes.items())
    sections = [
        f"usage: python -m hifi_ref.{usage.command} {usage.arguments}",
        textwrap.fill(usage.description, WIDTH),
        *(["\n".join(["targets:", *columns(usage.targets)])] if usage.targets else []),
        "\n".join(["flags:", *columns(listed)]),
        textwrap.fill(f"exit codes: {exit_codes}", WIDTH).replace("\u00a0", " "),
        *([more.rstrip("\n")] if more else []),
    ]
    return "\n\n".join(sections) + "\n"


def commands_text(usages: Sequence[Usage]) -> str:
    """The help of hifi-ref itself."""
    own = [("--version", "print the version"), ("--help", "print this text, and behind a command its own")]
    lines = ["usage: hifi-ref COMMAND ...", "", "commands:", *columns([(u.command, u.summary) for u in usages])]
    return "\n".join([*lines, "", "flags:", *columns(own)]) + "\n"


def columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of two columns, indented; what is too long for a line goes on below its column."""
    at = max(len(name) for name, _ in rows) + 5
    lines = []
    for name, text in rows:
        first, *others = textwrap.wrap(text, WIDTH - at)
        lines += [f"  {name}".ljust(at) + first, *(" " * at + line for line in others)]
    return lines


def _described(flag: flags.Flag, bare: Collection[str]) -> tuple[str, str]:
    """How a flag is given, and what it does."""
    name = f"--{flag.name}"
    if flag.boolean:
        return f"{name}=False" if flag.default else name, flag.help
    # absl writes an enum's values before its help.
    text = flag.help.partition(">: ")[2] if isinstance(flag.parser, flags.EnumParser) else flag.help
    placeholder, _, what = text.partition(": ")
    # What absl adds for flags that may be repeated begins on a line of its own.
    return f"{name}[={placeholder}]" if name in bare else f"{name}={placeholder}", " ".join(what.split())
