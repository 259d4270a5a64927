"""What all commands share: flags, exit codes, one sentence for whatever goes wrong, and where reports go.

A command's own part is a function of its arguments that returns an exit code; `run` calls it. It raises UsageError for
a call that makes no sense, and InputError, or what else it names as ``refused``, for a file that cannot be used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NoReturn

from absl import flags

from hifi_ref.model_files.files import InputError, write_atomically
from hifi_ref.model_files.gguf_file import printable

FINE, FOUND, USAGE_ERROR, FAULT, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """A command called in a wrong way; one sentence says how."""


def run(
    command: str, own_part: Callable[[list[str]], int], argv: Sequence[str] | None,
    refused: tuple[type[Exception], ...] = (InputError,),
) -> int:  # fmt: skip
    """Run hifi_ref.``command`` with these arguments, sys.argv's where None; return the exit code. Nothing is raised."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return own_part(arguments)
    except UsageError as error:
        code, message = USAGE_ERROR, f"{error} (--help tells the usage)"
    except refused as error:
        code, message = USAGE_ERROR, str(error)
    except KeyboardInterrupt:
        code, message = INTERRUPTED, "interrupted"
    except Exception as fault:
        if "--debug" in arguments:
            traceback.print_exc()
        what = f"{type(fault).__name__}: {fault}".splitlines()[0]
        code, message = FAULT, f"a fault of hifi_ref itself ({what}); please report it, with the output of --debug"
    print(f"hifi_ref.{command}: {message}", file=sys.stderr)
    return code


def leave(code: int) -> NoReturn:
    """End the process at once: what JAX has loaded takes half a second to take apart."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


# FLAGS


def flags_of_all(debug: str = "after a fault of this program, print where it happened") -> flags.FlagValues:
    """--help and --debug, to which a command adds its own. ``debug``: what that does."""
    values = flags.FlagValues()
    flags.DEFINE_boolean("debug", False, debug, flag_values=values)
    flags.DEFINE_boolean("help", False, "print this text", short_name="h", flag_values=values)
    return values


def parse(values: flags.FlagValues, arguments: Iterable[str], bare: Collection[str] = ()) -> list[str]:
    """Set the flags; return the arguments that are none. Raises UsageError.

    ``bare``: flags that take a value but may stand without one, which is - then. absl alone would take the next
    argument for it.
    """
    try:
        return values(["", *(f"{a}=-" if a in bare else a for a in arguments)])[1:]
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from None


# OUTPUT


def show(text: str) -> None:
    """To standard output, with an escape for what its encoding lacks: names may hold any character."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as `head` does: the exit code still tells. Nothing must be left for the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_writable(paths: Iterable[str | None], read: Iterable[str | None] = ()) -> None:
    """Before any work is done: can a file be written at each path that is one, with none of ``read`` lost?

    Raises InputError.
    """
    needed = {os.path.realpath(path): "is read as well" for path in read if path is not None and os.path.exists(path)}
    for path in paths:
        if path in (None, "-"):
            continue
        folder, real = os.path.dirname(path) or ".", os.path.realpath(path)
        if real in needed:
            raise InputError(f"cannot write {printable(path)}: it {needed[real]}")
        needed[real] = "would be written twice"
        try:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if os.path.exists(path) and not os.path.isfile(path):
                raise OSError(errno.EINVAL, "it is no regular file")
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise InputError(f"cannot write {printable(path)}: {error.strerror}") from None


def deliver(reports: Iterable[tuple[str | None, Callable[[], str]]], text: Callable[[], str]) -> None:
    """Write each report that has a path to it, whole or not at all; show those whose path is -, or else the text.

    Raises InputError where a file cannot be written.
    """
    shown = []
    for path, report in reports:
        if path == "-":
            shown.append(report())
        elif path is not None:
            written = report()
            try:
                write_atomically(path, written)
            except OSError as error:
                raise InputError(f"cannot write {printable(path)}: {error.strerror}") from None
    show("".join(shown) if shown else text())


def json_text(value: Any) -> str:
    """A report for programs, as all commands write it."""
    return json.dumps(value, indent=1) + "\n"
