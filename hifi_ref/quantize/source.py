"""The model that is quantized: one GGUF, or all shards of a split one, of which any may be named, or their folder.

Reference: llama_model_loader of llama.cpp v0.5.0, which wants the first shard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from hifi_ref.model_files.files import InputError, name_of
from hifi_ref.model_files.gguf_file import Gguf, Tensor, open_gguf, printable
from hifi_ref.model_files.models import models_of
from hifi_ref.model_files.source import open_source
from hifi_ref.model_files.weights import Weights

NUMBER, COUNT, TENSORS = SPLIT = ("split.no", "split.count", "split.tensors.count")


class Source(NamedTuple):
    """A model's files, one Gguf of each; ``shard_of`` says for a tensor's name in which of them it lies.

    ``whole`` has the first one's metadata and all tensors: good for names and shapes, not for bytes.
    ``find`` gives a tensor's weights, None where it is empty.
    """

    paths: list[str]
    ggufs: list[Gguf]
    whole: Gguf
    shard_of: dict[str, int]
    find: Callable[[str], Weights | None]

    @property
    def name(self) -> str:
        return printable(name_of(self.paths[0]))

    def holder(self, tensor: Tensor) -> Gguf:
        """The file that has the bytes of a tensor."""
        return self.ggufs[self.shard_of[tensor.name]]


def open_model(argument: str) -> Source:
    """The one model that a file, a shard, a folder or a glob names. Raises OSError, or InputError in one sentence."""
    shown = printable(argument)
    if argument.endswith((".safetensors", ".json")) or _is_checkpoint(argument):
        raise InputError(f"{shown} is a checkpoint in safetensors: convert it first, with convert_hf_to_gguf.py")
    found = models_of([argument])
    if len(found) > 1:
        names = ", ".join(printable(name_of(files.paths[0])) for files in found[:3])
        raise InputError(f"{shown} names {len(found)} models, where one is needed: {names}")
    paths, missing = found[0]
    if missing:
        names = ", ".join(printable(name_of(path)) for path in missing)
        raise InputError(f"{shown} is one shard of several, and these are not there: {names}")
    ggufs = [open_gguf(path) for path in paths]
    _check_shards(paths, ggufs)
    tensors = [tensor for gguf in ggufs for tensor in gguf.tensors]
    if not tensors:
        raise InputError(f"{shown} has no tensors")
    shard_of = {tensor.name: shard for shard, gguf in enumerate(ggufs) for tensor in gguf.tensors}
    if len(shard_of) < len(tensors):
        twice = next(t.name for i, t in enumerate(tensors) if t.name in {before.name for before in tensors[:i]})
        raise InputError(f"{shown} holds tensor {twice} in two of its shards")
    return Source(paths, ggufs, replace(ggufs[0], tensors=tensors), shard_of, open_source(paths[0], ggufs[0]).find)


def _is_checkpoint(path: str) -> bool:
    if not os.path.isdir(path):
        return False
    names = os.listdir(path)
    return any(n.endswith(".safetensors") for n in names) and not any(n.endswith(".gguf") for n in names)


def _check_shards(paths: list[str], ggufs: list[Gguf]) -> None:
    """Each shard in its place, and all tensors there, as the release wants them."""
    stated = _number(ggufs[0], COUNT) or 1
    if stated != len(paths):
        raise InputError(
            f"{printable(paths[0])} is one of {stated} shards by its {COUNT}, and there are {len(paths)} by its name"
        )
    if stated == 1:
        return
    for i, (path, gguf) in enumerate(zip(paths, ggufs, strict=True)):
        if _number(gguf, NUMBER) != i:
            raise InputError(
                f"{printable(path)} is shard {i + 1} by its name, and its {NUMBER} is {_number(gguf, NUMBER)}"
            )
    expected, found = _number(ggufs[0], TENSORS), sum(len(gguf.tensors) for gguf in ggufs)
    if expected != found:
        raise InputError(
            f"{printable(paths[0])}: {TENSORS} is {expected}, and the {len(paths)} shards hold {found} tensors"
        )


def _number(gguf: Gguf, key: str) -> int | None:
    value = gguf.metadata.get(key)
    return None if value is None else value.integer
