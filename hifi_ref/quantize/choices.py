"""The format of each matrix: one for all, a mix that fits the model's size, or as the HIFI fork chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hifi_ref.mixtures import hifi, roadmaps
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
        mix = name or roadmaps.automatic_mix(size)
        return Chosen(f"mix {mix}", lambda tensor: roadmaps.roadmap_format(mix, tensor.name), {"model_params": size})

    return choice


def as_the_fork(name: str) -> Choice:
    """The choice that the HIFI fork makes for one of its file types, and the counts of outliers that it asks for."""

    def choice(gguf: Gguf) -> Chosen:
        described = hifi.read(gguf)
        metadata = {"model_params": float(np.float32(described.size)), "model": described}
        return Chosen(f"fork {name}", lambda tensor: hifi.fork_format(name, tensor.name, described), metadata)

    return choice


def but(choice: Choice, types: Mapping[str, str]) -> Choice:
    """The same choice, but for tensors of these names."""

    def chosen(gguf: Gguf) -> Chosen:
        own = choice(gguf)
        return own._replace(format_of=lambda tensor: types.get(tensor.name) or own.format_of(tensor))

    return chosen if types else choice


def size_of(gguf: Gguf) -> float:
    """Billions of weights, as binary32 holds it."""
    return float(np.float32(sum(tensor.elements for tensor in gguf.tensors) / 1e9))
