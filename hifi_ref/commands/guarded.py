"""A command that maps files, in a process of its own: a file that is cut off meanwhile ends it by a signal.

Whoever reads a mapped file beyond its new end gets a bus error, which no Python code can catch. The process that waits
outlives it, and says what happened in a sentence.
"""

from __future__ import annotations

import glob
import os
import signal
import sys
from collections.abc import Callable, Sequence

from hifi_ref.commands.command_line import FAULT, USAGE_ERROR
from hifi_ref.model_files.gguf_file import printable

# What a shell makes of a process that a signal ended.
OF_A_SIGNAL = 128


def guarded(command: str, own_part: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """Run hifi_ref.``command``, ``own_part(arguments)``, and return its exit code; 2 where a bus error ended it.

    Where the system has no fork, mapped files cannot be cut off either.
    """
    if not hasattr(os, "fork"):
        return own_part(list(arguments))
    sizes = _sizes(arguments)
    # The terminal's interrupt reaches both; the child answers it. Until then this process must not.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _run_and_leave(own_part, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    if os.WTERMSIG(status) == signal.SIGBUS:
        print(f"hifi_ref.{command}: {_cut_off(sizes)}", file=sys.stderr)
        return USAGE_ERROR
    return OF_A_SIGNAL + os.WTERMSIG(status)


def _run_and_leave(own_part: Callable[[list[str]], int], arguments: Sequence[str]) -> None:
    code = FAULT
    try:
        code = own_part(list(arguments))
        sys.stdout.flush()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _sizes(arguments: Sequence[str]) -> dict[str, int]:
    """The size of each file that is named, by itself or as a flag's value, or that lies in a folder so named."""
    named = [argument.partition("=")[2] if argument.startswith("-") else argument for argument in arguments]
    paths = [path for name in named for path in (name, *glob.glob(name), *glob.glob(os.path.join(name, "*")))]
    return {path: os.path.getsize(path) for path in paths if os.path.isfile(path)}


def _cut_off(before: dict[str, int]) -> str:
    for path, size in before.items():
        now = os.path.getsize(path) if os.path.exists(path) else 0
        if now < size:
            return f"{printable(path)} was cut off while it was read: it had {size} bytes, and has {now}"
    return "a file could not be read to its end: it was cut off meanwhile, or its disk fails"
