"""The weights that a file was quantized from: a GGUF of floats, or safetensors, row by row as float32.

Tensors of safetensors are found by the names that convert_hf_to_gguf gives them, through gguf's own tables. The
converter also changes some: it reorders the rows of attn_q and attn_k of the llama family, whose rotary halves it lays
side by side, and adds 1 to Gemma's norms. `layouts` names the orders that a tensor's rows may stand in.
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
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import MAGIC, Gguf, Tensor, open_gguf, printable
from hifi_ref.model_files.safetensors_file import Entry, SafetensorsError, read_safetensors
from hifi_ref.model_files.tensor_types import is_defined

FLOATS = ("F32", "F16", "BF16")
# Architectures whose converter reorders attn_q and attn_k, and those whose norms it raises by 1.
ROTARY_ROWS = ("llama", "granite", "granitemoe", "baichuan", "deci", "xverse", "smollm3", "arcee", "mistral3")
RAISED_NORMS = ("gemma", "gemma2", "gemma3")
NUMBER = re.compile(r"\.(\d+)\.")
# What the converter leaves out of every checkpoint; and the most layers that names are made for.
DROPPED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
MOST_LAYERS = 1024
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class SourceError(InputError):
    """A source that cannot be used. The message names what and where."""


@dataclass
class Weights:
    """One tensor of the source, its name there, its shape with the row length first, its type's name.

    ``raw`` is uint8[rows, row bytes]; ``order`` the byte order of its numbers. ``raised`` is added to every weight.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    raw: np.ndarray
    order: str = "<"
    raised: float = 0.0

    def rows(self, which: np.ndarray | slice) -> np.ndarray:
        """f32[rows, row length] of these rows, exactly as stored."""
        raw = np.ascontiguousarray(self.raw[which])
        if self.kind == "F32":
            x = raw.view(self.order + "f4").astype(np.float32, copy=False)
        elif self.kind == "F64":
            x = raw.view(self.order + "f8").astype(np.float32)
        else:
            if self.order == ">":
                raw = raw.reshape(len(raw), -1, 2)[..., ::-1].reshape(raw.shape)
            x = decode(self.kind, raw)
        return x + np.float32(self.raised) if self.raised else x


@dataclass
class Source:
    """Where weights come from. ``find`` returns the tensor of a GGUF name, or None; ``names`` are all that it has.

    ``unmapped`` are tensors of the source that no GGUF name is known for.
    """

    path: str
    form: str
    names: list[str]
    find: Callable[[str], Weights | None]
    unmapped: list[str] = field(default_factory=list)


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


def expects_interleaved(source: Source, target: Gguf, tensor: Tensor) -> bool:
    """Whether convert_hf_to_gguf reorders this tensor's rows on the way from this source."""
    arch = target.text("general.architecture")
    return source.form == "safetensors" and arch in ROTARY_ROWS and bool(layouts(target, tensor))


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
        row = tensor.shape[0] if tensor.shape else 1
        raw = file.blocks(tensor).reshape(tensor.elements // row, -1)
        return Weights(name, tensor.shape or (1,), tensor.type_name, raw, file.order)

    return Source(os.fspath(path), "GGUF", list(tensors), find)


def _safetensors(path: Path, target: Gguf) -> Source:
    entries = read_safetensors(path)
    arch = target.text("general.architecture")
    names, unmapped = _map_names(list(entries), arch)

    def find(name: str) -> Weights | None:
        if name not in names:
            return None
        entry = entries[names[name]]
        if entry.dtype not in (*FLOATS, "F64"):
            raise SourceError(f"tensor {printable(entry.name)} of the source is {entry.dtype}, not a float known here")
        raised = 1.0 if arch in RAISED_NORMS and name.endswith("norm.weight") else 0.0
        return Weights(entry.name, _shape(entry), entry.dtype, _raw(entry), "<", raised)

    return Source(os.fspath(path), "safetensors", list(names), find, unmapped)


def _shape(entry: Entry) -> tuple[int, ...]:
    return tuple(reversed(entry.shape)) or (1,)


def _raw(entry: Entry) -> np.ndarray:
    rows = 1
    for n in entry.shape[:-1]:
        rows *= n
    return np.frombuffer(entry.data, np.uint8, entry.stop - entry.start, entry.start).reshape(rows, -1)


def _map_names(tensors: list[str], arch: str | None) -> tuple[dict[str, str], list[str]]:
    """GGUF name -> the source's name, and the source's names that have none."""
    import gguf

    architecture = next((a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == arch), None)
    if architecture is None:
        raise SourceError(f"the architecture {printable(str(arch))} of the file has no table of names in gguf-py")
    # Also of layers that the file lacks.
    numbers = (int(n) for name in tensors for n in NUMBER.findall(name))
    table = gguf.get_tensor_name_map(architecture, max((n for n in numbers if n < MOST_LAYERS), default=-1) + 1)
    names: dict[str, str] = {}
    unmapped = []
    for tensor in tensors:
        if tensor.endswith(DROPPED):
            continue
        name = table.get_name(tensor, try_suffixes=(".weight", ".bias"))
        if name is None or name in names:
            unmapped.append(tensor)
        else:
            names[name] = tensor
    return names, unmapped


__all__ = ["SafetensorsError", "Source", "SourceError", "Weights", "layouts", "open_source"]
