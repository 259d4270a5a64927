"""Holes: bytes of a file that were never written. The file system knows where they are, and reads zeros there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Whether bytes ``start`` to ``stop`` lie in a hole.
IsHole = Callable[[int, int], bool]


@contextmanager
def holes(path: str | os.PathLike[str]) -> Iterator[IsHole]:
    """Tells the holes of a local file; there are none where the system cannot tell. Raises OSError."""
    if not hasattr(os, "SEEK_DATA"):
        yield lambda start, stop: False
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        yield lambda start, stop: stop <= os.fstat(fd).st_size and _next_data(fd, start) >= stop
    finally:
        os.close(fd)


def _next_data(fd: int, start: int) -> int:
    """Where the next bytes that were written begin, from ``start`` on; behind the file's end where none are left."""
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return os.fstat(fd).st_size
        return start
