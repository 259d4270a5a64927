"""Files at an address, https://... or hf://owner/repo/file.gguf, through fsspec: read in ranges, never held whole.

`RemoteMap` is a map of an empty temporary file of the remote's size. Whoever reads bytes asks for them first, with
`held`, which lets go of them afterwards, or with `need`, after which they stay. What maps files reads either kind: for
a map of a local file both do nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_model import printable

# Bytes that are fetched and let go of together: what lies at the ends of a tensor stays, so this is kept small.
BLOCK = 1 << 16
# Bytes a request, at most: what breaks off is asked for again.
PIECE = 16 << 20
# A range is asked for so many times, after so many seconds.
ATTEMPTS, PAUSE = 4, 1.0
# A server at https:// that is silent for so many seconds has broken off; however slow it is otherwise.
SILENCE = 60.0
# What tells one version of a file from another, the best first.
VERSION = ("ETag", "etag", "blob_id", "Last-Modified", "LastModified", "mtime", "created")


class Absent(InputError):
    """There is nothing at an address."""


class RemoteMap(mmap.mmap):
    """A remote file, of which only what was asked for is there; the rest reads as zeros.

    ``fetched`` counts the bytes that came. Raises InputError where the file is not there, its server tells no size or
    serves no ranges, or a range does not come.
    """

    url: str
    fetched: int
    _file: IO[bytes]
    _filesystem: Any
    _path: str
    _opened: Any
    _version: str
    _here: np.ndarray
    _holders: np.ndarray
    _lock: threading.Lock

    def __new__(cls, url: str) -> RemoteMap:
        filesystem, path = _filesystem(url)
        info = _asked(url, filesystem.info, path)
        size = info.get("size")
        if not isinstance(size, int) or info.get("type") == "directory":
            message = "its server does not tell its size, so fetch it and check the copy"
            raise InputError(f"cannot read {printable(url)}: {message}")
        if size == 0:
            raise InputError(f"{printable(url)} is empty")
        with kept_on_disk(url):
            file = tempfile.TemporaryFile(prefix="hifi_ref-")
            file.truncate(size)
            self = super().__new__(cls, file.fileno(), size)
        self._file = file
        self.url, self.fetched, self._version = url, 0, _version(info)
        self._filesystem, self._path = filesystem, path
        self._opened = _asked(url, filesystem.open, path, "rb", block_size=PIECE, cache_type="none", size=size)
        self._here = np.zeros(-(-size // BLOCK), bool)
        self._holders = np.zeros(len(self._here), np.int32)
        self._lock = threading.Lock()
        return self

    def need(self, start: int, stop: int) -> None:
        """Fetch what is not here of these bytes, which are to stay."""
        first, last = start // BLOCK, -(-min(stop, len(self)) // BLOCK)
        with self._lock:
            self._fetch(first, last)
            self._holders[first:last] += 1

    @contextlib.contextmanager
    def held(self, start: int, stop: int, first_too: bool = False) -> Iterator[None]:
        """These bytes are here while the block runs; then those go that fill blocks which nobody else holds.

        ``first_too``: also the block in which they begin goes, for what is before them was read.
        """
        first, last = start // BLOCK, -(-min(stop, len(self)) // BLOCK)
        with self._lock:
            self._fetch(first, last)
            self._holders[first:last] += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders[first:last] -= 1
                self._let_go(first if first_too else -(-start // BLOCK), last if stop >= len(self) else stop // BLOCK)

    def check_unchanged(self) -> None:
        """Raises InputError where the remote file is another one by now."""
        with contextlib.suppress(Exception):
            self._filesystem.invalidate_cache()
        info = _asked(self.url, self._filesystem.info, self._path)
        if info.get("size") != len(self) or _version(info) != self._version:
            raise InputError(f"{printable(self.url)} was changed while it was read: check it again")

    def _fetch(self, first: int, last: int) -> None:
        """Blocks ``first`` to ``last``, in pieces of neighbours."""
        missing = first + np.flatnonzero(~self._here[first:last])
        for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1):
            for at in range(0, len(run), PIECE // BLOCK):
                blocks = run[at : at + PIECE // BLOCK]
                start, stop = int(blocks[0]) * BLOCK, min(len(self), int(blocks[-1] + 1) * BLOCK)
                data = self._range(start, stop)
                with kept_on_disk(self.url):
                    while start < stop:
                        start += os.pwrite(self._file.fileno(), memoryview(data)[len(data) - (stop - start) :], start)
                self._here[blocks] = True

    def _range(self, start: int, stop: int) -> bytes:
        """One request, repeated where it breaks off."""
        for attempt in range(ATTEMPTS):
            try:
                self._opened.seek(start)
                data = self._opened.read(stop - start)
                if len(data) == stop - start:
                    self.fetched += len(data)
                    return data
                why = f"{len(data)} of {stop - start} bytes came"
            except Exception as error:
                if "range request" in str(error) or "more bytes" in str(error):
                    message = "its server serves no ranges, so fetch it and check the copy"
                    raise InputError(f"cannot read {printable(self.url)}: {message}") from None
                why = _reason(error)
            if attempt + 1 < ATTEMPTS:
                time.sleep(PAUSE * 2**attempt)
        self.check_unchanged()
        place = f"bytes {start} to {stop} did not come, asked for {ATTEMPTS} times"
        raise InputError(f"cannot read {printable(self.url)}: {place} ({why})")

    def _let_go(self, first: int, last: int) -> None:
        """Give the disk's room back, where the system can; else it stays filled."""
        gone = first + np.flatnonzero(self._here[first:last] & (self._holders[first:last] == 0))
        for run in np.split(gone, np.flatnonzero(np.diff(gone) > 1) + 1):
            if len(run) and hasattr(mmap, "MADV_REMOVE"):
                start, stop = int(run[0]) * BLOCK, min(len(self), int(run[-1] + 1) * BLOCK)
                with contextlib.suppress(OSError):
                    self.madvise(mmap.MADV_REMOVE, start, stop - start)
                    self._here[run] = False


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address."""
    return "://" in os.fspath(path)


def need(data: mmap.mmap | bytes, start: int, stop: int) -> None:
    """Have these bytes of a map here, and keep them."""
    if isinstance(data, RemoteMap):
        data.need(start, stop)


@contextlib.contextmanager
def held(data: mmap.mmap | bytes, start: int, stop: int) -> Iterator[None]:
    """Have these bytes of a map here while the block runs."""
    with data.held(start, stop) if isinstance(data, RemoteMap) else contextlib.nullcontext():
        yield


def check_unchanged(data: mmap.mmap | bytes) -> None:
    """Raises InputError where a map's remote file is another one by now."""
    if isinstance(data, RemoteMap):
        data.check_unchanged()


