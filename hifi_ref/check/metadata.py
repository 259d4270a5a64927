"""The metadata held against the source's: what llama-quantize leaves as it is must be the same, key by key.

Of a GGUF every entry is compared, but for those that llama_model_quantize writes itself. Of a checkpoint, the numbers
of its config.json are, for architectures whose converter (convert_hf_to_gguf of llama.cpp v0.5.0) passes them on.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hifi_ref.model_files import context
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import open_gguf, printable
from hifi_ref.model_files.gguf_header import KINDS
from hifi_ref.model_files.gguf_model import Gguf, Value
from hifi_ref.model_files.models import with_its_shards

# What quantizing writes, or takes away; and the layout of the file, which is its own.
WRITTEN = ("general.file_type", "general.quantization_version", "general.alignment", "quantize.", "split.",
           context.DIALECT, context.MODEL_PARAMS, context.OUTLIERS)  # fmt: skip
# What llama.cpp computes by, beside the keys of the architecture.
READ = ("general.architecture", "tokenizer.ggml.", "tokenizer.huggingface.", "xielu.", "adapter.", "clip.")
TEMPLATES = ("tokenizer.chat_template",)
# A number of config.json, and the keys of the architecture that it becomes.
CONFIG = {
    "num_hidden_layers": ("block_count",), "hidden_size": ("embedding_length",), "vocab_size": ("vocab_size",),
    "intermediate_size": ("feed_forward_length",), "max_position_embeddings": ("context_length",),
    "num_attention_heads": ("attention.head_count",), "num_key_value_heads": ("attention.head_count_kv",),
    "head_dim": ("attention.key_length", "attention.value_length"), "rope_theta": ("rope.freq_base",),
    "rms_norm_eps": ("attention.layer_norm_rms_epsilon",), "moe_intermediate_size": ("expert_feed_forward_length",),
    "num_local_experts": ("expert_count",), "num_experts": ("expert_count",),
    "num_experts_per_tok": ("expert_used_count",),
}  # fmt: skip
PASSED_ON = ("llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3")
# The longest text of a value that a message shows.
SHOWN = 60
_LETTERS = {kind.name: kind.letter for kind in KINDS.values()}


class MetadataComparison(NamedTuple):
    """How many entries were compared, with those of what ("GGUF", "config.json", None where nothing was).

    ``changed``, ``lost`` and ``added`` are the keys that are not the source's, ``read`` those that llama.cpp reads.
    """

    compared: int
    source: str | None
    changed: list[str]
    lost: list[str]
    added: list[str]
    read: list[str]

    @property
    def line(self) -> str:
        """As it stands in what a verdict rests on."""
        if self.source is None:
            return "metadata not compared"
        what = "metadata entries" if self.source == "GGUF" else f"numbers of {self.source}"
        return f"{self.compared} {what} compared"


def compare_metadata(target: Gguf, source: str | os.PathLike[str], form: str, findings: Findings) -> MetadataComparison:
    """Compare a model's first file with its source, whose ``form`` is "GGUF" or "safetensors"; add what differs."""
    if target.data_start is None:
        return MetadataComparison(0, None, [], [], [], [])
    if form == "GGUF":
        return _with_gguf(target, open_gguf(with_its_shards(os.fspath(source)).paths[0]), findings)
    return _with_config(target, Path(source), findings)


