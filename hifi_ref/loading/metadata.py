"""Metadata read as llama_model_loader of the release reads it: each key with the kind that it must have."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from hifi_ref.loading.report import Report
from hifi_ref.model_files.gguf_model import Gguf, Value

# Elements that get_arr takes for an array of u32 (and of i32), and those it refuses outright.
U32_ARRAYS = ("u32", "i32", "bool")
_DTYPES = {"u8": "u1", "i8": "i1", "u16": "u2", "i16": "i2", "u32": "u4", "i32": "i4", "f32": "f4", "bool": "u1"}
_DTYPES |= {"u64": "u8", "i64": "i8", "f64": "f8"}


class Metadata:
    """One file's metadata; whatever has the wrong kind goes into ``report`` under ``code``."""

    def __init__(self, gguf: Gguf, report: Report, code: str = "L002") -> None:
        self.gguf, self.report, self.code = gguf, report, code

    def value(self, key: str) -> Value | None:
        return self.gguf.metadata.get(key)

    def scalar(self, key: str, kind: str, required: bool = False) -> Any:
        """A single value; None where the key is absent or wrong, which is reported where the release would stop."""
        value = self.value(key)
        if value is None:
            if required:
                self.report.problem(self.code, key, f"{key} is missing")
            return None
        if value.kind != kind or value.count is not None:
            self.report.problem(self.code, key, f"{key} is {_described(value)}, where one {kind} is needed")
            return None
        return self.text(value) if kind == "string" else value.scalar

    def text(self, value: Value) -> str:
        """A string as C reads it: up to the first NUL."""
        length = struct.unpack_from(self.gguf.order + "Q", self.gguf.data, value.start - 8)[0]
        raw = self.gguf.data[value.start : value.start + length]
        return raw.split(b"\0")[0].decode("utf-8", "surrogateescape")

    def raw_text(self, key: str) -> bytes | None:
        """All bytes of a string; None where the key is absent or no string."""
        value = self.value(key)
        if value is None or value.kind != "string" or value.count is not None:
            return None
        length = struct.unpack_from(self.gguf.order + "Q", self.gguf.data, value.start - 8)[0]
        return bytes(self.gguf.data[value.start : value.start + length])

    def numbers(self, value: Value) -> np.ndarray:
        """An array of numbers."""
        dtype = np.dtype(self.gguf.order + _DTYPES[value.kind])
        return np.frombuffer(self.gguf.data, dtype, value.count or 0, value.start)

    def strings(self, value: Value) -> list[bytes]:
        """An array of strings, each as C reads it."""
        data, at, out = self.gguf.data, value.start, []
        length = struct.Struct(self.gguf.order + "Q").unpack_from
        for _ in range(value.count or 0):
            stop = at + 8 + length(data, at)[0]
            out.append(bytes(data[at + 8 : stop]).split(b"\0")[0])
            at = stop
        return out

    def per_layer(self, key: str, kind: str, layers: int, required: bool = False) -> np.ndarray | None:
        """A single value for all layers, or an array of one value a layer (get_key_or_arr)."""
        value = self.value(key)
        if value is None or value.count is None:
            one = self.scalar(key, kind, required)
            return None if one is None else np.full(layers, one, np.uint32)
        if value.count != layers:
            sentence = f"{key} has {value.count} items, where block_count asks for {layers}"
            self.report.problem(self.code, key, sentence)
            return None
        return self.words(key, value)

    def words(self, key: str, value: Value) -> np.ndarray | None:
        """An array's items as u32; None where the release does not take them for such."""
        if value.kind not in U32_ARRAYS:
            self.report.problem(self.code, key, f"{key} is {_described(value)}, where u32 are needed")
            return None
        found = self.numbers(value)
        return (found != 0).astype(np.uint32) if value.kind == "bool" else found.astype(np.int64).astype(np.uint32)


def _described(value: Value) -> str:
    return f"one {value.kind}" if value.count is None else f"an array of {value.kind}"
