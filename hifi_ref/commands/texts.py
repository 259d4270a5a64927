"""The ids that are to be read or scored, a text's or those of a file, and how they are cut into chunks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.models import tokenize


def ids_of_text(model: str, path: str) -> list[int]:
    """A file's text, without the line end at its end, as llama.cpp's tools read it. Raises OSError, InputError."""
    text = Path(path).read_bytes()
    return tokenize(model, text.removesuffix(b"\n"), special=True, parse=False)


def ids_of_file(path: str) -> list[int]:
    """Whole numbers with spaces, commas or line ends between them, in brackets or not. Raises OSError, InputError."""
    words = re.split(r"[\s,\[\]]+", Path(path).read_text("utf-8", "replace").strip(" \t\r\n,[]"))
    for place, word in enumerate(words):
        if not word.isdecimal():
            raise InputError(f"{printable(path)}: {printable(word)!r}, at place {place}, is no id")
    return [int(word) for word in words]


def chunks_of(ids: Sequence[int], context: int, most: int | None, source: str) -> list[list[int]]:
    """Chunks of ``context`` ids, all or so many at most. Raises InputError where there are less than two."""
    if len(ids) < 2 * context:
        needed = f"at least {2 * context}, two chunks of {context}, are needed"
        raise InputError(f"{printable(source)} has {len(ids)} ids, and {needed}")
    count = min(len(ids) // context, most or len(ids))
    return [list(ids[i * context : (i + 1) * context]) for i in range(count)]


def fed(chunk: Sequence[int], bos: int | None) -> list[int]:
    """What a model reads of a chunk: where the vocabulary begins texts with a token, this in the first one's place."""
    return list(chunk) if bos is None else [bos, *chunk[1:]]
