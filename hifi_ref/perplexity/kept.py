"""What is done of a measurement that takes long: one line a chunk, kept in a file until all are done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from hifi_ref.model_files.files import InputError, write_atomically
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.models import with_its_shards


def digest_of(model: str, ids: Sequence[int], context: int, setting: str) -> str:
    """Stands for all that a result depends on: the model's files, by size and time, the ids, and the setting."""
    files = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in with_its_shards(model).paths]
    return hashlib.sha256(json.dumps([files, list(ids), context, setting]).encode()).hexdigest()


def load(path: str | None, digest: str) -> list[list[float]]:
    """The chunks done by an interrupted run over the same; none of any other. Raises InputError for another's file."""
    if path is None or not os.path.isfile(path):
        return []
    try:
        state = json.loads(Path(path).read_text())
        return [[float(value) for value in chunk] for chunk in state["chunks"]] if state["digest"] == digest else []
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{printable(path)} is there, and is not what an interrupted run keeps") from None


def save(path: str | None, digest: str, chunks: list[list[float]]) -> None:
    """Whole or not at all; a number is written so that the same is read. Raises OSError."""
    if path is not None:
        write_atomically(path, json.dumps({"digest": digest, "chunks": chunks}))
