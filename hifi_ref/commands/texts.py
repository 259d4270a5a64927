"""The ids that are to be read or scored, a text's or those of a file, how they are cut into chunks, and their flags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from hifi_ref.commands.command_line import UsageError
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.models import MODES, tokenize


def define_flags(values: flags.FlagValues) -> None:
    """--text, --tokens, --context and --chunks."""
    flags.DEFINE_string("text", None, "FILE: the text", flag_values=values)
    flags.DEFINE_string("tokens", None, "FILE: ids in place of a text, with spaces or commas", flag_values=values)
    flags.DEFINE_integer("context", 512, "N: ids a chunk (default 512)", flag_values=values, lower_bound=4)
    define_chunks(values)


def define_chunks(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("chunks", None, "N: take so many chunks (default: all)", flag_values=values, lower_bound=1)


def define_mode(values: flags.FlagValues) -> None:
    modes = "MODE: exact, the release's bits, or fast, sums in any order (default exact)"
    flags.DEFINE_enum("mode", "exact", MODES, modes, flag_values=values)


def check_flags(values: flags.FlagValues) -> None:
    """Raises UsageError unless there is a text, or ids."""
    if (values.text is None) == (values.tokens is None):
        raise UsageError("either --text or --tokens is needed")


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
