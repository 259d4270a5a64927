"""Byte-level BPE: the text cut into words by a pattern, each byte of a word a letter, letters merged by rank."""

from __future__ import annotations

import regex

from hifi_ref.models.model import ModelError
from hifi_ref.models.tokens.merging import merged
from hifi_ref.models.tokens.vocabulary import Vocabulary

# A contraction, a word with the character before it, digits, signs with the space before and line ends behind, white
# space up to its last line end, white space but for the last before a word.
_NEWER = r"'(?i:s|t|re|ve|m|ll|d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "gpt-2": regex.compile(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    "qwen2": regex.compile(_NEWER % ""),
    "llama-bpe": regex.compile(_NEWER % "{1,3}"),
}
# Printable bytes stand for themselves, the others for the letters from 256 on.
_KEPT = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = [byte for byte in range(256) if byte not in _KEPT]
LETTERS = [chr(byte if byte in _KEPT else 256 + _OTHERS.index(byte)).encode() for byte in range(256)]


def tokens_of(text: bytes, vocabulary: Vocabulary) -> list[int]:
    """Raises ModelError where the text is not UTF-8."""
    try:
        words = PATTERNS[vocabulary.kind].findall(text.decode())
    except UnicodeDecodeError as error:
        raise ModelError(f"the text is not UTF-8 at byte {error.start}, as this tokenizer needs it") from None
    known: dict[str, list[int]] = {}
    out: list[int] = []
    for word in words:
        if word not in known:
            known[word] = _of_word([LETTERS[byte] for byte in word.encode()], vocabulary)
        out += known[word]
    return out


def _of_word(letters: list[bytes], vocabulary: Vocabulary) -> list[int]:
    """llama-bpe takes a whole word first; a letter that is no token is left out, as the release leaves it."""
    ids, ranks = vocabulary.ids, vocabulary.ranks
    whole = b"".join(letters)
    if vocabulary.kind == "llama-bpe" and whole in ids:
        return [ids[whole]]
    pieces = merged(letters, lambda a, b: ranks.get((a, b)))
    return [ids[part] for piece in pieces for part in _tokens_or_bytes(piece, ids) if part in ids]


def _tokens_or_bytes(piece: bytes, ids) -> list[bytes]:
    return [piece] if piece in ids else [bytes([byte]) for byte in piece]
