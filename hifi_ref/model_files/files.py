"""Files that cannot be used, files that are written whole or not at all, and memory that is done with."""

from __future__ import annotations

import ctypes
import mmap
import os
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

# Of malloc.h: how many heaps there may be; what is as large lies outside of them; up to what they keep what was freed.
M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1


class InputError(ValueError):
    """A file that cannot be used as what it was given for. The message names what and where, in one sentence."""


def unusable(error: OSError) -> InputError:
    """What the system says of a file, as a sentence that names it."""
    return InputError(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def name_of(path: str | os.PathLike[str]) -> str:
    """A file's last name, without its folders; of an address without its query."""
    text = os.fspath(path)
    return posixpath.basename(urlsplit(text).path) if "://" in text else os.path.basename(text)


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file or none. Raises OSError."""
    with replacing(path, "w") as file:
        file.write(text)


@contextmanager
def replacing(path: str | os.PathLike[str], mode: str) -> Iterator[IO]:
    """A temporary file beside ``path``, to be written in the block, which then takes its place. Raises OSError.

    Whatever is raised in the block, nothing is left behind, and what was at ``path`` stays.
    """
    target = Path(path)
    encoding = None if "b" in mode else "utf-8"
    with tempfile.NamedTemporaryFile(
        mode, encoding=encoding, dir=target.parent, prefix=f".{target.name}.", delete=False
    ) as file:
        try:
            yield file
            file.close()
            os.chmod(file.name, 0o666 & ~_umask())
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def release(data: mmap.mmap | bytes, start: int, stop: int) -> None:
    """Tell the system that these bytes of the map are done with, so that it need not hold them for us."""
    if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = stop // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            data.madvise(mmap.MADV_DONTNEED, first, last - first)


def share_heaps(keep: int = 0) -> None:
    """Let all threads to come share two heaps, where a C library would give each its own.

    ``keep``: so many bytes that were freed do not go back to the system, which would clear them before the next use.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if adjust is not None:
        adjust(M_ARENA_MAX, 2)
        if keep:
            adjust(M_MMAP_THRESHOLD, keep)
            adjust(M_TRIM_THRESHOLD, keep)


def give_back() -> None:
    """Give the system memory that was freed, where the C library can: a compiler's heap, for one, it would keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
