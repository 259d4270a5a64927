"""A target's spelling to the subjects that it stands for.

python:MODULE    a module with any of encode, decode, dot (see serve)
gguf-py          the gguf package
exec:COMMAND     a program that speaks the line protocol (see line_target)
ggml:DIR         every part of a folder of ggml's shared libraries, or of one library (see ggml_library)
ggml:DIR#PART    one of them
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from hifi_ref.conform import ggml_library
from hifi_ref.conform.line_target import LineTarget


class TargetError(Exception):
    """There is no such target; one sentence says why."""


class Opened(NamedTuple):
    """One subject: its own spelling, how to ask it, and the files that it is made of."""

    spelling: str
    target: LineTarget
    libraries: tuple[Path, ...] = ()


def open_targets(spelling: str, seconds: float, debug: bool = False) -> tuple[list[Opened], dict[str, str]]:
    """The subjects, not started yet, and part -> why it cannot be judged here. Raises TargetError.

    ``debug``: their stderr is shown, and Python's tracebacks on it.
    """
    kind, _, rest = spelling.partition(":")
    if kind == "exec" and rest.strip():
        _check_program(rest)
        return [Opened(spelling, LineTarget(rest, seconds, debug=debug))], {}
    if kind == "python" and rest:
        _check_module(rest)
    if (kind == "python" and rest) or spelling == "gguf-py":
        return [_served(spelling, seconds, debug)], {}
    if kind != "ggml" or not rest:
        raise TargetError(f"{spelling!r} is no python:MODULE, gguf-py, exec:COMMAND or ggml:DIR[#PART]")
    folder, _, part = rest.partition("#")
    reasons = _parts(folder)
    if part and part not in reasons:
        raise TargetError(f"{folder} has no part {part!r}; there are {' '.join(reasons)}")
    chosen = {name: why for name, why in reasons.items() if part in ("", name)}
    opened = [
        _served(f"ggml:{folder}#{name}", seconds, debug, *ggml_library.libraries_of(Path(folder), name))
        for name, why in chosen.items()
        if why is None
    ]
    return opened, {f"ggml:{folder}#{name}": why for name, why in chosen.items() if why is not None}


def _check_program(command: str) -> None:
    """Raises TargetError where no such program can be run."""
    try:
        program = shlex.split(command)[0]
    except ValueError as error:
        raise TargetError(f"{command!r} is no command: {error}") from None
    if shutil.which(program) is None:
        raise TargetError(f"there is no program {program!r} that can be run")


def _check_module(name: str) -> None:
    """Raises TargetError where no module or package lies there; its own is not imported for that."""
    top = name.partition(".")[0]
    # Where the process that serves it will look.
    places = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    with contextlib.suppress(ValueError):
        if importlib.machinery.PathFinder.find_spec(top, places) is not None:
            return
    if top not in sys.builtin_module_names:
        raise TargetError(f"there is no module {top!r}, neither here nor installed")


def _served(spelling: str, seconds: float, debug: bool, *libraries: Path) -> Opened:
    # Where an assertion fails the process is to end at once, without a debugger's help.
    environment = {"GGML_NO_BACKTRACE": "1"}
    command = [sys.executable, "-m", "hifi_ref.conform.serve", spelling, *(["--debug"] if debug else [])]
    return Opened(spelling, LineTarget(command, seconds, environment, debug), libraries)


def _parts(folder: str) -> dict[str, str | None]:
    """Loading a library can end a process, so that another one looks."""
    if not Path(folder).exists():
        raise TargetError(f"there is no {folder}")
    command = [sys.executable, "-m", "hifi_ref.conform.ggml_library", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"cannot load {folder}")
    return json.loads(done.stdout)


def digests(libraries: tuple[Path, ...]) -> tuple[dict[str, str], ...]:
    """Name and SHA-256 of each file, once."""
    files = dict.fromkeys(libraries)
    return tuple({"file": p.name, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files)


def machine() -> dict[str, str]:
    """This machine, in words."""
    model = platform.processor() or "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    python = f"Python {platform.python_version()}"
    return {"cpu": model, "architecture": platform.machine(), "system": platform.system(), "python": python}
