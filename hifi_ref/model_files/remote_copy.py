"""The source of a model, where it lies at an address: fetched whole, into a folder that is removed afterwards."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hifi_ref.model_files.files import name_of
from hifi_ref.model_files.remote import PIECE, RemoteMap, about, exists, is_remote, kept_on_disk, listed

# The files of a checkpoint that its weights are read from.
CHECKPOINT = (".safetensors", ".json")
# Called with the bytes to come; returns what is called with those that came, and the name of their file.
StartProgress = Callable[[int], Callable[[int, str], object]]

_SHARD = re.compile(r"(.*)-\d{5}-of-(\d{5})(\.gguf)")


@contextlib.contextmanager
def local_copy(url: str, start_progress: StartProgress = lambda nbytes: lambda done, name: None) -> Iterator[Path]:
    """A file, with its shards, or the checkpoint of a folder, as a local one while the block runs. Raises InputError.

    What is local already is itself.
    """
    if not is_remote(url):
        yield Path(url)
        return
    in_folder = None if url.endswith((*CHECKPOINT, ".gguf")) else listed(url, CHECKPOINT)
    with tempfile.TemporaryDirectory(prefix="hifi_ref-") as scratch:
        here, files = Path(scratch), _with_what_belongs_to(url) if in_folder is None else _without_unnamed(in_folder)
        progress = start_progress(sum(about(each)[0] for each in files))
        for each in files:
            _fetch_whole(each, here / name_of(each), progress)
        yield here if in_folder is not None else here / name_of(url)


def shards(url: str) -> list[str]:
    """The files of a model that is split, of which any one is named, by their names; else the file itself."""
    found = _SHARD.fullmatch(url)
    if found is None:
        return [url]
    return [f"{found[1]}-{number:05}-of-{found[2]}{found[3]}" for number in range(1, int(found[2]) + 1)]


def _with_what_belongs_to(url: str) -> list[str]:
    """A model's shards; of safetensors and of an index also the configuration beside it, and what the index names."""
    if not url.endswith(CHECKPOINT):
        return shards(url)
    folder = url.rpartition("/")[0]
    others = [f"{folder}/{name}" for name in (_named_in(url) if url.endswith(".json") else [])]
    config = f"{folder}/config.json"
    return [url, *others, *([config] if exists(config) else [])]


def _without_unnamed(files: list[str]) -> list[str]:
    """The files of a folder but for weights that its index, where there is one, does not name."""
    index = next((file for file in files if file.endswith(".safetensors.index.json")), None)
    names = None if index is None else _named_in(index)
    return [file for file in files if names is None or file.endswith(".json") or name_of(file) in names]


def _named_in(index: str) -> list[str]:
    """The files that an index names; none where it is no index, which its reader will tell."""
    data = RemoteMap(index)
    data.need(0, len(data))
    try:
        return sorted({str(name) for name in json.loads(data[: len(data)])["weight_map"].values() if "/" not in name})
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _fetch_whole(url: str, target: Path, progress: Callable[[int, str], object]) -> None:
    data = RemoteMap(url)
    with kept_on_disk(url), open(target, "wb") as file:
        for start in range(0, len(data), PIECE):
            stop = min(len(data), start + PIECE)
            with data.held(start, stop):
                file.write(data[start:stop])
            progress(stop - start, name_of(url))
    data.check_unchanged()
