"""`hifi-ref COMMAND ...`, the same as `python -m hifi_ref.COMMAND ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hifi_ref

USAGE_TEXT = """\
usage: hifi-ref COMMAND ...

commands:
  check FILE.gguf  look at a GGUF file's structure and at every block of its tensors; check --help tells more
  conform TARGET   judge an implementation of the formats; conform --help tells more
  quantize SOURCE OUT  quantize a GGUF of floats; quantize --help tells more

flags:
  --version        print the version
  --help           print this text
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
    if command == "check":
        from hifi_ref.check import command as check

        return check.main(rest)
    if command == "conform":
        from hifi_ref.conform import command as conform

        return conform.main(rest)
    if command == "quantize":
        from hifi_ref import quantize

        return quantize.main(rest)
    told = f"there is no command {command!r}" if command else "a command is needed"
    print(f"hifi-ref: {told} (--help tells the usage)", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
