"""Which files are meant, and which of them are one model: a file, several, a folder, a glob, or any shard of a set.

Files and folders may be addresses, https://... or hf://owner/repo.

llama.cpp finds the shards of a model by their names, NAME-00001-of-00005.gguf and so on; so does this.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hifi_ref.model_files import remote
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable

SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class ModelFiles(NamedTuple):
    """The files of one model, in the order of their shards, and the names of those that are not there."""

    paths: list[str]
    missing: list[str] = []


def models_of(arguments: Iterable[str]) -> list[ModelFiles]:
    """The models that the arguments name, in their order, each once. Raises InputError where one names nothing."""
    models: dict[str, ModelFiles] = {}
    for argument in arguments:
        for path in _files(argument):
            files = with_its_shards(path)
            first = files.paths[0]
            models.setdefault(first if remote.is_remote(first) else os.path.abspath(first), files)
    return list(models.values())


def with_its_shards(path: str) -> ModelFiles:
    """A file, and where its name is a shard's, the others beside it."""
    place = place_in_name(path)
    if place is None or place[1] < 2:
        return ModelFiles([path])
    stem, total = SHARD.fullmatch(path)[1], place[1]  # type: ignore[index]
    names = [f"{stem}-{number:05}-of-{total:05}.gguf" for number in range(1, total + 1)]
    exists = remote.exists if remote.is_remote(path) else os.path.exists
    there = [name for name in names if exists(name)] or [path]
    return ModelFiles(there, [name for name in names if name not in there])


def place_in_name(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Which shard of how many a file's name says it is, the first being 1; None where it is no shard's name."""
    found = SHARD.fullmatch(os.fspath(path))
    if found is None or not 1 <= int(found[2]) <= int(found[3]):
        return None
    return int(found[2]), int(found[3])


def _files(argument: str) -> Iterator[str]:
    if remote.is_remote(argument):
        in_folder = None if argument.endswith(".gguf") else remote.listed(argument)
        if in_folder == []:
            raise InputError(f"{printable(argument)} is a folder, and there is no .gguf file in it")
        yield from [argument] if in_folder is None else in_folder
    elif os.path.isdir(argument):
        found = sorted(os.fspath(path) for path in Path(argument).glob("*.gguf"))
        if not found:
            raise InputError(f"{printable(argument)} is a directory, and there is no .gguf file in it")
        yield from found
    elif glob.has_magic(argument) and not os.path.exists(argument):
        found = sorted(path for path in glob.glob(argument) if os.path.isfile(path))
        if not found:
            raise InputError(f"no file is named like {printable(argument)}")
        yield from found
    else:
        yield argument
