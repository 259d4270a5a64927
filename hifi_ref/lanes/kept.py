"""What earlier processes have compiled: JAX keeps the code in a folder, and a list beside it says what it is of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path

LIST = "hifi_ref.txt"
# About when this process imported what it runs.
BEGAN = time.time()

_keeping = False


def keep() -> None:
    """From now on keep what JAX compiles, in the folder that its user names or else in ours."""
    global _keeping
    _keeping = True
    configure()


def configure() -> None:
    """Tell JAX, once it is there."""
    jax = sys.modules.get("jax")
    if _keeping and jax is not None and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", os.fspath(_ours()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def executables() -> Path | None:
    """The folder of executables.py, beside what JAX keeps in ours; a folder that its user named is JAX's alone."""
    config = sys.modules["jax"].config
    ours = os.fspath(_ours())
    if not (_keeping and config.jax_enable_compilation_cache and config.jax_compilation_cache_dir == ours):
        return None
    return Path(ours) / "executables"


def compiled() -> frozenset[str]:
    """The kinds of work that earlier processes have compiled and kept. Only their speed is guessed from it."""
    folder = _folder()
    return frozenset() if folder is None else _listed(folder)


def note(kinds: Iterable[str]) -> None:
    """Add to the list what is going to be compiled, where it is kept."""
    folder = _folder()
    new = set(kinds) - compiled()
    if folder is None or not new:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LIST, "a", encoding="utf-8") as file:
            file.write("".join(f"{kind}\n" for kind in sorted(new)))
    _listed.cache_clear()


@functools.cache
def _listed(folder: Path) -> frozenset[str]:
    try:
        return frozenset((folder / LIST).read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return frozenset()


def _folder() -> Path | None:
    """Where JAX keeps what it compiles; None where it does not, or not on this machine."""
    jax = sys.modules.get("jax")
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR") if jax is None else jax.config.jax_compilation_cache_dir
    if named:
        return None if "://" in named else Path(named)
    return _ours() if _keeping else None


@functools.cache
def processor() -> str:
    """A digest of what it can: code for one may fail on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:8]


@functools.cache
def _ours() -> Path:
    """One folder a version of JAX and kind of processor."""
    from importlib import metadata  # takes long to import, and most processes compile nothing

    root = Path(os.environ.get("HIFI_REF_CACHE", Path.home() / ".cache" / "hifi_ref"))
    return root / f"jax-{metadata.version('jax')}-{processor()}"
