"""A text to ids, equal to llama_tokenize: special tokens first, what lies between them by the model's tokenizer."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

from hifi_ref.models.model import open_model
from hifi_ref.models.tokens import bpe, spm
from hifi_ref.models.tokens.vocabulary import USER_DEFINED, Vocabulary, vocabulary_of

# What C's isspace takes for white space.
WHITE = b" \t\n\v\f\r"


def tokenize(path: str | os.PathLike[str], text: bytes, special: bool, parse: bool) -> list[int]:
    """The text's ids in the vocabulary of a GGUF model.

    Args:
        text: bytes, UTF-8 for byte-level BPE.
        special: whether to add what the vocabulary asks for before and behind the text.
        parse: whether control tokens that stand in the text are such; else they are text.

    Raises:
        OSError, GgufError: a file that cannot be read. ModelError: there is no tokenizer, or none that is known here.
    """
    vocabulary = _vocabulary_at(os.fspath(path), os.stat(path).st_mtime_ns)
    out = [vocabulary.bos] if special and vocabulary.bos is not None else []
    begins = True
    for part in _parts(text, vocabulary, parse):
        if isinstance(part, int):
            out.append(part)
        elif vocabulary.kind == "spm":
            out += spm.tokens_of(part, vocabulary, begins)
        else:
            out += bpe.tokens_of(part, vocabulary)
        begins = isinstance(part, int)
    return out + ([vocabulary.eos] if special and vocabulary.eos is not None else [])


def bos_of(path: str | os.PathLike[str]) -> int | None:
    """The id that the vocabulary of a GGUF model puts before a text; None where it puts none. Raises as tokenize."""
    return _vocabulary_at(os.fspath(path), os.stat(path).st_mtime_ns).bos


@functools.lru_cache(4)
def _vocabulary_at(path: str, changed: int) -> Vocabulary:
    """The vocabulary of a model; ``changed`` is when its file was."""
    model = open_model(path)
    return vocabulary_of(model.gguf, model.name)


def _parts(text: bytes, vocabulary: Vocabulary, parse: bool) -> Iterator[bytes | int]:
    """Special tokens as ids, and the text between them; the longest token is looked for first."""
    parts: list[bytes | int] = [text] if text else []
    for token in vocabulary.special:
        name = vocabulary.tokens[token]
        if (parse or vocabulary.types[token] == USER_DEFINED) and name in text:
            strips = token in vocabulary.stripping
            parts = [piece for part in parts for piece in _cut(part, name, token, strips)]
    yield from parts


def _cut(part: bytes | int, name: bytes, token: int, strips: bool) -> Iterator[bytes | int]:
    if isinstance(part, int):
        yield part
        return
    first, *others = part.split(name)
    if first:
        yield first
    for other in others:
        yield token
        kept = other.lstrip(WHITE) if strips else other
        if kept:
            yield kept
