"""Small models with made weights, of the families that the release is asked about, and importance for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.model_files.tensor_types import nbytes
from tests import sources
from tests.loading import models
from tests.loading.models import TYPES, Model, Shape

SHAPES = {
    "llama": Shape("llama", layers=3, embd=256, heads=4, kv=1, head=64, ff=512),
    "qwen3 tied": Shape("qwen3", vocab="gpt2", embd=256, heads=4, kv=2, head=64, ff=256, tied=True),
    "qwen3moe": Shape("qwen3moe", vocab="gpt2", embd=256, heads=4, kv=2, head=64, ff=256, experts=4),
    "mixtral": Shape("llama", embd=256, heads=8, kv=2, head=32, ff=256, experts=8),
    "phi3": Shape("phi3", fused=True, embd=256, heads=4, kv=4, head=64, ff=256),
    "gemma3": Shape("gemma3", tied=True, layers=7, embd=256, heads=4, kv=1, head=64, ff=256, window=32),
    "odd widths": Shape("llama", layers=2, embd=320, heads=5, kv=5, head=64, ff=288),
    "bert": Shape("bert", vocab="bert", embd=256, heads=4, kv=4, head=64, ff=256),
}
FLOATS = {"F32": "<f4", "F16": "<f2"}


def described(family: str) -> Model:
    """Metadata and shapes, with few rows: how many there are changes no bytes of the others."""
    model = models.build(SHAPES[family])
    for name, (shape, kind) in model.tensors.items():
        model.tensors[name] = ((shape[0], min(shape[1], 6), *shape[2:]) if len(shape) > 1 else shape, kind)
    return model


def weights(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """f32 of this shape, row length first: rows with heavy tails, a few of zeros and of one value."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_t(4, shape[::-1]) * 0.02).astype(np.float32)
    if x.ndim > 1:
        x[..., :1, : shape[0] // 4] = 0
        x[..., 1:2, : shape[0] // 4] = np.float32(0.01)
    return x


def stored(x: np.ndarray, kind: str) -> bytes:
    """Weights as a file holds them."""
    if kind == "BF16":
        bits = x.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    return x.astype(FLOATS[kind]).tobytes()


def written(model: Model, path: Path, kind: str = "F32") -> Path:
    """The model with weights: matrices of this kind, what has one dimension as F32."""
    model = model.copy()
    for name, (shape, _) in model.tensors.items():
        model.tensors[name] = (shape, kind if len(shape) > 1 else "F32")
    model.write(path)
    data = bytearray(path.read_bytes())
    for seed, tensor in enumerate(open_gguf(path).tensors):
        own = stored(weights(seed, tensor.shape), model.tensors[tensor.name][1])
        assert len(own) == nbytes(TYPES[tensor.type_name][1], tensor.shape)
        data[tensor.start : tensor.start + len(own)] = own
    path.write_bytes(data)
    return path


def importance(source: Path, path: Path, partial: bool = False) -> dict[str, np.ndarray]:
    """Importance written as llama-imatrix does, for all matrices or for every second one; its rows read again."""
    rng = np.random.default_rng(3)
    tensors = [t for t in open_gguf(source).tensors if len(t.shape) > 1 and t.name != "token_embd.weight"]
    rows = {t.name: rng.lognormal(0, 1, t.shape[0] * (t.shape[2] if len(t.shape) > 2 else 1)) for t in tensors}
    kept = {name: row.astype(np.float32) for i, (name, row) in enumerate(rows.items()) if not partial or i % 2}
    path.write_bytes(sources.dat_imatrix(kept))
    return read_imatrix(path).rows


def keys(path: Path, rows: dict[str, np.ndarray]) -> dict[str, int | float | str]:
    """What llama-quantize records of such a matrix."""
    return {
        "quantize.imatrix.file": str(path)[:127], "quantize.imatrix.dataset": "wiki.train.raw",
        "quantize.imatrix.entries_count": len(rows), "quantize.imatrix.chunks_count": 7,
    }  # fmt: skip
