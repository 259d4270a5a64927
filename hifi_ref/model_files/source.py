"""The weights that a file was quantized from: a GGUF of floats, or safetensors, row by row as float32.

Safetensors are read as convert_hf_to_gguf reads them: see the room hugging_face. `layouts` names the orders that the
rows of attn_q and attn_k may stand in besides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import release
from hifi_ref.model_files.gguf_file import MAGIC, Gguf, Tensor, open_gguf
from hifi_ref.model_files.hugging_face.checkpoint import open_checkpoint
from hifi_ref.model_files.safetensors_file import SafetensorsError
from hifi_ref.model_files.tensor_types import is_defined
from hifi_ref.model_files.weights import NotKnown, Rows, SourceError, Weights

FLOATS = ("F32", "F16", "BF16")
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass
class Source:
    """Where weights come from. ``find`` returns the tensor of a GGUF name, or None; ``names`` are all that it has.

    ``find`` raises NotKnown for a tensor of which a source says too little. ``unmapped`` are tensors of the source that
    no GGUF name is known for, ``elsewhere`` those that belong into another file, as those of images do.
    """

    path: str
    form: str
    names: list[str]
    find: Callable[[str], Weights | None]
    unmapped: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    """uint8[rows, row bytes] -> f32[rows, row length], in NumPy."""
    return api.decode(name, blocks, lane="numpy")


def open_source(path: str | os.PathLike[str], target: Gguf) -> Source:
    """Open the source of ``target``. Raises OSError, or GgufError, SafetensorsError or SourceError in one sentence."""
    path = Path(path)
    if path.is_dir() or path.suffix in (".safetensors", ".json"):
        return _safetensors(path, target)
    with open(path, "rb") as file:
        head = file.read(9)
    if head[:4] != MAGIC and len(head) == 9 and head[8:9] == b"{":
        return _safetensors(path, target)
    return _gguf(path)


def layouts(target: Gguf, tensor: Tensor) -> dict[str, np.ndarray]:
    """Other orders that the source's rows may stand in: name -> the source's row for each row of the tensor."""
    arch = target.text("general.architecture")
    if len(tensor.shape) > 2 or not re.search(r"\.attn_[qk]\.(weight|bias)$", tensor.name):
        return {}
    key = "head_count" if ".attn_q." in tensor.name else "head_count_kv"
    value = target.metadata.get(f"{arch}.attention.{key}") or target.metadata.get(f"{arch}.attention.head_count")
    heads = value.scalar if value is not None and value.count is None else None
    rows = tensor.shape[1] if len(tensor.shape) == 2 else tensor.shape[0]
    if not isinstance(heads, int) or heads < 1 or rows % (2 * heads):
        return {}
    halves = np.arange(rows).reshape(heads, 2, rows // heads // 2)
    interleaved = halves.swapaxes(1, 2).reshape(-1)
    return {"interleaved": interleaved, "halved": np.argsort(interleaved)}


def _parts(path: Path) -> list[Path]:
    """The files of a model that is split, of which any one was given; else the file itself."""
    found = PART.search(path.name)
    if found is None:
        return [path]
    stem = path.name[: found.start()]
    return [path.with_name(f"{stem}-{i:05}-of-{found[2]}.gguf") for i in range(1, int(found[2]) + 1)]


def _gguf(path: Path) -> Source:
    tensors = {tensor.name: (file, tensor) for file in map(open_gguf, _parts(path)) for tensor in file.tensors}

    def find(name: str) -> Weights | None:
        if name not in tensors or not tensors[name][1].nbytes:
            return None
        file, tensor = tensors[name]
        known = tensor.type_name in FLOATS or tensor.type_name == "F64" or tensor.type_name in FORMATS
        if not known or not is_defined(tensor.known_type):
            raise SourceError(f"tensor {name} of the source is {tensor.type_name}, which holds no weights known here")
        if file.order == ">" and tensor.type_name not in (*FLOATS, "F64"):
            raise SourceError(f"tensor {name} of the source holds big-endian {tensor.type_name} blocks")
        return _stored(file, tensor)

    return Source(os.fspath(path), "GGUF", list(tensors), find)


def _stored(file: Gguf, tensor: Tensor) -> Weights:
    """A tensor of a GGUF, in the byte order of its file."""
    row = tensor.shape[0] if tensor.shape else 1
    raw = file.blocks(tensor).reshape(tensor.elements // row, -1)
    size = {"F32": 4, "F64": 8}.get(tensor.type_name, 2)

    def stored(which: Rows) -> np.ndarray:
        rows = np.ascontiguousarray(raw[which])
        return rows if file.order == "<" else rows.reshape(len(rows), -1, size)[..., ::-1].reshape(rows.shape)

    def rows(which: Rows) -> np.ndarray:
        if tensor.type_name in ("F32", "F64"):
            numbers = np.ascontiguousarray(stored(which)).view("<f4" if size == 4 else "<f8")
            return numbers.astype(np.float32, copy=False)
        return decode(tensor.type_name, stored(which))

    def forget() -> None:
        release(file.data, tensor.start, tensor.start + tensor.known_nbytes)

    return Weights(tensor.name, tensor.shape or (1,), tensor.type_name, rows, stored, forget=forget)


def _safetensors(path: Path, target: Gguf) -> Source:
    checkpoint = open_checkpoint(path, target)
    names = [name for name in checkpoint.tensors if name not in checkpoint.optional]
    return Source(os.fspath(path), "safetensors", names, checkpoint.find, checkpoint.unmapped, checkpoint.elsewhere)


__all__ = ["NotKnown", "SafetensorsError", "Source", "SourceError", "Weights", "layouts", "open_source"]
