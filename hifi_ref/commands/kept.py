"""What is done of a measurement that takes long: arrays, kept in a file after each chunk until all are done."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from hifi_ref.model_files.files import InputError, replacing
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.models import with_its_shards


def digest_of(models: Sequence[str], ids: Sequence[int], context: int, setting: str) -> str:
    """Stands for all that a result depends on: the models' files, by size and time, the ids, and the setting."""
    paths = [path for model in models for path in with_its_shards(model).paths]
    files = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps([files, list(ids), context, setting]).encode()).hexdigest()


def load(path: str, digest: str) -> dict[str, np.ndarray]:
    """What an interrupted run over the same has done; nothing of any other. Raises InputError for another's file."""
    if not os.path.isfile(path):
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
        return state if str(state.pop("digest")) == digest else {}
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{printable(path)} is there, and is not what an interrupted run keeps") from None


def save(path: str, digest: str, state: Mapping[str, np.ndarray]) -> None:
    """Whole or not at all. Raises OSError."""
    with replacing(path, "wb") as file:
        np.savez(file, allow_pickle=False, digest=np.array(digest), **state)
