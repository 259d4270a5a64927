"""Are these files the shards of one model, all of them, each in its place, and of one build?

The reference loads the first shard, which split.no 0 marks, and finds split.count of them by their names. Each must
have the split.no that its name says, no tensor may be there twice, and there must be split.tensors.count of them.

Reference: llama_model_loader, and llama_split_path (llama.cpp v0.5.0).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_file import Gguf, printable
from hifi_ref.model_files.gguf_model import Value
from hifi_ref.model_files.models import ModelFiles, place_in_name

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


class Shard(NamedTuple):
    """A file of a set: its name, what it holds, and the number that it gives itself, the first being 1."""

    name: str
    gguf: Gguf
    number: int | None
    of: int | None


def check_shards(files: ModelFiles, ggufs: Sequence[Gguf], findings: Findings) -> None:
    """Add what is wrong with the set; nothing where a file is a model of its own."""
    names = [printable(os.path.basename(path)) for path in files.paths]
    numbers = [_integer(gguf, NUMBER) for gguf in ggufs]
    shards = [
        Shard(name, gguf, None if number is None else number + 1, _integer(gguf, COUNT))
        for name, gguf, number in zip(names, ggufs, numbers, strict=True)
    ]
    if len(shards) == 1 and (shards[0].of or 1) < 2:
        return
    whole = _check_numbers(files, shards, findings)
    _check_builds(shards, findings)
    held: dict[str, str] = {}
    for shard in shards:
        for tensor in shard.gguf.tensors:
            if held.get(tensor.name, shard.name) != shard.name:
                message = f"tensor {tensor.name} is also in {held[tensor.name]}"
                findings.add(Finding("S006", f"{shard.name}: {message}", tensor.name, file=shard.name))
            held[tensor.name] = shard.name
    stated = _integer(shards[0].gguf, TENSORS)
    if whole and stated != len(held):
        message = f"{TENSORS} is {stated}, and the {len(shards)} shards hold {len(held)} tensors"
        findings.add(Finding("S005", message))


def _check_numbers(files: ModelFiles, shards: Sequence[Shard], findings: Findings) -> bool:
    """Whether every shard is there, once, and in its place."""
    before = findings.counts.total()
    total = next((shard.of for shard in shards if shard.of), len(shards))
    holders: dict[int, str] = {}
    for path, shard in zip(files.paths, shards, strict=True):
        if shard.number is None or shard.of is None:
            key = NUMBER if shard.number is None else COUNT
            findings.add(Finding("S007", f"{shard.name} is named as a shard, and has no {key}", file=shard.name))
            continue
        if place_in_name(path) != (shard.number, shard.of):
            message = f"{shard.name} says that it is shard {shard.number} of {shard.of}, and its name does not"
            findings.add(Finding("S003", message, file=shard.name))
        if shard.number in holders:
            message = f"shard {shard.number} of {shard.of} is there twice, as {holders[shard.number]} and {shard.name}"
            findings.add(Finding("S002", message, file=shard.name))
        holders.setdefault(shard.number, shard.name)
    if all(shard.number is not None for shard in shards):
        for number in sorted(set(range(1, total + 1)) - set(holders)):
            findings.add(Finding("S001", f"shard {number} of {total} is not there"))
    elif files.missing:
        findings.add(Finding("S001", f"{printable(os.path.basename(files.missing[0]))} is not there"))
    return findings.counts.total() == before


def _check_builds(shards: Sequence[Shard], findings: Findings) -> None:
    """What the first shard says, the others may leave out, but not say otherwise."""
    first = shards[0]
    for shard in shards[1:]:
        both = [key for key in shard.gguf.metadata if key in first.gguf.metadata and key != NUMBER]
        for key in both:
            values = [_shown(s.gguf, s.gguf.metadata[key], key) for s in (first, shard)]
            if values[0] != values[1]:
                message = f"{key} is {values[1]}, and {values[0]} in {first.name}"
                findings.add(Finding("S004", f"{shard.name}: {message}", file=shard.name))


def _integer(gguf: Gguf, key: str) -> int | None:
    value = gguf.metadata.get(key)
    return None if value is None else value.integer


def _shown(gguf: Gguf, value: Value, key: str) -> str:
    """A value as far as it can be compared: of an array its length."""
    if value.count is not None:
        return f"an array of {value.count} {value.kind}"
    return repr(gguf.text(key)) if value.kind == "string" else f"{value.scalar}"
