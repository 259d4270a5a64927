"""The results of a comparison that was interrupted, kept so that the next run goes on where it ended."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hifi_ref.check.comparison import Options, TensorResult
from hifi_ref.model_files import remote
from hifi_ref.model_files.files import write_atomically


def digest_of(paths: Iterable[str], options: Options) -> str:
    """Stands for the files, by size and time, and the options: what a result depends on."""
    depends_on: list[Any] = [options.source, options.imatrix, options.tensors, options.sample, options.seed]
    depends_on.append(options.profile)
    for name in (*paths, options.source, options.imatrix):
        if name is None:
            continue
        if remote.is_remote(name):
            depends_on.append((name, *remote.about(name)))
            continue
        files = sorted(Path(name).iterdir()) if os.path.isdir(name) else [Path(name)]
        depends_on += [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()


def load_state(path: str | None, digest: str) -> dict[str, TensorResult]:
    """Results of an interrupted run over the same files with the same options; none of any other."""
    if path is None or not os.path.isfile(path):
        return {}
    try:
        state = json.loads(Path(path).read_text())
        if state["digest"] != digest:
            return {}
        return {name: TensorResult(**fields) for name, fields in state["done"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def save_state(path: str | None, digest: str, done: dict[str, TensorResult]) -> None:
    if path is not None:
        results = {name: result.to_json() for name, result in done.items()}
        write_atomically(path, json.dumps({"digest": digest, "done": results}))
