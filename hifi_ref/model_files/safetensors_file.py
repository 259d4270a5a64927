"""Reading safetensors: one file, or shards named by an index; memory-mapped, every claim of the file checked.

    u64 n, little-endian    n bytes of JSON: name -> {"dtype", "shape", "data_offsets": [start, stop]}    the tensors

Offsets count from the end of the JSON. A folder, or an index file model.safetensors.index.json, stands for its shards:
its "weight_map" tells which file holds which tensor.

Reference: the format description of huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable

# As the reference's own limit.
MAX_HEADER = 100_000_000
MAX_DIMENSIONS = 8
INDEX = "model.safetensors.index.json"
BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip


class SafetensorsError(InputError):
    """No safetensors file, or a broken one. The message names what and where."""


class Entry(NamedTuple):
    """One tensor: its shape has the row length last; its bytes are data[start : stop] of the map."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: mmap.mmap
    start: int
    stop: int


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """Every tensor of a file, or of the shards of an index or folder. Raises OSError, or SafetensorsError."""
    path = Path(path)
    if path.is_dir():
        path = path / INDEX if (path / INDEX).exists() else path
    files = _parts(path) if path.is_dir() else [path] if path.suffix != ".json" else _shards(path)
    entries: dict[str, Entry] = {}
    for file in files:
        for entry in _read_one(file):
            if entry.name in entries:
                raise SafetensorsError(f"{printable(str(file))}: another file already holds {printable(entry.name)}")
            entries[entry.name] = entry
    return entries


def _parts(folder: Path) -> list[Path]:
    """The files of a folder without an index: those of transformers, else those of Mistral."""
    for pattern in ("model*.safetensors", "consolidated*.safetensors"):
        if found := sorted(folder.glob(pattern)):
            return found
    return [folder / "model.safetensors"]


def _shards(index: Path) -> list[Path]:
    name = printable(str(index))
    if index.stat().st_size > MAX_HEADER:
        raise SafetensorsError(f"{name}: larger than {MAX_HEADER} bytes, so no index")
    content = _parse(index.read_bytes(), name)
    files = content.get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise SafetensorsError(f"{name}: no index: it has no weight_map of tensor names to files")
    for file in files.values():
        if Path(file).name != file:
            raise SafetensorsError(f"{name}: the shard {printable(file)} is not a file name of the same folder")
    return [index.parent / file for file in sorted(set(files.values()))]


def _read_one(path: Path) -> Iterator[Entry]:
    name = printable(str(path))
    if not path.is_file():
        raise SafetensorsError(f"{name}: there is no such file")
    size = path.stat().st_size
    if size < 8:
        raise SafetensorsError(f"{name}: {size} bytes are too few for safetensors")
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, size - 8):
        raise SafetensorsError(f"{name}: no safetensors: it announces a header of {length} bytes, {size - 8} follow")
    header = _parse(data[8 : 8 + length], name)
    for tensor, entry in header.items():
        if tensor != "__metadata__":
            yield _entry(name, tensor, entry, data, 8 + length)


def _parse(raw: bytes, name: str) -> dict[str, Any]:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise SafetensorsError(f"{name}: the header is no JSON") from None
    if not isinstance(content, dict):
        raise SafetensorsError(f"{name}: the header is no JSON object")
    return content


def _entry(file: str, tensor: str, entry: Any, data: mmap.mmap, base: int) -> Entry:
    where = f"{file}: tensor {printable(tensor)}"
    fields = entry if isinstance(entry, dict) else {}
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    offsets: Any = fields.get("data_offsets")
    if not isinstance(dtype, str) or not _counts(shape, MAX_DIMENSIONS) or not _counts(offsets, 2) or len(offsets) != 2:
        raise SafetensorsError(f"{where} lacks a dtype, a shape or two offsets")
    if dtype not in BYTES:
        raise SafetensorsError(f"{where} is of the unknown dtype {printable(dtype)}")
    start, stop = offsets
    if not start <= stop <= len(data) - base:
        raise SafetensorsError(f"{where} claims bytes {start} to {stop}, but the data has {len(data) - base}")
    wanted = math.prod(shape) * BYTES[dtype]
    if stop - start != wanted:
        raise SafetensorsError(f"{where} has {stop - start} bytes, but {dtype} {list(shape)} needs {wanted}")
    return Entry(tensor, dtype, tuple(shape), data, base + start, base + stop)


def _counts(numbers: Any, most: int) -> bool:
    """Whether this is a short list of integers that are not negative."""
    if not isinstance(numbers, list) or len(numbers) > most:
        return False
    return all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 63 for n in numbers)
