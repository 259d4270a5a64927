"""Files that cannot be used, and files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class InputError(ValueError):
    """A file that cannot be used as what it was given for. The message names what and where, in one sentence."""


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole file or none: a temporary file beside it takes its place. Raises OSError."""
    target = Path(path)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(text)
            file.close()
            os.chmod(file.name, 0o666 & ~_umask())
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
