"""What llama.cpp's converter made of the checkpoints, and GGUF files like those that it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from hifi_ref import api
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.source import Weights, open_source
from tests import checkpoints
from tests.checkpoint_models import CHECKPOINTS

WRITTEN: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "converted.json").read_text())
FACTS: dict[str, Any] = WRITTEN["checkpoints"]
CASES = [(name, outtype) for name, made in FACTS.items() for outtype in made]


def write(path: Path, name: str, outtype: str, data: Callable[[str, str, list[int]], np.ndarray | None]) -> Path:
    """A file with the converter's metadata and tensors; ``data(name, type, shape)`` gives bytes, None for zeros."""
    facts = FACTS[name][outtype]
    writer = gguf.GGUFWriter(path, facts["architecture"])
    for key, (kinds, value) in facts["metadata"].items():
        writer.add_key_value(key, value, gguf.GGUFValueType(kinds[0]), *map(gguf.GGUFValueType, kinds[1:2]))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<0x{byte:02X}>" for byte in range(40)])
    for tensor, (kind, shape, *_) in facts["tensors"].items():
        quantization = gguf.GGMLQuantizationType[kind]
        block, size = gguf.GGML_QUANT_SIZES[quantization]
        stored = (*reversed(shape[1:]), shape[0] // block * size)
        made = data(tensor, kind, shape)
        raw = np.zeros(stored, np.uint8) if made is None else made.reshape(stored)
        writer.add_tensor(tensor, raw, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def in_type(weights: Weights, kind: str) -> np.ndarray:
    """The bytes of a tensor that the converter writes in this type."""
    if weights.kind == kind and weights.stored is not None:
        return weights.stored(slice(None))
    return api.encode(kind, weights.rows(slice(None)), lane="numpy")


def as_converted(folder: Path, name: str, outtype: str = "f32") -> Path:
    """The file that the converter wrote, beside its checkpoint; other tests hold every bit of it."""
    source = checkpoints.write(folder / "checkpoint", name, CHECKPOINTS[name])
    empty = open_gguf(write(folder / "empty.gguf", name, outtype, lambda tensor, kind, shape: None))
    found = open_source(source, empty)

    def data(tensor: str, kind: str, shape: list[int]) -> np.ndarray:
        weights = found.find(tensor)
        assert weights is not None
        return np.frombuffer(in_type(weights, kind).tobytes(), np.uint8)

    return write(folder / "converted.gguf", name, outtype, data)
