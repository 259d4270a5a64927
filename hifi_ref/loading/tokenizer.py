"""The vocabulary: llama_vocab::impl::load of the release, and what it makes of special tokens.

Lists that are longer than the vocabulary are taken, shorter ones refused. Ids beyond it are passed over with a warning.
"""

from __future__ import annotations

import numpy as np

from hifi_ref.loading.metadata import Metadata
from hifi_ref.loading.report import Report
from hifi_ref.loading.tables import tokenizers

PREFIX = "tokenizer.ggml."
NONE = ("no_vocab", "none")
# The kinds of vocabulary that the rules here cover; the release knows more.
COVERED = ("llama", "gpt2", "bert", *NONE)
BYTE = 6
BOOLEANS = (
    "add_space_prefix", "remove_extra_whitespaces", "add_bos_token", "add_eos_token", "add_sep_token",
    "normalizer.lowercase", "normalizer.strip_accents",
)  # fmt: skip
# The key of the separator is misspelt in every GGUF.
SPECIAL = (
    "bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "fim_pre", "fim_suf", "fim_mid", "fim_pad",
    "fim_rep", "fim_sep", "prefix", "suffix", "middle",
)  # fmt: skip
# Tokens that a model named phi-3 must have.
PHI3_TOKENS = (b"</s>", b"<unk>", b"<s>", b"<|endoftext|>")


def check(metadata: Metadata, architecture: str, report: Report) -> tuple[int, int] | None:
    """The number of tokens and of kinds of tokens; None where the vocabulary is not understood."""
    before = len(report.problems)
    model = metadata.scalar(PREFIX + "model", "string", required=True)
    pre = metadata.scalar(PREFIX + "pre", "string")
    kinds = metadata.scalar(PREFIX + "token_type_count", "u32")
    if len(report.problems) > before:
        return None
    if model not in tokenizers("model"):
        report.problem(
            "L007", PREFIX + "model", f"{PREFIX}model is {model!r}, a tokenizer that llama.cpp does not know"
        )
        return None
    if model not in COVERED:
        report.doubt(PREFIX + "model", f"{PREFIX}model is {model!r}, a tokenizer that the rules here do not cover")
        return None
    if model in NONE:
        n = metadata.scalar(f"{architecture}.vocab_size", "u32")
        return None if len(report.problems) > before else (n or 0, kinds or 0)
    if model == "gpt2":
        _check_merges(metadata, pre or "", report)
    tokens = _tokens(metadata, report)
    for name in BOOLEANS:
        metadata.scalar(PREFIX + name, "bool")
    if tokens is not None:
        types = _lists(metadata, len(tokens), report)
        _check_bytes(tokens, types, model, report)
        _check_name(metadata, tokens, pre or "", report)
    _check_special(metadata, len(tokens or ()), report)
    return None if tokens is None or len(report.problems) > before else (len(tokens), kinds or 0)


def _check_merges(metadata: Metadata, pre: str, report: Report) -> None:
    key, value = PREFIX + "merges", metadata.value(PREFIX + "merges")
    if value is None and pre != "kimi-k2":
        report.problem("L007", key, f"{key} is missing, and a gpt2 tokenizer needs it")
    elif value is not None and (value.count is None or value.kind != "string"):
        report.problem("L007", key, f"{key} is no array of strings")
    if pre and pre not in tokenizers("pre"):
        key = PREFIX + "pre"
        report.problem("L007", key, f"{key} is {pre!r}, a pre-tokenizer that llama.cpp does not know")


def _tokens(metadata: Metadata, report: Report) -> list[bytes] | None:
    """Every token's text; they must differ. Empty ones are given a name of their own."""
    key, value = PREFIX + "tokens", metadata.value(PREFIX + "tokens")
    if value is None or value.count is None or value.kind != "string":
        report.problem("L007", key, f"{key} is {'missing' if value is None else 'no array of strings'}")
        return None
    tokens = [text or b"[EMPTY_%d]" % i for i, text in enumerate(metadata.strings(value))]
    seen: set[bytes] = set()
    for i, text in enumerate(tokens):
        if text in seen:
            shown = text.decode("utf-8", "backslashreplace")
            report.problem("L007", key, f"{key}: token {i}, {shown!r}, occurs twice")
            break
        seen.add(text)
    return tokens


def _lists(metadata: Metadata, n: int, report: Report) -> np.ndarray | None:
    """Hold scores and token types against the number of tokens; the types, where they can be read."""
    types = None
    for name, kinds in (("scores", ("f32", "i32")), ("token_type", ("i32",)), ("suppress_tokens", ("i32",))):
        key, value = PREFIX + name, metadata.value(PREFIX + name)
        if value is None:
            continue
        if value.count is None or value.kind not in kinds:
            report.problem("L007", key, f"{key} is no array of {' or '.join(kinds)}")
        elif name != "suppress_tokens" and value.count < n:
            report.problem("L007", key, f"{key} has {value.count} items for {n} tokens")
        else:
            if name != "suppress_tokens" and value.count > n:
                report.note(
                    "L009", key, f"{key} has {value.count} items for {n} tokens; llama.cpp passes over the rest"
                )
            types = metadata.numbers(value) if name == "token_type" else types
    return types


def _check_bytes(tokens: list[bytes], types: np.ndarray | None, model: str, report: Report) -> None:
    """Byte tokens are spelt <0x0A>: one too short to hold a number is refused, and bert has none."""
    if types is None:
        return
    for i in np.flatnonzero(types[: len(tokens)] == BYTE).tolist():
        text = tokens[i]
        shown = text.decode("utf-8", "backslashreplace")
        key = PREFIX + "token_type"
        if model == "bert" and text[:1] in (b"<", b"[", b"_", b"\xe2"):
            report.doubt(key, f"{key}: token {i}, {shown!r}, is a byte, which the rules here do not cover for bert")
        elif model == "bert" or len(text) < 3:
            report.problem("L007", key, f"{key}: token {i}, {shown!r}, is marked as a byte and spells none")
        else:
            continue
        return


def _check_name(metadata: Metadata, tokens: list[bytes], pre: str, report: Report) -> None:
    """A model named phi-3 has its special tokens changed, so they must be there."""
    name = metadata.raw_text("general.name") or b""
    name = name.split(b"\0")[0].lower()
    if any(word in pre for word in ("jina-v2-de", "jina-v2-es", "jina-v2-code")) or not (
        b"phi-3" in name or b"phi3" in name
    ):
        return
    held = set(tokens)
    for token in PHI3_TOKENS:
        if token not in held:
            sentence = (
                f"{PREFIX}tokens lacks {token.decode()}, which llama.cpp demands of a model with phi-3 in general.name"
            )
            report.problem("L007", PREFIX + "tokens", sentence)


def _check_special(metadata: Metadata, n: int, report: Report) -> None:
    for name in SPECIAL:
        key = f"{PREFIX}{name}_token_id"
        number = metadata.scalar(key, "u32")
        if number is not None and number >= n > 0:
            report.note("L009", key, f"{key} is {number}, beyond the {n} tokens; llama.cpp takes its default instead")
