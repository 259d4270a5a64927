"""The format of each matrix: one for all, a mix that fits the model's size, or as the HIFI fork chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hifi_ref.model_files import policies
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import Gguf, Tensor


class Chosen(NamedTuple):
    """For one source: the choice's name, the format of each matrix, and what else formats and policies need."""

    name: str
    format_of: Callable[[Tensor], str]
    metadata: dict[str, Any]


Choice = Callable[[Gguf], Chosen]


def one_format(name: str) -> Choice:
    """The choice of one format for all matrices."""
    return lambda gguf: Chosen(name, lambda tensor: name, {"model_params": size_of(gguf)})


def a_mix(name: str | None) -> Choice:
    """The choice of a roadmap's mix; None for the one that fits the model's size."""

    def choice(gguf: Gguf) -> Chosen:
        size = size_of(gguf)
        mix = name or policies.automatic_mix(size)
        return Chosen(f"mix {mix}", lambda tensor: policies.roadmap_format(mix, tensor.name), {"model_params": size})

    return choice


def as_the_fork(name: str) -> Choice:
    """The choice that the HIFI fork makes for one of its file types, and the counts of outliers that it asks for."""

    def choice(gguf: Gguf) -> Chosen:
        model = _model(gguf)
        metadata = {"model_params": float(np.float32(model.size)), "model": model}
        return Chosen(f"fork {name}", lambda tensor: policies.fork_format(name, tensor.name, model), metadata)

    return choice


def size_of(gguf: Gguf) -> float:
    """Billions of weights, as binary32 holds it."""
    return float(np.float32(sum(tensor.elements for tensor in gguf.tensors) / 1e9))


def _model(gguf: Gguf) -> policies.Model:
    arch = gguf.text("general.architecture")

    def number(key: str) -> int:
        value = gguf.metadata.get(f"{arch}.{key}")
        if value is None or value.integer is None:
            raise InputError(f"the source's metadata has no number {arch}.{key}, which the fork's rules need")
        return value.integer

    layers = number("block_count")
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    embedding = next((t for t in gguf.tensors if t.name == "token_embd.weight"), None)
    vocabulary = tokens.count if tokens and tokens.count else embedding.shape[-1] if embedding else 0
    experts = gguf.metadata.get(f"{arch}.expert_count")
    n_experts = (experts.integer or 0) if experts else 0
    size = policies.size_of(number("embedding_length"), layers, number("feed_forward_length"), vocabulary)
    tied = not any(t.name == "output.weight" for t in gguf.tensors)
    return policies.Model(size, layers, n_experts, layers == 80 and arch == "llama", tied)
