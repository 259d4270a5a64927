"""`hifi-ref COMMAND ...`, the same as `python -m hifi_ref.COMMAND ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import hifi_ref
from hifi_ref.commands.guarded import guarded
from hifi_ref.commands.usage import commands_text

COMMANDS = ("check", "conform", "quantize", "explain", "sweep", "imatrix", "perplexity", "quality", "smooth", "ground")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command with these arguments, sys.argv's where None; return its exit code."""
    command, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    if command in ("--help", "-h"):
        print(commands_text([_module(name).USAGE for name in COMMANDS]), end="")
        return 0
    if command == "--version":
        print(f"hifi-ref {hifi_ref.__version__}")
        return 0
    if command in ("check", "explain") and argv is None:
        return guarded(command, _module(command).main, rest)
    if command in COMMANDS:
        return _module(command).main(rest)
    message = f"there is no command {command!r}" if command else "a command is needed"
    print(f"hifi-ref: {message} (--help tells the usage)", file=sys.stderr)
    return 2


def _module(name: str) -> ModuleType:
    """The module of a command, which has its USAGE and main; imported only when needed."""
    return import_module(f"hifi_ref.{name}.command")


if __name__ == "__main__":
    sys.exit(main())
