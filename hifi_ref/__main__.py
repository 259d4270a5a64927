"""`hifi-ref COMMAND ...`, the same as `python -m hifi_ref.COMMAND ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import hifi_ref

# Where each command's main is.
COMMANDS = {
    "check": "hifi_ref.check.command",
    "conform": "hifi_ref.conform.command",
    "quantize": "hifi_ref.quantize.command",
    "ground": "hifi_ref.ground.command",
}
USAGE_TEXT = """\
usage: hifi-ref COMMAND ...

commands:
  check FILE.gguf      look at a GGUF file's structure and at every block of its tensors; check --help tells more
  conform TARGET       judge an implementation of the formats; conform --help tells more
  quantize SOURCE OUT  quantize a GGUF of floats; quantize --help tells more
  ground               tell which operations of jax's back ends here are exact; ground --help tells more

flags:
  --version            print the version
  --help               print this text
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command with these arguments, sys.argv's where None; return its exit code."""
    command, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    if command in ("--help", "-h"):
        print(USAGE_TEXT, end="")
        return 0
    if command == "--version":
        print(f"hifi-ref {hifi_ref.__version__}")
        return 0
    if command in COMMANDS:
        return import_module(COMMANDS[command]).main(rest)
    message = f"there is no command {command!r}" if command else "a command is needed"
    print(f"hifi-ref: {message} (--help tells the usage)", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
