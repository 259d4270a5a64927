"""What a checkpoint's config.json says of a model, as convert_hf_to_gguf reads it; else what a GGUF's metadata say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifi_ref.model_files.gguf_file import Gguf, printable
from hifi_ref.model_files.safetensors_file import SafetensorsError
from hifi_ref.model_files.weights import NotKnown

# A configuration is a few kilobytes.
MAX_CONFIG = 16_000_000
# Under which names the part for text stands in the configurations of models that also see or hear.
_TEXT = ("llm_config", "lm_config", "language_config", "lfm")
# What a GGUF's metadata call the same number.
_METADATA = {
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "hidden_size": "embedding_length", "num_hidden_layers": "block_count", "intermediate_size": "feed_forward_length",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """``hf_class`` is the class of transformers, "" where the source does not say; ``arch`` the GGUF's architecture."""

    hf_class: str
    arch: str
    config: Mapping[str, Any]
    metadata: Mapping[str, int] = field(default_factory=dict)
    rows_in_file: Mapping[str, int] = field(default_factory=dict)

    def find(self, *keys: str) -> int | None:
        """The first integer that stands under one of these keys of config.json, else of the file's metadata."""
        for key in keys:
            if isinstance(self.config.get(key), int) and not isinstance(self.config[key], bool):
                return self.config[key]
        for key in keys:
            if key in _METADATA and f"{self.arch}.{_METADATA[key]}" in self.metadata:
                return self.metadata[f"{self.arch}.{_METADATA[key]}"]
        return None

    def number(self, *keys: str) -> int:
        """As `find`, of a number above 0. Raises NotKnown where there is none."""
        found = self.find(*keys)
        if found is None or found < 1:
            raise NotKnown(f"the converter needs {keys[0]}, which config.json beside the source does not say")
        return found

    @property
    def layers(self) -> int:
        """How many layers config.json says that the model has; beyond all where it says nothing."""
        layers = self.config.get("num_hidden_layers")
        return layers if isinstance(layers, int) and layers > 0 else 1 << 30

    @property
    def heads(self) -> int:
        return self.number("num_attention_heads", "n_head", "n_heads")

    @property
    def key_heads(self) -> int:
        return self.find("num_key_value_heads", "n_kv_heads") or self.heads

    @property
    def rope(self) -> Mapping[str, Any]:
        """The parameters of rotary embeddings, of whole attention where several are told apart."""
        given = self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}
        rope = dict(given) if isinstance(given, dict) else {}
        if isinstance(rope.get("full_attention"), dict):
            return rope["full_attention"]
        rope.setdefault("rope_type", rope.get("type"))
        for key in ("rope_theta", "rotary_emb_base"):
            if key in self.config:
                rope.setdefault("rope_theta", self.config[key])
        return rope


def read_model(path: Path, target: Gguf) -> Model:
    """The model of a folder, or of a file in one. Raises OSError, or SafetensorsError for what is no config.json."""
    folder = path if path.is_dir() else path.parent
    config = _config(folder / "config.json")
    metadata = {key: v.integer for key, v in target.metadata.items() if v.integer is not None and v.count is None}
    rows = {tensor.name: tensor.shape[1] for tensor in target.tensors if len(tensor.shape) > 1}
    text = config.get("text_config")
    return Model(_hf_class(config), target.text("general.architecture") or "", config | (text or {}), metadata, rows)


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    name = printable(str(path))
    if path.stat().st_size > MAX_CONFIG:
        raise SafetensorsError(f"{name}: larger than {MAX_CONFIG} bytes, so no configuration of a model")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise SafetensorsError(f"{name}: no JSON") from None
    if not isinstance(config, dict):
        raise SafetensorsError(f"{name}: no JSON object")
    thinker = config.get("thinker_config")
    parts = [config.get(key) for key in _TEXT] + [thinker.get("text_config") if isinstance(thinker, dict) else None]
    text = next((part for part in parts if isinstance(part, dict)), config.get("text_config"))
    return config | {"text_config": text if isinstance(text, dict) else {}}


def _hf_class(config: Mapping[str, Any]) -> str:
    """The class that the converter goes by: that of the text's own configuration where it has one."""
    own = config.get("architectures")
    text = config.get("text_config", {}).get("architectures")
    first = _first(own)
    return first if first in WHOLE else _first(text) or first


def _first(names: Any) -> str:
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


# Classes that the converter takes as a whole, though their part for text names another.
WHOLE = (
    "StepVLForConditionalGeneration", "Sarashina2VisionForCausalLM", "Exaone4_5_ForConditionalGeneration",
    "Step3p7ForConditionalGeneration", "KimiK3ForConditionalGeneration",
)  # fmt: skip
