"""The vocabulary that a GGUF carries, read as the release reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hifi_ref.loading.metadata import Metadata
from hifi_ref.loading.report import Report
from hifi_ref.model_files.gguf_file import Gguf, printable
from hifi_ref.models.model import ModelError

PREFIX = "tokenizer.ggml."
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
# The names of pre-tokenizers that are one and the same.
PRE = {"gpt-2": "gpt-2", "qwen2": "qwen2", "llama-bpe": "llama-bpe", "llama3": "llama-bpe", "llama-v3": "llama-bpe"}


class Vocabulary(NamedTuple):
    """``kind``: "spm" or a value of PRE. ``scores`` are spm's, ``ranks`` (left, right) -> rank those of the others.

    ``special`` are the ids that stand in a text as they are, longest first; ``stripping`` those that swallow the
    white space behind them. ``bos``, ``eos``: what is added before and behind, or None.
    """

    kind: str
    tokens: list[bytes]
    ids: Mapping[bytes, int]
    types: list[int]
    scores: list[float]
    ranks: Mapping[tuple[bytes, bytes], int]
    space_prefix: bool
    bos: int | None
    eos: int | None
    special: list[int]
    stripping: frozenset[int]


def vocabulary_of(gguf: Gguf, name: str) -> Vocabulary:
    """Raises ModelError where there is no tokenizer, or one that is not known here. ``name`` is the model's."""
    report = Report()
    metadata = Metadata(gguf, report)
    model = metadata.scalar(f"{PREFIX}model", "string")
    if model not in ("llama", "gpt2"):
        what = f"the tokenizer {printable(model)} is not supported" if model else "there is no tokenizer in it"
        raise ModelError(f"{name}: {what}")
    pre = metadata.scalar(f"{PREFIX}pre", "string") or "default"
    if model == "gpt2" and pre not in PRE:
        raise ModelError(f"{name}: the pre-tokenizer {printable(pre)} is not supported")
    kind = "spm" if model == "llama" else PRE[pre]
    tokens = _strings(metadata, "tokens", name)
    types = _numbers(metadata, "token_type", len(tokens), 1)
    special = [i for i, t in enumerate(types) if t in (UNKNOWN, CONTROL, USER_DEFINED) and tokens[i]]
    bos, eos = (1, 2) if kind == "spm" else (11, 11)
    vocabulary = Vocabulary(
        kind, tokens, {token: i for i, token in enumerate(tokens)}, [int(t) for t in types],
        _numbers(metadata, "scores", len(tokens), 0.0),
        {} if kind == "spm" else _ranks(_strings(metadata, "merges", name)),
        _flag(metadata, "add_space_prefix", kind == "spm"),
        _added(metadata, "bos", bos, kind in ("spm", "llama-bpe"), len(tokens), name),
        _added(metadata, "eos", eos, False, len(tokens), name),
        sorted(special, key=lambda i: -len(tokens[i])),
        frozenset(special) - _keeping(tokens) if _is_phi3(gguf) else frozenset(),
    )  # fmt: skip
    if report.problems:
        raise ModelError(f"{name}: {report.problems[0].sentence}")
    return vocabulary


def _strings(metadata: Metadata, key: str, name: str) -> list[bytes]:
    value = metadata.value(PREFIX + key)
    if value is None or value.kind != "string" or value.count is None:
        raise ModelError(f"{name}: {PREFIX}{key} is missing, or no array of strings")
    return metadata.strings(value)


def _numbers(metadata: Metadata, key: str, length: int, default: float) -> list:
    value = metadata.value(PREFIX + key)
    if value is None:
        return [default] * length
    if value.count != length or value.kind == "string":
        metadata.report.problem("L007", key, f"{PREFIX}{key} is no array of {length} numbers")
        return [default] * length
    return metadata.numbers(value).tolist()


def _flag(metadata: Metadata, key: str, default: bool) -> bool:
    found = metadata.scalar(PREFIX + key, "bool")
    return default if found is None else found


def _added(metadata: Metadata, which: str, default: int, by_default: bool, tokens: int, name: str) -> int | None:
    """The id of the first or last token, where one is to be added."""
    if not _flag(metadata, f"add_{which}_token", by_default):
        return None
    found = metadata.scalar(f"{PREFIX}{which}_token_id", "u32")
    token = default if found is None or found >= tokens else found
    if token >= tokens:
        raise ModelError(f"{name}: {PREFIX}{which}_token_id is missing, or no id of the vocabulary")
    return token


def _ranks(merges: list[bytes]) -> dict[tuple[bytes, bytes], int]:
    """The first rank of each pair; a pair's parts are divided by the first space behind its first byte."""
    ranks: dict[tuple[bytes, bytes], int] = {}
    for rank, merge in enumerate(merges):
        at = merge.find(b" ", 1)
        if at > 0:
            ranks.setdefault((merge[:at], merge[at + 1 :]), rank)
    return ranks


def _is_phi3(gguf: Gguf) -> bool:
    name = (gguf.text("general.name") or "").lower()
    return "phi-3" in name or "phi3" in name


def _keeping(tokens: list[bytes]) -> set[int]:
    """Tokens of a model named phi-3 that leave the white space behind them."""
    return {i for i, token in enumerate(tokens) if token in (b"<unk>", b"<s>", b"<|endoftext|>")}
