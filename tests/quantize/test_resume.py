"""Interrupted, killed, or out of space: OUT is whole or absent, and the same command goes on where it was."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hifi_ref.quantize import command as quantize
from hifi_ref.quantize import journal, write
from tests.quantize import families, killed


class Job:
    """A command, its source, and what it writes when nothing happens."""

    def __init__(self, folder: Path) -> None:
        self.source = families.written(families.described("llama"), folder / "source.gguf", "F16")
        self.out, self.part = folder / "out.gguf", folder / "out.gguf.part"
        self.journal = folder / "out.gguf.part.journal"
        assert self.run() == 0
        self.wanted = self.out.read_bytes()
        self.out.unlink()
        self.files = {self.source}

    def run(self, *flags: str, file_type: str = "Q4_0") -> int:
        return quantize.main([f"--mixture={file_type}", "--quiet", *flags, str(self.source), str(self.out)])

    def whole(self) -> bool:
        """Whether OUT is there as it should be, and nothing else."""
        return set(self.out.parent.iterdir()) == self.files | {self.out} and self.out.read_bytes() == self.wanted


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def after(calls: int, error: BaseException, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises this at its next call but so many."""
    left = [calls]

    def instead(*args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return function(*args)

    return instead


@pytest.mark.parametrize("done", [0, 1, 7, 20])
def test_interrupted(job: Job, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(journal.Part, "finish", after(done, KeyboardInterrupt(), journal.Part.finish))
        assert job.run() == 130 and not job.out.exists() and job.part.exists()
    assert len(job.journal.read_text().splitlines()) == 1 + done
    made: list[str] = []
    encoded = write.made
    monkeypatch.setattr(write, "made", lambda task, *rows: made.append(task.tensor.name) or encoded(task, *rows))
    assert job.run() == 0 and job.whole() and len(made) == 30 - done


def test_what_is_done_is_verified(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(journal.Part, "finish", after(9, KeyboardInterrupt(), journal.Part.finish))
        job.run()
    data, lines = bytearray(job.part.read_bytes()), job.journal.read_bytes()
    whole = job.wanted
    draw = random.Random(1)
    at = draw.choice([i for i in range(len(whole) // 4) if i > len(whole) // 8])
    data[at] ^= 1
    for part, written in [
        (bytes(data), lines), (bytes(data), lines[:-9]), (bytes(data), lines + b"[3, 4]\n[99, 1]\n{\n\xff"),
        (bytes(data[:-1]), lines), (bytes(data), b""), (b"", lines), (bytes(len(data)), lines),
    ]:  # fmt: skip
        job.part.write_bytes(part)
        job.journal.write_bytes(written)
        assert job.run() == 0 and job.whole()
        job.out.unlink()


def test_another_job_begins_anew(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(journal.Part, "finish", after(9, KeyboardInterrupt(), journal.Part.finish))
        job.run(file_type="Q4_1")
    assert job.run() == 0 and job.whole()
    with monkeypatch.context() as context:
        context.setattr(journal.Part, "finish", after(9, KeyboardInterrupt(), journal.Part.finish))
        job.run()
    os.utime(job.source, ns=(1, 1))
    made: list[str] = []
    encoded = write.made
    monkeypatch.setattr(write, "made", lambda task, *rows: made.append(task.tensor.name) or encoded(task, *rows))
    assert job.run() == 0 and job.whole() and len(made) == 30


def test_a_full_disk(job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as context:
        context.setattr(os, "pwrite", after(9, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), os.pwrite))
        assert job.run() == 2
    err = capsys.readouterr().err
    assert f"cannot write {job.out}: No space left on device; what is done is kept in {job.part}" in err
    assert err.count("\n") == 1 and not job.out.exists()
    assert job.run() == 0 and job.whole()
    job.out.unlink()
    with monkeypatch.context() as context:
        context.setattr(journal.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 99}))
        assert job.run() == 2
    assert f"cannot write {job.out}: that takes {len(job.wanted)} bytes, and 99 are free" in capsys.readouterr().err
    assert set(job.out.parent.iterdir()) == job.files


def test_a_limit_on_the_size_of_files(job: Job) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [sys.executable, "-m", "hifi_ref.quantize", "--mixture=Q4_0", str(job.source), str(job.out)],
        preexec_fn=limited, capture_output=True, text=True, check=False,
        # Python would keep the first 4096 bytes of what it compiles, and fail on them ever after.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr == f"hifi_ref.quantize: cannot write {job.out}: File too large\n"
    assert set(job.out.parent.iterdir()) == job.files


def test_a_folder_that_cannot_be_written(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    for out, wanted in [("/proc/out.gguf", "cannot write /proc/out.gguf: "), (f"{job.source}/a", "Not a directory")]:
        assert quantize.main(["--mixture=Q4_0", str(job.source), out]) == 2
        err = capsys.readouterr().err
        assert wanted in err and err.count("\n") == 1


def test_two_at_once(job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def meanwhile(part: journal.Part, i: int) -> None:
        if not part.done:
            assert job.run() == 2
        finish(part, i)

    finish = journal.Part.finish
    monkeypatch.setattr(journal.Part, "finish", meanwhile)
    assert job.run() == 0 and job.whole()
    assert f"{job.out} is being written by another process" in capsys.readouterr().err


def test_what_was_there_stays_until_the_end(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.out.write_text("before")
    with monkeypatch.context() as context:
        context.setattr(journal.Part, "finish", after(9, KeyboardInterrupt(), journal.Part.finish))
        job.run()
    assert job.out.read_text() == "before"
    assert job.run() == 0 and job.whole()


def test_killed(tmp_path: Path) -> None:
    assert killed.rounds(tmp_path, count=2, seed=1).different == 0