def _with_gguf(target: Gguf, source: Gguf, findings: Findings) -> MetadataComparison:
    own = {key for key in target.metadata if not key.startswith(WRITTEN)}
    theirs = {key for key in source.metadata if not key.startswith(WRITTEN)}
    both = [key for key in source.metadata if key in own & theirs]
    changed = [key for key in both if _content(target, key) != _content(source, key)]
    lost, added = sorted(theirs - own), sorted(own - theirs)
    architectures = {file.text("general.architecture") for file in (target, source)}
    for key in changed:
        message = f"{key} is {_shown(target, key)}, and {_shown(source, key)} in the source"
        findings.add(Finding(_code(key, architectures), message, offset=target.metadata[key].start))
    for key in lost:
        findings.add(Finding(_code(key, architectures), f"{key} is missing, and {_shown(source, key)} in the source"))
    for key in added:
        message = f"{key} is {_shown(target, key)}, and the source has no such key"
        findings.add(Finding(_code(key, architectures), message, offset=target.metadata[key].start))
    read = [key for key in (*changed, *lost, *added) if _code(key, architectures) != "E016"]
    return MetadataComparison(len(own | theirs), "GGUF", changed, lost, added, read)


def _code(key: str, architectures: set[str | None]) -> str:
    """E014 for what llama.cpp computes by, E015 for chat templates, E016 for what only describes the model."""
    if key.startswith(TEMPLATES):
        return "E015"
    return "E014" if key.startswith((*READ, *(f"{name}." for name in architectures))) else "E016"


def _with_config(target: Gguf, source: Path, findings: Findings) -> MetadataComparison:
    architecture = target.text("general.architecture")
    config = _config(source if source.is_dir() else source.parent)
    if config is None or architecture is None or architecture not in PASSED_ON:
        return MetadataComparison(0, None, [], [], [], [])
    compared, changed = 0, []
    for name, key, number, value in _numbers(config, architecture, target):
        compared += 1
        same = number == value.scalar if value.kind != "f32" else np.float32(number) == np.float32(value.scalar or 0)
        if not same:
            changed.append(key)
            message = f"{key} is {value.scalar}, and {name} of the source's config.json is {number}"
            findings.add(Finding("E014", message, offset=value.start))
    return MetadataComparison(compared, "config.json" if compared else None, changed, [], [], changed)


def _numbers(config: dict[str, Any], architecture: str, target: Gguf) -> Iterator[tuple[str, str, float, Value]]:
    """The numbers that both sides have: their name, the key, the number and the file's value."""
    for name, keys in CONFIG.items():
        number = config.get(name)
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        for key in (f"{architecture}.{key}" for key in keys):
            value = target.metadata.get(key)
            if value is not None and value.count is None:
                yield name, key, number, value


def _config(folder: Path) -> dict[str, Any] | None:
    """A checkpoint's config.json, that of its text model where it has several; None where there is none to read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    inner = config.get("text_config") if isinstance(config, dict) else None
    config = inner if isinstance(inner, dict) else config
    if not isinstance(config, dict):
        return None
    rope = config.get("rope_parameters")
    return (rope if isinstance(rope, dict) else {}) | config


def _content(gguf: Gguf, key: str) -> tuple[str, bool, Any]:
    """What an entry holds, whichever byte order the file has."""
    value = gguf.metadata[key]
    if value.kind == "string":
        return value.kind, value.count is not None, list(_texts(gguf, value))
    letter = _LETTERS[value.kind] or "B"
    count = 1 if value.count is None else value.count
    numbers = np.frombuffer(gguf.data, np.dtype(gguf.order + letter), count, value.start)
    return value.kind, value.count is not None, numbers.astype(numbers.dtype.newbyteorder("=")).tobytes()


def _texts(gguf: Gguf, value: Value) -> Iterator[bytes]:
    length = struct.Struct(gguf.order + "Q").unpack_from
    at = value.start - 8 if value.count is None else value.start
    for _ in range(1 if value.count is None else value.count):
        stop = at + 8 + length(gguf.data, at)[0]
        yield bytes(gguf.data[at + 8 : stop])
        at = stop


def _shown(gguf: Gguf, key: str) -> str:
    value = gguf.metadata[key]
    if value.count is not None:
        return f"a list of {value.count} {value.kind}"
    if value.kind != "string":
        return f"{value.scalar:g}" if isinstance(value.scalar, float) else str(value.scalar)
    text = printable(next(_texts(gguf, value)))
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
