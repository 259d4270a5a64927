"""Small checkpoints of many architectures, as transformers names and shapes their tensors, with made weights.

Any machine makes the same bits of them. What llama.cpp's converter makes of each stands in tests/data/converted.json,
which tools/make_converted.py writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests import sources
from tools import make_sample

WIDTH, HEADS, KEYS, INNER, VOCABULARY, LAYERS, EXPERTS = 64, 4, 2, 96, 40, 2, 3
HEAD = WIDTH // HEADS
NARROW = HEAD * KEYS
Shapes = dict[str, tuple[int, ...]]

COMMON = {
    "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": KEYS, "num_hidden_layers": LAYERS,
    "intermediate_size": INNER, "vocab_size": VOCABULARY, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LONG = {
    "rope_type": "longrope", "long_factor": [1.0 + i / 7 for i in range(HEAD // 2)],
    "short_factor": [1.0 + i / 11 for i in range(HEAD // 2)],
}  # fmt: skip


class Checkpoint(NamedTuple):
    """``files`` are other files of the folder; ``raw`` gives tensors that hold codes: dtype, shape, bytes."""

    config: dict[str, Any]
    shapes: Shapes
    dtype: str = "BF16"
    files: dict[str, str] = {}
    raw: dict[str, tuple[str, tuple[int, ...], bytes]] = {}


def in_layers(shapes: Shapes, prefix: str = "model.layers.{}.", layers: int = LAYERS) -> Shapes:
    return {prefix.format(i) + name: shape for i in range(layers) for name, shape in shapes.items()}


def named(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def norm_and_bias(*names: str) -> Shapes:
    return {f"{name}.{kind}": (WIDTH,) for name in names for kind in ("weight", "bias")}


ENDS: Shapes = {
    "model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,),
    "lm_head.weight": (VOCABULARY, WIDTH),
}  # fmt: skip
TIED: Shapes = {name: shape for name, shape in ENDS.items() if name != "lm_head.weight"}
NORMS: Shapes = {"input_layernorm.weight": (WIDTH,), "post_attention_layernorm.weight": (WIDTH,)}
ATTENTION: Shapes = {
    "self_attn.q_proj.weight": (WIDTH, WIDTH), "self_attn.k_proj.weight": (NARROW, WIDTH),
    "self_attn.v_proj.weight": (NARROW, WIDTH), "self_attn.o_proj.weight": (WIDTH, WIDTH),
}  # fmt: skip
BIASES: Shapes = {
    "self_attn.q_proj.bias": (WIDTH,), "self_attn.k_proj.bias": (NARROW,), "self_attn.v_proj.bias": (NARROW,),
}  # fmt: skip
QK_NORMS: Shapes = {"self_attn.q_norm.weight": (HEAD,), "self_attn.k_norm.weight": (HEAD,)}
MLP: Shapes = {
    "mlp.gate_proj.weight": (INNER, WIDTH), "mlp.up_proj.weight": (INNER, WIDTH),
    "mlp.down_proj.weight": (WIDTH, INNER),
}  # fmt: skip
LLAMA: Shapes = {**NORMS, **ATTENTION, **MLP}


def experts(prefix: str, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj") -> Shapes:
    """The matrices of a layer's experts, one tensor each."""
    one = {gate: (INNER, WIDTH), up: (INNER, WIDTH), down: (WIDTH, INNER)}
    return {f"{prefix}.{i}.{name}.weight": shape for i in range(EXPERTS) for name, shape in one.items()}


def config(hf_class: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [hf_class], "model_type": model_type, **COMMON, **more}


def seed_of(name: str, tensor: str) -> int:
    """The same on every machine."""
    return int.from_bytes(f"{name}/{tensor}".encode(), "big") % (2**61 - 1)


def tensors(name: str, checkpoint: Checkpoint) -> Iterator[tuple[str, tuple[str, tuple[int, ...], bytes]]]:
    """Every tensor of a checkpoint: its name, dtype, shape and bytes."""
    for tensor, shape in checkpoint.shapes.items():
        x = make_sample.made_weights(seed_of(name, tensor), *shape) * np.float32(8)
        yield tensor, sources.as_dtype(x, checkpoint.dtype)
    yield from checkpoint.raw.items()


def write(folder: Path, name: str, checkpoint: Checkpoint) -> Path:
    """Write the folder of a checkpoint; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(sources.safetensors(dict(tensors(name, checkpoint))))
    (folder / "config.json").write_text(json.dumps(checkpoint.config))
    for file, text in checkpoint.files.items():
        (folder / file).write_text(text)
    return folder
