"""llama-quantize's options, as its command line takes them.

Reference: llama_quantize (tools/quantize/quantize.cpp) and string_parse_kv_override of llama.cpp v0.5.0.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hifi_ref.commands.command_line import UsageError
from hifi_ref.formats import FORMATS
from hifi_ref.mixtures import llama_quantize
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_write import Change

# The longest key and the longest text that the release takes for --override-kv.
LONGEST = 127
# Keys whose override would change how the release writes files.
NOT_OVERRIDDEN = ("general.alignment", "split.")
# Formats that have an encoder, but that the release writes no files in.
NOT_WRITTEN = ("Q8_1", "Q8_K")
# What Python's regular expressions and the release's (ECMAScript's, of the C++ library) take differently.
_DIFFERENT = re.compile(r"\(\?[^:=!]|\[\[|\[\^?\]|\\(?![bdswnrtfv])\w|\{,|[*+?}]\+")


class Options(NamedTuple):
    """``types`` decides on types. ``prune``: numbers of layers that are left out. ``keys``: metadata that are set.

    ``keep_split``: as many shards as the source has. ``allow_requantize``: tensors that are quantized already are
    decoded first.
    """

    types: llama_quantize.Options = llama_quantize.NO_OPTIONS
    prune: tuple[int, ...] = ()
    keys: tuple[tuple[str, Change], ...] = ()
    keep_split: bool = False
    allow_requantize: bool = False

    @property
    def given(self) -> dict[str, int | str]:
        """Overridden keys as the release reads the model by them: the first of several counts, and no other kinds."""
        numbers = {key: value for key, value in reversed(self.keys) if isinstance(value, int | str)}
        return {key: value for key, value in numbers.items() if not isinstance(value, bool)}

    def with_types(self, types: Mapping[str, str]) -> Options:
        """The same, where each of these tensors has this type."""
        own = tuple((f"^{re.escape(name)}$", kind) for name, kind in types.items())
        return self._replace(types=self.types._replace(overrides=own + self.types.overrides))


NO_OPTIONS = Options()


def of_flags(values: Mapping[str, Any]) -> Options:
    """The options that flags of llama-quantize's names say. Raises UsageError, or OSError for --tensor-type-file."""
    listed = list(values["tensor-type"])
    if values["tensor-type-file"]:
        listed += _words(values["tensor-type-file"])
    types = llama_quantize.Options(
        pure=values["pure"],
        leave_output_tensor=values["leave-output-tensor"],
        output_tensor_type=_asked(values, "output-tensor-type"),
        token_embedding_type=_asked(values, "token-embedding-type"),
        overrides=tuple(_override(text) for text in listed),
    )
    return Options(
        types, layers(values["prune-layers"]), tuple(map(key_override, values["override-kv"])), values["keep-split"],
        values["allow-requantize"],
    )  # fmt: skip


def type_named(text: str, where: str) -> str:
    """A type that the release can encode. Raises UsageError."""
    name = text.upper()
    known = [n for n, f in FORMATS.items() if f.dialect == "llama.cpp" and f.encode and n not in NOT_WRITTEN]
    if name not in known:
        raise UsageError(f"{where}: nothing can be quantized to {text!r}; there are {' '.join(known)}")
    return name


def layers(text: str | None) -> tuple[int, ...]:
    """ "3,1" -> (1, 3). Raises UsageError."""
    parts = text.split(",") if text else []
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--prune-layers={text} is no list of layers' numbers")
    return tuple(sorted({int(part) for part in parts}))


def key_override(text: str) -> tuple[str, Change]:
    """KEY=TYPE:VALUE -> (key, value), as it is written: an integer as u32, a float as f32. Raises UsageError."""
    key, _, typed = text.partition("=")
    kind, colon, value = typed.partition(":")
    wrong = UsageError(f"--override-kv={text} is not KEY=TYPE:VALUE, with int, float, bool or str for TYPE")
    if not key or not colon or len(key.encode()) > LONGEST:
        raise wrong
    if key.startswith(NOT_OVERRIDDEN):
        raise UsageError(f"--override-kv={text}: {key} says how the file is laid out, and cannot be overridden")
    if kind == "str":
        if len(value.encode()) > LONGEST:
            raise UsageError(f"--override-kv={key}: a text of more than {LONGEST} bytes")
        return key, value
    if kind == "bool" and value in ("true", "false"):
        return key, value == "true"
    try:
        if kind == "int":
            return key, abs(int(value)) & 0xFFFFFFFF
        if kind == "float":
            struct.pack("<f", float(value))
            return key, float(value)
    except (ValueError, OverflowError):
        raise wrong from None
    raise wrong


def _asked(values: Mapping[str, Any], flag: str) -> str | None:
    return type_named(values[flag], f"--{flag}") if values[flag] else None


def _words(path: str) -> list[str]:
    try:
        return Path(path).read_text().split()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text: --tensor-type-file has lines REGEX=TYPE") from None


def _override(text: str) -> tuple[str, str]:
    """REGEX=TYPE -> (pattern in lower case, as the release takes it, type)."""
    pattern, equals, kind = text.partition("=")
    if not pattern or not equals or not kind:
        raise UsageError(f"--tensor-type={text} is not REGEX=TYPE")
    lower = "".join(c.lower() if c.isascii() else c for c in pattern)
    if _DIFFERENT.search(lower):
        raise UsageError(f"--tensor-type={text}: the release reads such a regular expression otherwise than Python")
    try:
        re.compile(lower)
    except re.error as error:
        raise UsageError(f"--tensor-type={text} is no regular expression: {error}") from None
    return lower, type_named(kind, f"--tensor-type={text}")
