"""SentencePiece: the text's characters, merged by the highest score; what is no token becomes bytes."""

from __future__ import annotations

from collections.abc import Iterator

from hifi_ref.models.model import ModelError
from hifi_ref.models.tokens.merging import merged
from hifi_ref.models.tokens.vocabulary import Vocabulary

SPACE = "\u2581".encode()


def tokens_of(text: bytes, vocabulary: Vocabulary, begins: bool) -> list[int]:
    """``begins``: whether the text stands first, or behind a special token. Bytes need not be UTF-8."""
    if vocabulary.space_prefix and begins:
        text = b" " + text
    ids, scores = vocabulary.ids, vocabulary.scores

    def rank(a: bytes, b: bytes) -> float | None:
        return None if a + b not in ids else -scores[ids[a + b]]

    out: list[int] = []
    for piece in merged(list(characters(text.replace(b" ", SPACE))), rank):
        out += [ids[piece]] if piece in ids else [_byte(byte, vocabulary) for byte in piece]
    return out


def characters(text: bytes) -> Iterator[bytes]:
    """By the length that the first byte of each announces."""
    at = 0
    while at < len(text):
        high = text[at] >> 4
        length = 1 if high < 12 else max(2, high - 11)
        yield text[at : at + length]
        at += length


def _byte(byte: int, vocabulary: Vocabulary) -> int:
    for name in (b"<0x%02X>" % byte, bytes([byte])):
        if name in vocabulary.ids:
            return vocabulary.ids[name]
    raise ModelError(f"the vocabulary has no token for the byte 0x{byte:02X}")
