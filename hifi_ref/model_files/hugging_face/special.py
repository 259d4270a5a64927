"""What the table of families asks of a model, and what is done to the tensors of one family alone."""

from __future__ import annotations

import numpy as np

from hifi_ref.model_files.hugging_face.model import Model
from hifi_ref.model_files.hugging_face.steps import Maker, between, cut, times
from hifi_ref.model_files.hugging_face.tensors import Tensor, joined, viewed


def queries(model: Model) -> int:
    return model.heads


def keys(model: Model) -> int:
    return model.key_heads


def is_classifier(model: Model, layer: int) -> bool:
    """Whether config.json names classes, other than the two that transformers makes up."""
    names = model.config.get("id2label")
    return bool(names) and not (isinstance(names, dict) and len(names) == 2 and names.get("0") == "LABEL_0")


def is_packed(model: Model) -> bool:
    """Whether the experts are MXFP4."""
    settings = model.config.get("quantization_config")
    return isinstance(settings, dict) and settings.get("quant_method") == "mxfp4"


def has_experts(model: Model, layer: int) -> bool:
    """Whether a layer of jamba has several experts."""
    period, offset = model.number("expert_layer_period"), model.find("expert_layer_offset") or 0
    return layer >= offset and (layer - offset) % period == 0


def after_the_padding(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """roberta: positions count from behind the padding token's."""
    offset = model.find("pad_token_id")
    return [tensor if offset is None else viewed(tensor, lambda x: x[1 + offset :])]


def matrices_of(rows: str, turn: bool = False) -> Maker:
    """dbrx and nomic: matrices of all experts below each other, ``rows`` in config.json of each, as one tensor."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        settings = model.config.get("ffn_config")
        n = settings.get(rows) if isinstance(settings, dict) else None
        n = n if isinstance(n, int) else model.number(rows)
        shaped = (tensor.shape[0] // n, n, tensor.shape[1])
        return [viewed(tensor, lambda x: x.reshape(shaped).swapaxes(1, 2) if turn else x.reshape(shaped))]

    return make


def one_head(tensor: Tensor, model: Model) -> int:
    """refact: the rows of its one key head."""
    return model.number("n_embd") // model.heads


def the_rest(tensor: Tensor, model: Model) -> int:
    return tensor.shape[0] - one_head(tensor, model)


def shuffled_queries(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """plamo: heads of 128 rows, five for each of eight key heads, in the other order."""
    return [viewed(tensor, lambda x: x.reshape(8, 5, 128, 5120).swapaxes(0, 1), tensor.shape)]


def shuffled_columns(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """plamo's output projection, whose columns are heads: in the order of `shuffled_queries`."""
    return [viewed(tensor, lambda x: x.reshape(5120, 8, 5, 128).swapaxes(1, 2), tensor.shape)]


def turns_by_sections(model: Model, layer: int) -> bool:
    """Whether glm4 has rotary embeddings for images too."""
    return "mrope_section" in model.rope


def halves_from_pairs(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """glm4v: of the rows of each head that are rotated, the even ones first, then the odd ones."""
    size = model.find("head_dim") or model.number("hidden_size") // model.heads
    factor = model.rope.get("partial_rotary_factor", model.config.get("partial_rotary_factor", 0.5))
    rotated = int(size * factor)
    parts = []
    for start in range(0, tensor.shape[0], size):
        head = between(tensor, start, start + size)
        pairs = between(head, 0, rotated)
        parts += [viewed(pairs, lambda x: x[::2]), viewed(pairs, lambda x: x[1::2]), between(head, rotated, size)]
    return [joined(part for part in parts if part.shape[0])]


def one_for_all_heads(keys: bool) -> Maker:
    """chameleon: the first head's norm interleaved, and repeated for every head."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        n = model.key_heads if keys else model.heads
        size = tensor.shape[-1]
        if size != model.number("hidden_size") // n:
            raise ValueError(size)
        return [viewed(tensor, lambda x: np.broadcast_to(x[0].reshape(2, -1).T, (n, size // 2, 2)), (n, size))]

    return make


def four_axes(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """kimi: convolutions as llama.cpp keeps those of images."""
    rows, width = tensor.shape[0], tensor.shape[-1]
    return [viewed(tensor, lambda x: x.reshape(1, rows, 1, width))]


def multiplied(*keys: str) -> Maker:
    """falcon_h1: times numbers of config.json, where a key may end in the place in a list."""

    def make(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
        return [times(tensor, *(_factor(model, key) for key in keys))]

    return make


def _factor(model: Model, key: str) -> float:
    name, _, place = key.partition(".")
    value = model.config.get(name)
    return float(value[int(place)] if place and isinstance(value, list) else value)  # type: ignore[arg-type]


def multiplied_by_part(tensor: Tensor, model: Model, layer: int) -> list[Tensor]:
    """falcon_h1's in_proj: times a number, and each of its parts times one more."""
    inner = model.number("mamba_d_ssm")
    state = model.number("mamba_n_groups") * model.number("mamba_d_state")
    sizes = [inner, inner, state, state]
    if len(tensor.shape) != 2:
        raise ValueError(tensor.shape)
    parts = cut(times(tensor, _factor(model, "ssm_in_multiplier")), [*sizes, tensor.shape[0] - sum(sizes)])
    return [joined(times(part, _factor(model, f"ssm_multipliers.{i}")) for i, part in enumerate(parts))]
