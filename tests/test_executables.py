"""Executables that earlier processes left: what is taken, what is not, and what becomes of the folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from hifi_ref import exact
from hifi_ref.exact import clean_thread
from hifi_ref.formats import FORMATS
from hifi_ref.lanes import canary, executables, jax_lane, kept, numpy_lane
from hifi_ref.lanes.jax_lane import encoding

X = np.arange(8, dtype=np.float32)
F = FORMATS["Q8_0"]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A process that keeps what it compiles, and nothing is there yet."""
    monkeypatch.setattr(kept, "_keeping", True)
    with ours(monkeypatch, tmp_path):
        _as_in_a_new_process(monkeypatch)
        yield tmp_path / "executables"


@contextlib.contextmanager
def ours(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[None]:
    """Our folder is another, and JAX told so."""
    monkeypatch.setattr(kept, "_ours", lambda: path)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", os.fspath(path))
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: _as_in_a_new_process(monkeypatch)


def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "BEGAN", float("inf"))
    executables._sources.cache_clear()
    executables._loaded.cache_clear()


def added(number: float) -> Any:
    return jax.jit(lambda x: x + np.float32(number))


def result(number: float, x: np.ndarray = X) -> float:
    """Of adding a number, unless another is what lies under the same name."""
    return float(executables.loaded(added(number), ("add",), x)(x)[0])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# WHAT IS TAKEN


def test_what_is_kept_is_taken_by_its_name(folder: Path, anew: Callable[[], None]) -> None:
    assert result(1) == 1 and len(names(folder)) == 1
    anew()
    # Neither traced nor compiled: what was asked for now is another function.
    assert result(2) == 1
    assert result(3, X[:4]) == 3 and len(names(folder)) == 2
    assert folder.stat().st_mode & 0o777 == 0o700


def test_other_sources(folder: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "hifi_ref"
    for part in executables.SOURCES:
        shutil.copytree(Path(executables.__file__).parents[1] / part, package / part)
    assert result(1) == 1
    monkeypatch.setattr(executables, "__file__", str(package / "lanes/executables.py"))
    anew()
    assert result(2) == 1
    for i, changed in enumerate(("exact/sums.py", "formats/search/grid_search.py", "lanes/jax_lane/watched.py")):
        (package / changed).write_text((package / changed).read_text() + "\n")
        anew()
        assert result(3 + i) == 3 + i
    (package / "lanes/new.py").touch()
    anew()
    assert result(9) == 9 and len(names(folder)) == 5


@pytest.mark.parametrize("flags", ["XLA_FLAGS", "a setting", "the processor"])
def test_other_circumstances(flags: str, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert result(1) == 1
    if flags == "XLA_FLAGS":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    elif flags == "the processor":
        monkeypatch.setattr(kept, "processor", lambda: "another")
    anew()
    with jax.numpy_dtype_promotion("strict" if flags == "a setting" else "standard"):
        assert result(2) == 2


def test_sources_that_changed_while_this_process_began(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = max(path.stat().st_mtime for path in Path(executables.__file__).parents[1].glob("*/**/*.py"))
    monkeypatch.setattr(kept, "BEGAN", newest + executables.DOUBT / 2)
    assert result(1) == 1 and not folder.exists()


def test_what_nobody_announced_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_keeping", False)
    assert result(1) == 1 and not folder.exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jax_enable_compilation_cache", False),
        ("jax_compilation_cache_dir", "gs://bucket/folder"),
        ("jax_compilation_cache_dir", "/its/users"),
    ],
)
def test_nothing_is_kept_where_jax_may_not_or_keeps_it_itself(setting: str, value: Any, folder: Path) -> None:
    before = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        assert executables.loaded(run := added(1), ("add",), X) is run and not folder.exists()
    finally:
        jax.config.update(setting, before)


def test_what_calls_python_back_is_not_kept(folder: Path) -> None:
    def back(x: Any) -> Any:
        return clean_thread.call(lambda x: x + 1, x.shape, x.dtype, x)

    assert executables.loaded(jax.jit(back), ("back",), X)(X)[0] == 1 and not names(folder)


# THE FOLDER


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:99] + b"\0" + b[100:], lambda b: b"?"]
)
def test_a_damaged_file_is_replaced(damage: Callable[[bytes], bytes], folder: Path, anew: Callable[[], None]) -> None:
    assert result(1) == 1
    (path,) = folder.iterdir()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    anew()
    assert result(2) == 2 and len(names(folder)) == 1 and path.read_bytes() != damage(good)
    anew()
    assert result(3) == 2


def test_a_whole_file_of_something_else(folder: Path, anew: Callable[[], None]) -> None:
    assert result(1) == 1
    (path,) = folder.iterdir()
    path.write_bytes(hashlib.sha256(b"something").digest() + b"something")
    anew()
    assert result(2) == 2


