"""A GGUF file taken apart and put together again, by gguf-py: what a test changes in between is all that changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np


class Content(NamedTuple):
    """``metadata`` maps a key to value, kind and, of a list, its items' kind; ``tensors`` a name to bytes and type."""

    metadata: dict[str, tuple[Any, gguf.GGUFValueType, gguf.GGUFValueType | None]]
    tensors: dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]]


def read(path: Path) -> Content:
    reader = gguf.GGUFReader(path)
    metadata = {
        name: (field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    return Content(metadata, {t.name: (np.array(t.data), t.tensor_type) for t in reader.tensors})


def write(path: Path, content: Content) -> Path:
    """Write a file in the order of the content; return its path."""
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    for name, (value, kind, items) in content.metadata.items():
        writer.add_key_value(name, value, kind, items)
    if "general.alignment" in content.metadata:
        writer.data_alignment = content.metadata["general.alignment"][0]
    for name, (data, kind) in content.tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def split(folder: Path, stem: str, content: Content, count: int) -> list[Path]:
    """Write a model in so many shards, as gguf-split does: the first has all metadata, the others their places."""
    names = list(content.tensors)
    step = -(-len(names) // count)
    paths = []
    for i in range(count):
        place = {
            "split.no": (i, gguf.GGUFValueType.UINT16, None),
            "split.count": (count, gguf.GGUFValueType.UINT16, None),
            "split.tensors.count": (len(names), gguf.GGUFValueType.INT32, None),
        }
        tensors = {name: content.tensors[name] for name in names[i * step : (i + 1) * step]}
        path = folder / f"{stem}-{i + 1:05}-of-{count:05}.gguf"
        paths.append(write(path, Content((content.metadata if i == 0 else {}) | place, tensors)))
    return paths
