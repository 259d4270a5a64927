"""Whole executables of earlier processes, neither traced nor lowered again: that takes longer than to load them.

JAX's own cache finds code by what tracing and lowering have made of a function. Here it is found by all that this rests
on: the bytes of the sources that are traced, versions, settings, the processor, shapes. What calls Python back is not
kept, nor may what a caller has made be, such as a format of his own; and nothing is kept where the sources may have
changed since this process imported them.

What is loaded is machine code, and it runs: as with JAX's own cache, whoever can write to the folder can run anything.
It is made for its owner alone, and not used where others may write.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib
import ml_dtypes
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from hifi_ref.lanes import kept

# What an executable is made from.
SOURCES = ("exact", "formats", "lanes")
# Of sources that changed up to so many seconds before this process began it is not known which of both it imported.
DOUBT = 2.0
# So many stay, those that were used last: some versions of hifi_ref with all of their encoders.
LIMIT = 150

_lock = threading.Lock()
Shapes = tuple[tuple[tuple[int, ...], str] | None, ...]


def loaded(run: Callable[..., Any], what: tuple, *operands: Any) -> Callable[..., Any]:
    """``run``, made by jax.jit, ready for operands like these on this machine's processor; as it is where none is kept.

    ``what``: what tells run from all else that the sources make; its repr is the same in every process.
    """
    folder = kept.executables()
    if folder is None or _sources() is None:
        return run
    shapes = tuple(None if x is None else (x.shape, x.dtype.str) for x in operands)
    # One at a time: JAX lets two threads compile the same.
    with _lock:
        return _loaded(run, folder, what, shapes)


@functools.cache
def _loaded(run: Any, folder: Path, what: tuple, shapes: Shapes) -> Callable[..., Any]:
    path = folder / _key(what, shapes)
    found = _read(path) if _is_ours(folder) else None
    if found is not None:
        return found
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder) or not os.access(folder, os.W_OK):
        return run
    with jax.default_device(_processor()), _compiling_anew():
        lowered = run.lower(*(None if x is None else jax.ShapeDtypeStruct(*x) for x in shapes))
        if "callback" in lowered.as_text():
            return run
        compiled = lowered.compile()
    # What cannot be written is compiled again by the next process.
    with contextlib.suppress(OSError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
        _write(path, pickle.dumps(serialize_executable.serialize(compiled)))
    return compiled


def _key(what: tuple, shapes: Shapes) -> str:
    versions = sys.version, *(package.__version__ for package in (jax, jaxlib, ml_dtypes, np))
    settings = sorted((name, str(getattr(jax.config, name, value))) for name, value in jax.config.values.items())
    facts = (_sources(), what, shapes, kept.processor(), versions, os.environ.get("XLA_FLAGS"), settings)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@functools.cache
def _sources() -> str | None:
    """A digest of what is traced; None where that may not be what this process has imported."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    try:
        for path in sorted(path for part in SOURCES for path in (root / part).rglob("*.py")):
            if path.stat().st_mtime > kept.BEGAN - DOUBT:
                return None
            digest.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    except OSError:
        return None
    return digest.hexdigest()


def _processor() -> jax.Device:
    return jax.local_devices(backend="cpu")[0]


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can write there."""
    try:
        facts = folder.stat()
    except OSError:
        return False
    return os.name != "posix" or (facts.st_uid in (os.getuid(), 0) and not facts.st_mode & 0o022)


def _read(path: Path) -> Callable[..., Any] | None:
    """None where there is none, or a damaged one."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        code, given, returned = pickle.loads(data[32:])
        found = serialize_executable.deserialize_and_load(code, given, returned, "cpu", [_processor()])
    except Exception:
        # Whatever it is that JAX does not like of it, compiling helps.
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return found


def _write(path: Path, data: bytes) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(part, path)
    except OSError:
        os.unlink(part)
        raise
    for old in sorted(path.parent.iterdir(), key=lambda other: other.stat().st_mtime)[:-LIMIT]:
        old.unlink(missing_ok=True)


@contextlib.contextmanager
def _compiling_anew() -> Iterator[None]:
    """Without JAX's cache: what comes from there can be written again, but then does not run."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