def exists(url: str) -> bool:
    """Whether there is a file. Raises InputError where that cannot be found out."""
    filesystem, path = _filesystem(url)
    try:
        _asked(url, filesystem.info, path)
    except Absent:
        return False
    return True


def about(url: str) -> tuple[int, str]:
    """A file's size in bytes, 0 where its server does not tell, and what tells its version. Raises InputError."""
    filesystem, path = _filesystem(url)
    info = _asked(url, filesystem.info, path)
    return info.get("size") or 0, _version(info)


def listed(url: str, suffixes: tuple[str, ...] = (".gguf",)) -> list[str] | None:
    """The addresses of the files with these endings in a folder, sorted; None where it is no folder.

    HTTP has no folders: whoever asks for one is sent a page, or the file.
    """
    filesystem, path = _filesystem(url)
    if url.startswith(("http://", "https://")) or not _asked(url, filesystem.isdir, path):
        return None
    names = _asked(url, filesystem.ls, path, detail=False)
    found = sorted({name_of(f"x://x/{name}") for name in names if str(name).endswith(suffixes)})
    return [f"{url.rstrip('/')}/{name}" for name in found]


def _filesystem(url: str) -> tuple[Any, str]:
    options = {}
    try:
        from fsspec.core import url_to_fs

        if url.startswith(("http://", "https://")):
            from aiohttp import ClientTimeout

            options["client_kwargs"] = {"timeout": ClientTimeout(sock_connect=SILENCE, sock_read=SILENCE)}
    except ImportError:
        raise InputError(f"cannot read {printable(url)}: that needs fsspec, pip install 'hifi-ref[remote]'") from None
    filesystem, path = _asked(url, url_to_fs, url, **options)
    return filesystem, path


def _asked(url: str, ask: Any, *arguments: Any, **named: Any) -> Any:
    """What fsspec answers. Each of its file systems raises errors of its own."""
    try:
        return ask(*arguments, **named)
    except FileNotFoundError as error:
        # fsspec says so of everything that keeps a file at https:// from being read.
        cause = error.__cause__
        if isinstance(cause, Exception) and getattr(cause, "status", None) != 404 and url.startswith("http"):
            raise InputError(f"cannot read {printable(url)}: {_reason(cause)}") from None
        raise Absent(f"cannot read {printable(url)}: there is no such file") from None
    except Exception as error:
        raise InputError(f"cannot read {printable(url)}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__


def _version(info: dict[str, Any]) -> str:
    return next((f"{key} {info[key]}" for key in VERSION if info.get(key)), "")


@contextlib.contextmanager
def kept_on_disk(url: str) -> Iterator[None]:
    """What the temporary folder refuses, in a sentence."""
    try:
        yield
    except OSError as error:
        where = f"{printable(tempfile.gettempdir())}, which TMPDIR names"
        raise InputError(f"cannot keep what comes of {printable(url)} in {where}: {error.strerror or error}") from None
