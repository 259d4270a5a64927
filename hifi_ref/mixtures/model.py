"""What the rules of llama-quantize ask of a model, read from a GGUF.

Reference: load_hparams of llama.cpp v0.5.0 (llama-model.cpp, models/), as far as llama-quant.cpp looks at it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_header import KINDS
from hifi_ref.model_files.gguf_model import Gguf

# Architectures, and the number of layers by which the release takes one of their models for "70B".
SEVENTY = {"deci": 80, "jais2": 68, "llama": 80, "llama-embed": 80, "olmo": 80, "qwen2": 80}
_LETTERS = {kind.name: kind.letter for kind in KINDS.values()}


class Model(NamedTuple):
    """``layers``: how many. ``grouped``: how many query heads share a key head in the first layer, rounded down; 0
    where it has no attention, None where the release does not read it. ``seventy``: it is taken for a 70B model.
    """

    architecture: str
    layers: int
    experts: int = 0
    grouped: int | None = 1
    seventy: bool = False


class NotDescribed(InputError):
    """The metadata lacks what the rules ask for; the message says what in one sentence."""


def read(gguf: Gguf, given: Mapping[str, int | str] = MappingProxyType({})) -> Model:
    """The model that a file's metadata describe, ``given`` numbers and texts in their place. Raises NotDescribed."""
    architecture = architecture_of(gguf, given)
    if architecture is None:
        raise NotDescribed("the metadata have no general.architecture")
    if architecture == "clip":
        return Model(architecture, 0, 0, None)

    def stated(key: str) -> int | None:
        value, instead = gguf.metadata.get(key), given.get(key)
        takes = isinstance(instead, int) and (value is None or value.count is None)
        return int(instead) if takes and instead is not None else first_number(gguf, key)

    layers = stated(f"{architecture}.block_count")
    if layers is None or layers < 1:
        raise NotDescribed(f"the metadata have no number of layers, {architecture}.block_count")

    def number(key: str, otherwise: int) -> int:
        found = stated(f"{architecture}.{key}")
        return otherwise if found is None else found

    experts, heads = number("expert_count", 0), number("attention.head_count", 0)
    key_heads = number("attention.head_count_kv", heads)
    own = layers - number("nextn_predict_layers", 0)
    seventy = SEVENTY.get(architecture) == own
    if architecture in ("llama", "llama-embed"):
        seventy = seventy and experts != 8 and heads != key_heads
    if architecture == "nanbeige":
        layers *= number("num_loops", 1)
    if architecture == "graniteswitch":
        layers = own + 1
    return Model(architecture, layers, experts, heads // key_heads if key_heads > 0 else 0, seventy)


def architecture_of(gguf: Gguf, given: Mapping[str, int | str] = MappingProxyType({})) -> str | None:
    """What the release takes a model's architecture for; None where nothing says."""
    instead = given.get("general.architecture")
    return instead if isinstance(instead, str) else gguf.text("general.architecture")


def first_number(gguf: Gguf, key: str) -> int | None:
    """A single integer, or the first of an array; None where there is none."""
    value = gguf.metadata.get(key)
    if value is None or value.count is None:
        return None if value is None else value.integer
    letter = _LETTERS.get(value.kind)
    if not value.count or letter is None or letter in "fd":
        return None
    return int(struct.unpack_from(gguf.order + letter, gguf.data, value.start)[0])
