"""The tables beside this file, of what the release reads and asks for: tools/load_tables.py derives them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

FAMILIES = ("bert", "gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3", "qwen3moe")


class Key(NamedTuple):
    """A key that is read: its kind, whether it must be there, the release's own name for it, and when it is read."""

    name: str
    kind: str
    required: bool
    field: str
    conditions: tuple[str, ...]


class Row(NamedTuple):
    """A tensor: its shape as formulas, row length first, what is special about it, and when it is asked for."""

    name: str
    shape: tuple[str, ...]
    flags: frozenset[str]
    conditions: tuple[str, ...]


class Family(NamedTuple):
    """What one architecture reads besides the common keys, and its tensors."""

    keys: tuple[Key, ...]
    tensors: tuple[Row, ...]


def _lines(name: str) -> list[str]:
    text = (files(__package__) / "tables" / f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@functools.cache
def architectures() -> frozenset[str]:
    """Every architecture that the release knows."""
    return frozenset(_lines("architectures"))


@functools.cache
def tokenizers(what: str) -> frozenset[str]:
    """The values of tokenizer.ggml.model ("model") or tokenizer.ggml.pre ("pre") that the release knows."""
    return frozenset(line.split()[1] for line in _lines("tokenizers") if line.split()[0] == what)


@functools.cache
def common_keys() -> tuple[Key, ...]:
    return tuple(_key(line.split()) for line in _lines("keys"))


@functools.cache
def family(name: str) -> Family:
    """The table of one of FAMILIES."""
    lines = [line.split() for line in _lines(name)]
    return Family(
        tuple(_key(words[1:]) for words in lines if words[0] == "key"),
        tuple(_row(words[1:]) for words in lines if words[0] == "tensor"),
    )


def _key(words: list[str]) -> Key:
    name, kind, need, field, *rest = words
    return Key(name, kind, need == "required", field, _conditions(rest))


def _row(words: list[str]) -> Row:
    stop = words.index("if") if "if" in words else len(words)
    flags = frozenset(words[1:stop]) & {"optional", "again", "query-key-value"}
    shape = tuple(word for word in words[1:stop] if word not in flags)
    return Row(words[0], shape, flags, _conditions(words[stop:]))


def _conditions(words: list[str]) -> tuple[str, ...]:
    """Pairs such as "if n_head" or "unless KEY", each as one text."""
    return tuple(f"{a} {b}" for a, b in zip(words[::2], words[1::2], strict=True))


def size(formula: str, numbers: Mapping[str, int]) -> int:
    """A formula such as 2*n_ff or n_rot/2, in whole numbers."""
    product, _, divisor = formula.partition("/")
    n = math.prod(int(factor) if factor.isdigit() else int(numbers[factor]) for factor in product.split("*"))
    return n // int(divisor) if divisor else n
