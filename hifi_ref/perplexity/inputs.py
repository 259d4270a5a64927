"""The ids that are to be scored: a text's, or those of a file."""

from __future__ import annotations

import re
from pathlib import Path

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.models import tokenize


def ids_of_text(model: str, path: str) -> list[int]:
    """A file's text, without the line end at its end, as llama-perplexity reads it. Raises OSError, InputError."""
    text = Path(path).read_bytes()
    return tokenize(model, text.removesuffix(b"\n"), special=True, parse=False)


def ids_of_file(path: str) -> list[int]:
    """Whole numbers with spaces, commas or line ends between them, in brackets or not. Raises OSError, InputError."""
    words = re.split(r"[\s,\[\]]+", Path(path).read_text("utf-8", "replace").strip(" \t\r\n,[]"))
    for place, word in enumerate(words):
        if not word.isdecimal():
            raise InputError(f"{printable(path)}: {printable(word)!r}, at place {place}, is no id")
    return [int(word) for word in words]
