"""Texts of the metadata that the release does not pass on whole: it ends each at its first NUL byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hifi_ref.model_files.gguf_model import Gguf, Value


def cut_off(gguf: Gguf) -> str | None:
    """The first key whose text, or one of whose texts, has a NUL byte in it; None where there is none."""
    strings = ((key, value) for key, value in gguf.metadata.items() if value.kind == "string")
    return next((key for key, value in strings if any(b"\0" in text for text in _texts(gguf, value))), None)


def _texts(gguf: Gguf, value: Value) -> Iterator[bytes]:
    length, data = struct.Struct(gguf.order + "Q").unpack_from, gguf.data
    at = value.start if value.count is not None else value.start - 8
    for _ in range(1 if value.count is None else value.count):
        size = length(data, at)[0]
        yield data[at + 8 : at + 8 + size]
        at += 8 + size
