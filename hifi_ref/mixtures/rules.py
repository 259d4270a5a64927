"""What llama-quantize gives one tensor under one of its mixtures: more bits for what loses most by being quantized.

Reference: llama_tensor_get_type_impl and tensor_get_category of llama.cpp v0.5.0 (llama-quant.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from hifi_ref.formats import FORMATS
from hifi_ref.mixtures.model import Model

# The file types of least bits: below 3 for most weights.
FEW_BITS = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
# Parts of names, the first that is found decides, and the kind that such a tensor is of.
_KINDS = (
    ("attn_qkv.weight", "attn_v"), ("attn_kv_b.weight", "attn_v"), ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"), ("attn_q.weight", "attn_q"), ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"), ("ffn_gate", "ffn_gate"), ("ffn_down", "ffn_down"),
)  # fmt: skip
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_FEED_FORWARD = ("ffn_up", "ffn_gate", "ffn_down")


class Refused(ValueError):
    """llama-quantize stops at such a model, file type or shape; the message says why in one sentence."""


class Mixture(NamedTuple):
    """What holds for all tensors: the file type's name, the type it is named after, the model, whether importance is
    given, whether the model has no output tensor of its own, a type asked for it, and one for the embeddings.
    """

    file_type: str
    default: str
    model: Model
    importance: bool
    tied: bool
    output: str | None = None
    embedding: str | None = None


class Place(NamedTuple):
    """One tensor: its name, shape (row length first) and kind; it is number ``i`` of ``n`` of its kind."""

    name: str
    shape: tuple[int, ...]
    kind: str
    i: int
    n: int


def kind_of(name: str) -> str:
    """What the rules take a tensor for: "attn_v" is also a fused attn_qkv, and attn_kv_b; "other" is none of them."""
    if name in ("output.weight", *EMBEDDINGS):
        return "output" if name == "output.weight" else "embedding"
    return next((kind for part, kind in _KINDS if part in name), "other")


def more_bits(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def chosen(mix: Mixture, tensor: Place) -> str:
    """The type of a tensor that is quantized, before its row length is looked at. Raises Refused."""
    kind = tensor.kind
    if kind == "output" or (kind == "embedding" and mix.tied):
        return _output(mix, tensor)
    if mix.file_type == "MXFP4_MOE":
        experts = len(tensor.shape) > 2 and tensor.shape[2] > 1
        named = mix.model.architecture != "bailingmoe3" or kind in _FEED_FORWARD
        return "MXFP4" if experts and named else "Q8_0"
    if kind == "embedding":
        return mix.embedding or _EMBEDDING.get(mix.file_type, mix.default)
    if mix.file_type in FEW_BITS:
        return _few_bits(mix, tensor)
    return _RULES[kind](mix, tensor) if kind in _RULES else mix.default


def _output(mix: Mixture, tensor: Place) -> str:
    if mix.output:
        return mix.output
    f, whole = mix.file_type, tensor.shape[0] % FORMATS[mix.default].block_size == 0
    if f == "MXFP4_MOE" or mix.default == "Q8_0" or mix.model.architecture == "falcon" or not whole:
        return "Q8_0"
    return "Q5_K" if f in (*FEW_BITS, "IQ3_XXS") else "Q6_K"


_EMBEDDING = {
    "IQ1_S": "Q2_K", "IQ1_M": "Q2_K", "IQ2_XXS": "Q2_K", "IQ2_XS": "Q2_K",
    "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ3_XXS": "IQ3_S",
    "TQ1_0": "Q4_K", "TQ2_0": "Q4_K", "Q2_0": "Q4_K",
}  # fmt: skip


def _few_bits(mix: Mixture, tensor: Place) -> str:
    kind, model, wider = tensor.kind, mix.model, mix.file_type in ("IQ2_S", "IQ2_M")
    if kind == "attn_v":
        return "Q4_K" if _grouped(mix) or model.experts >= 4 else "IQ3_S" if wider else "Q2_K"
    if kind == "attn_k" and model.experts == 8:
        return "Q4_K"
    if kind == "ffn_down" and tensor.i < tensor.n // 8:
        return "IQ3_S" if wider else "Q2_K"
    if kind == "attn_output":
        least = "IQ2_XXS" if mix.file_type in ("IQ1_S", "IQ1_M") else mix.default
        return "Q5_K" if model.experts == 8 else "IQ3_S" if wider else least
    return mix.default


def _attention_values(mix: Mixture, tensor: Place) -> str:
    f, i, found = mix.file_type, tensor.i, mix.default
    if f == "Q2_K":
        found = "Q4_K" if _grouped(mix) else "Q3_K"
    elif f == "IQ3_M" or (f in ("Q2_K_S", "IQ3_XS", "IQ3_S") and _grouped(mix)):
        found = "Q4_K"
    elif f == "IQ3_XXS":
        found = "Q4_K" if _grouped(mix) else "IQ3_XXS" if mix.importance else "IQ3_S"
    elif f == "Q3_K_M":
        found = "Q5_K" if i < 2 else "Q4_K"
    elif f == "Q3_K_L" or (f in ("IQ4_NL", "IQ4_XS") and _grouped(mix)) or (f == "Q4_K_S" and i < 4):
        found = "Q5_K"
    elif f in ("Q4_K_M", "Q5_K_M") and more_bits(i, tensor.n):
        found = "Q6_K"
    if mix.model.seventy and found in ("Q3_K", "Q4_K"):
        found = "Q5_K"
    return "Q8_0" if mix.model.experts == 8 else found


def _grouped(mix: Mixture) -> bool:
    """Whether four query heads or more share a key head."""
    if mix.model.grouped is None:
        raise Refused(f"llama-quantize reads no heads of the architecture {mix.model.architecture}")
    return mix.model.grouped >= 4


def _attention_keys(mix: Mixture, tensor: Place) -> str:
    return "Q8_0" if mix.model.experts == 8 else _attention_queries(mix, tensor)


def _attention_queries(mix: Mixture, tensor: Place) -> str:
    return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(mix.file_type, mix.default)


def _attention_output(mix: Mixture, tensor: Place) -> str:
    f = mix.file_type
    if mix.model.architecture == "falcon":
        return "Q4_K" if f == "Q3_K_L" else mix.default
    if mix.model.experts == 8:
        return "Q5_K" if f in _RAISED_AMONG_EXPERTS else mix.default
    return _ATTENTION_OUTPUT.get(f, mix.default)


_ATTENTION_OUTPUT = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
_RAISED_AMONG_EXPERTS = ("Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S",
                         "IQ3_M", "IQ4_XS")  # fmt: skip


def _down(mix: Mixture, tensor: Place) -> str:
    f, model, guided = mix.file_type, mix.model, mix.importance
    falcon, i, n = model.architecture == "falcon", *_layer(mix, tensor)
    first, more = i < n // 8, more_bits(i, n)
    if f == "Q3_K_M":
        return "Q5_K" if i < n // 16 else "Q4_K" if more or not falcon else "Q3_K"
    if f == "Q4_K_M" and falcon:
        return "Q6_K" if i < n // 16 else "Q5_K" if more else "Q4_K"
    raised = {
        "Q2_K": (True, "Q3_K"),
        "Q2_K_S": (first, "Q4_K"),
        "IQ3_XXS": (not guided, "Q4_K" if first else "Q3_K"),
        "IQ3_M": (first or (model.experts == 8 and more), "Q4_K"),
        "Q3_K_L": (True, "Q4_K" if falcon else "Q5_K"),
        "Q4_K_S": (first and not falcon, "Q5_K"),
        "Q4_K_M": (more, "Q6_K"),
        "Q5_K_M": (more, "Q6_K"),
        "IQ4_NL": (first and not guided, "Q5_K"),
        "IQ4_XS": (first and not guided, "Q5_K"),
        "Q4_0": (first and guided, "Q4_1"),
        "Q5_0": (first and guided, "Q5_1"),
    }
    applies, found = raised.get(f, (False, ""))
    return found if applies else mix.default


def _gate_or_up(mix: Mixture, tensor: Place) -> str:
    i, n = _layer(mix, tensor)
    return "IQ3_XXS" if mix.file_type == "IQ3_XS" and n // 8 <= i < 7 * n // 8 else mix.default


def _layer(mix: Mixture, tensor: Place) -> tuple[int, int]:
    """The layer and how many there are: counted, or, where there are experts, taken from the name."""
    if mix.model.experts <= 1:
        return tensor.i, tensor.n
    layer = layer_of(tensor.name)
    if not 0 <= layer < tensor.n:
        raise Refused(f"the name {tensor.name} says no layer from 0 to {tensor.n - 1}")
    return layer, tensor.n


def layer_of(name: str) -> int:
    """The layer's number; -1 outside the layers."""
    match = re.match(r"blk\.([+-]?\d+)", name)
    return int(match[1]) if match else -1


_RULES: dict[str, Callable[[Mixture, Place], str]] = {
    "attn_v": _attention_values, "attn_k": _attention_keys, "attn_q": _attention_queries,
    "attn_output": _attention_output, "ffn_down": _down, "ffn_gate": _gate_or_up, "ffn_up": _gate_or_up,
}  # fmt: skip
