"""The numbers of a model that all families share, read from its metadata as the release's loader does."""

from __future__ import annotations

from typing import NamedTuple

from hifi_ref.models.model import Model, ModelError


class Sizes(NamedTuple):
    """``head``: the length of a head; ``rotated``: how much of it has a position; ``base``: of the rotary angles, which
    ``scale`` multiplies."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    rotated: int
    eps: float
    base: float
    scale: float


def sizes_of(model: Model) -> Sizes:
    """Raises ModelError where a key is missing, or positions are stretched in a way that is not known here."""
    width, heads = model.count("embedding_length"), model.count("attention.head_count")
    if not heads:
        raise ModelError(f"{model.name}: {model.architecture}.attention.head_count is 0")
    head = model.count("attention.key_length", width // heads)
    if model.count("attention.value_length", width // heads) != head:
        raise ModelError(f"{model.name}: keys and values have different lengths, which is not supported")
    kv_heads = model.count("attention.head_count_kv", heads)
    if not kv_heads or heads % kv_heads:
        raise ModelError(f"{model.name}: {heads} heads cannot share {kv_heads} heads of keys and values")
    rotated = model.count("rope.dimension_count", head)
    if not 0 < rotated <= head or rotated % 2:
        raise ModelError(f"{model.name}: of heads of {head} numbers {rotated} cannot be rotated in pairs")
    return Sizes(
        model.count("block_count"), width, heads, kv_heads, head, rotated,
        model.number("attention.layer_norm_rms_epsilon"), model.number("rope.freq_base", 10000.0), _scale(model),
    )  # fmt: skip


def _scale(model: Model) -> float:
    kind = model.gguf.text(f"{model.architecture}.rope.scaling.type") or "linear"
    if kind not in ("linear", "none") or model.has("rope_factors_long.weight"):
        what = kind if kind not in ("linear", "none") else "longrope"
        raise ModelError(f"{model.name}: rotary positions are stretched by {what}, which is not supported")
    if model.number("rope.scaling.attn_factor", 1.0) != 1.0:
        raise ModelError(f"{model.name}: rope.scaling.attn_factor is not 1, which is not supported")
    factor = model.number("rope.scaling.factor", 0.0) or model.number("rope.scale_linear", 0.0)
    return 1.0 if kind == "none" or not factor else 1.0 / factor
