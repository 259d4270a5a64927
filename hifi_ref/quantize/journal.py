"""A file on its way: OUT.part, of its full size from the start, and OUT.part.journal, which says what is done in it.

The journal's first line names the job, by a digest of all that decides on the bytes; then comes a line for each tensor
that is whole, with its number and its digest. Whoever is given the same job again reads these tensors, and goes on with
those that are not there, or not as the journal says. Another job begins anew. OUT itself is there once it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

import hifi_ref
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.quantize.plan import NewFile
from hifi_ref.quantize.source import Source

try:
    import fcntl
except ImportError:  # a system without locks on files
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 20
# What a file system says that cannot set space aside.
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class NotWritten(InputError):
    """A file cannot be written; one sentence says why."""


@contextlib.contextmanager
def writing(file: NewFile) -> Iterator[None]:
    """Turns an OSError of the block into a sentence about the file."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"cannot write {printable(file.path)}: {error.strerror}") from None


class Part:
    """``file`` being written; ``done`` are the numbers of its tensors that are whole. Raises NotWritten."""

    def __init__(self, file: NewFile, job: str) -> None:
        self.file, self.path, self.done = file, f"{file.path}.part", set[int]()
        self.journal_path = f"{self.path}.journal"
        self._digests: dict[int, Any] = {}
        self._background = ThreadPoolExecutor(1)
        self._on_disk: Future[None] | None = None
        with writing(file):
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._lock()
                self._find_done(job)
                if not self.done:
                    self._begin(job)
                self._journal = open(self.journal_path, "a", encoding="utf-8")  # noqa: SIM115
            except NotWritten:
                os.close(self._fd)
                raise
            except OSError:
                os.close(self._fd)
                self._remove()
                raise

    def put(self, i: int, at: int, data: bytes | np.ndarray) -> None:
        """Write bytes of tensor ``i``, from byte ``at`` of it; those of one tensor come in their order."""
        self._digests.setdefault(i, hashlib.sha256()).update(data)
        with writing(self.file):
            view = data.data if isinstance(data, np.ndarray) else memoryview(data)
            view, place = view.cast("B"), self.file.starts[i] + at
            while view:
                written = os.pwrite(self._fd, view, place)
                view, place = view[written:], place + written

    def finish(self, i: int) -> None:
        """Tensor ``i`` is whole."""
        digest = self._digests.pop(i, hashlib.sha256()).hexdigest()
        with writing(self.file):
            self._journal.write(json.dumps([i, digest]) + "\n")
            self._journal.flush()
        self.done.add(i)
        self._begin_sync()

    def _begin_sync(self) -> None:
        """What is written goes to the disk meanwhile, and is not waited for until the end."""
        if self._on_disk is None or self._on_disk.done():
            self._end_sync()
            self._on_disk = self._background.submit(os.fsync, self._fd)

    def _end_sync(self) -> None:
        """Raises NotWritten where it failed, for the system tells that once."""
        if self._on_disk is not None:
            with writing(self.file):
                self._on_disk.result()

    def replace(self) -> None:
        """All tensors are whole: the file takes its place."""
        self._end_sync()
        with writing(self.file):
            os.fsync(self._fd)
            os.replace(self.path, self.file.path)
            self.close()
            os.unlink(self.journal_path)

    def close(self) -> None:
        self._background.shutdown()
        self._journal.close()
        os.close(self._fd)

    def discard(self) -> None:
        """Leave nothing behind."""
        self.close()
        self._remove()

    def _remove(self) -> None:
        for path in (self.path, self.journal_path):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _lock(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotWritten(f"{printable(self.file.path)} is being written by another process") from None

    def _find_done(self, job: str) -> None:
        if os.fstat(self._fd).st_size != self.file.size or self._read(0, len(self.file.head)) != self.file.head:
            return
        try:
            with open(self.journal_path, encoding="utf-8", errors="replace") as journal:
                if journal.readline() != f"{job}\n":
                    return
                lines = journal.readlines()
        except FileNotFoundError:
            return
        for line in lines:
            # The last line may have been cut off.
            with contextlib.suppress(ValueError, TypeError, IndexError):
                i, digest = json.loads(line)
                if 0 <= i < len(self.file.plans) and self._digest(i) == digest:
                    self.done.add(i)

    def _begin(self, job: str) -> None:
        os.ftruncate(self._fd, 0)
        _allocate(self._fd, self.file.size)
        os.pwrite(self._fd, self.file.head, 0)
        with open(self.journal_path, "w", encoding="utf-8") as journal:
            journal.write(f"{job}\n")

    def _digest(self, i: int) -> str:
        start, found = self.file.starts[i], hashlib.sha256()
        stop = start + self.file.plans[i].nbytes
        for at in range(start, stop, CHUNK):
            found.update(self._read(at, min(CHUNK, stop - at)))
        return found.hexdigest()

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self._fd, size, at)


def _allocate(fd: int, size: int) -> None:
    """The full size at once, so that a disk that is too small is known before the work and not after it."""
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(fd, 0, size)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    os.ftruncate(fd, size)


def job_of(file: NewFile, source: Source) -> str:
    """A digest of all that decides on a file's bytes: this program, the source's files, every plan, the metadata."""
    found = hashlib.sha256(file.head)
    found.update(hifi_ref.__version__.encode())
    for path in source.paths:
        status = os.stat(path)
        found.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    for plan in file.plans:
        found.update(f"{plan.tensor.name} {plan.format} {sorted(plan.context.items())}\n".encode())
        if plan.importance is not None:
            found.update(plan.importance.tobytes())
    return found.hexdigest()


def check_space(files: Sequence[NewFile]) -> None:
    """Raises NotWritten where the disk has no room for these files; what their parts hold already counts."""
    needed: dict[str, int] = {}
    for file in files:
        folder = os.path.dirname(os.path.abspath(file.path))
        try:
            held = os.stat(f"{file.path}.part").st_blocks * 512
        except (OSError, AttributeError):
            held = 0
        needed[folder] = needed.get(folder, 0) + max(0, file.size - held)
    for folder, size in needed.items():
        with writing(files[0]):
            free = shutil.disk_usage(folder).free
        if size > free:
            raise NotWritten(
                f"cannot write {printable(files[0].path)}: that takes {size} bytes, and {free} are free on its disk"
            )