def test_a_folder_that_cannot_be_written(
    folder: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert result(1) == 1
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "utime", lambda path: Path("/proc/nothing").read_bytes())
    anew()
    assert result(2) == 1 and result(3, X[:4]) == 3 and len(names(folder)) == 1


def test_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ours(monkeypatch, tmp_path / "file"):
        assert result(1) == 1


def test_a_folder_where_others_write(folder: Path, anew: Callable[[], None]) -> None:
    assert result(1) == 1
    folder.chmod(0o777)
    anew()
    assert result(2) == 2 and len(names(folder)) == 1


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: Path("/proc/nothing").read_bytes())
    assert result(1) == 1 and not names(folder)


def test_what_was_not_used_for_longest_goes(
    folder: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executables, "LIMIT", 2)
    for size in (1, 2):
        result(1, X[:size])
        for path in folder.iterdir():
            os.utime(path, (size, size))
    anew()
    (first, *_) = (result(2, X[:size]) for size in (1, 3))
    anew()
    assert first == 1 and [result(3, X[:size]) for size in (1, 3, 2)] == [1, 2, 3] and len(names(folder)) == 2


def test_processes_at_once(tmp_path: Path) -> None:
    script = """
import jax, numpy as np
from hifi_ref.lanes import executables, kept
kept.keep()
x = np.arange(8, dtype=np.float32)
print(executables.loaded(jax.jit(lambda x: x + 1), ("add",), x)(x)[0])
"""
    environment = {**os.environ, "HIFI_REF_CACHE": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    started: Any = {"stdout": subprocess.PIPE, "env": environment}
    running = [subprocess.Popen([sys.executable, "-c", script], **started) for _ in range(2)]
    assert [process.communicate()[0] for process in running] == [b"1.0\n"] * 2
    (path,) = tmp_path.glob("jax-*/executables/*")
    data = path.read_bytes()
    assert data[:32] == hashlib.sha256(data[32:]).digest()
    assert subprocess.run([sys.executable, "-c", script.replace("x + 1", "x + 2")], **started).stdout == b"1.0\n"


# WHO KEEPS


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_encoders(kind: str, folder: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept ones are taken, and give the definition's bits; those of a format that a caller made are not kept."""
    monkeypatch.setattr(encoding, "ENCODE_CHUNK", encoding.SMALL_CHUNK)
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((3, 256)).astype(np.float32 if kind == "F32" else np.float16)
    x = floats if kind == "F32" else floats.view(np.uint16)
    expected = numpy_lane.encode(F, floats.astype(np.float32), None).reshape(3, -1)
    for _ in range(2):
        anew()
        encoding._encoder.cache_clear()
        assert np.array_equal(jax_lane.encode_in_pieces(F, x, None, expected.shape, kind=kind), expected)
        count = len(names(folder))
        assert count in (1, 2)
    assert encoding._encoder(F, "cpu", None, kind)._cache_size() == 0
    other = replace(F, encode=lambda x, weights=None: F.encode(x * np.float32(2), weights))
    doubled = numpy_lane.encode(F, floats.astype(np.float32) * np.float32(2), None).reshape(3, -1)
    assert np.array_equal(jax_lane.encode_in_pieces(other, x, None, expected.shape, kind=kind), doubled)
    monkeypatch.setattr(encoding, "corrections", lambda platform: frozenset({"division"}))
    assert np.array_equal(jax_lane.encode_in_pieces(F, x, None, expected.shape, kind=kind), expected)
    assert len(names(folder)) == count


def test_a_builds_encoder_is_another(folder: Path) -> None:
    """Kept beside the strict one."""
    x = np.random.default_rng(0).standard_normal((1, 256)).astype(np.float32)
    for build in (None, exact.Fusing(frozenset(("a", "b")))):
        expected = numpy_lane.encode(F, x, None, build).reshape(1, -1)
        assert np.array_equal(jax_lane.encode_in_pieces(F, x, None, expected.shape, build=build), expected)
    assert len(names(folder)) in (2, 3)


def test_the_canary_still_looks_at_what_is_computed(
    folder: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept is run, and its bits compared."""
    for _ in range(2):
        anew()
        canary._wrong.cache_clear()
        assert canary._wrong("cpu", frozenset()) == () and len(names(folder)) == 1
    shutil.rmtree(folder)
    anew()
    operands = tuple(np.ones((64, 256), np.float32) for _ in range(3))
    with np.errstate(all="ignore"):
        nothing = jax.tree.map(np.zeros_like, canary._probe(*operands))
    with jax.ensure_compile_time_eval():
        executables.loaded(jax.jit(lambda *_: nothing), ("canary",), *operands)
    anew()
    canary._wrong.cache_clear()
    assert canary._wrong("cpu", frozenset()) == canary.OPERATIONS and len(names(folder)) == 1
    canary._wrong.cache_clear()
