"""The tensors that the numbers ask for, held against those that a file has: llama_model_base::load_tensors.

Every tensor of a file must be asked for, and every tensor that is asked for must have the very shape, one that may be
absent as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hifi_ref.loading.hyper_parameters import Numbers
from hifi_ref.loading.report import Report
from hifi_ref.loading.tables import family, size
from hifi_ref.model_files.gguf_model import Tensor

# Weights that may have scales beside them, as NVFP4 has; those of experts one for each.
SCALED = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_qkv", "ffn_gate", "ffn_down", "ffn_up")
SCALED_EXPERTS = ("ffn_gate_exps", "ffn_down_exps", "ffn_up_exps")
# The graph hands these to ggml_rope_ext, which takes nothing but F32.
ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
# Rows of the embedding stay I32 where it is; the sum that bert makes has the type of the positions.
WHOLE_ROWS = {"bert": "position_embd.weight"}

Tensors = Mapping[str, Tensor]


class Asked(NamedTuple):
    """A tensor that the release asks for."""

    name: str
    shape: tuple[int, ...]
    required: bool


def check(tensors: Tensors, architecture: str, h: Numbers, report: Report) -> None:
    """Report what is missing, misshapen, of no use, or more than there should be."""
    asked = {a.name: a for a in asked_for(tensors, architecture, h)}
    missing = [a for a in asked.values() if a.required and a.name not in tensors]
    for a in _without_whole_layers(missing, asked, architecture, h, report):
        report.problem("L004", a.name, f"tensor {a.name} is missing: {_shape(a.shape)} is needed")
    for name, tensor in tensors.items():
        if name not in asked:
            report.problem("L006", name, _unasked(name, architecture, h))
        elif _four(tensor.shape) != _four(asked[name].shape):
            sentence = (
                f"tensor {name} has the shape {_shape(tensor.shape)}, where {_shape(asked[name].shape)} is needed"
            )
            report.problem("L005", name, sentence)
        elif name in ROPE_FACTORS and tensor.type_name != "F32":
            report.problem("L005", name, f"tensor {name} is {tensor.type_name}, where F32 is needed")
        elif name == WHOLE_ROWS.get(architecture, "token_embd.weight") and tensor.type_name == "I32":
            report.problem("L005", name, f"tensor {name} is I32, which no matrix can be multiplied with")
        elif 0 in tensor.shape:
            report.doubt(name, f"tensor {name} holds nothing, which the rules here do not cover")


def asked_for(tensors: Tensors, architecture: str, h: Numbers) -> Iterator[Asked]:
    """Every tensor that the release would create from these numbers, those among them that may be absent too."""
    for row in family(architecture).tensors:
        if "again" in row.flags or not all(_holds(c, h) for c in row.conditions):
            continue
        shape = tuple(size(formula, h) for formula in row.shape)
        if "*" not in row.name:
            yield Asked(row.name, shape, "optional" not in row.flags)
            continue
        for layer in range(h["n_layer"]):
            name = row.name.replace("*", str(layer))
            if "query-key-value" in row.flags:
                yield from _query_key_value(name.removesuffix("_qkv"), shape, tensors)
            else:
                yield Asked(name, shape, "optional" not in row.flags)
    yield from _scales(tensors, architecture, h)


def _holds(condition: str, h: Numbers) -> bool:
    """Conditions of the tables."""
    return {
        "if dense": h["n_expert"] == 0,
        "if experts": h["n_expert"] != 0,
        "if n_ff_shexp": h["n_ff_shexp"] > 0,
        "if longrope": h["rope_scaling"] == "longrope",
        "if not-longrope": h["rope_scaling"] != "longrope",
    }[condition]


def _query_key_value(stem: str, shape: tuple[int, ...], tensors: Tensors) -> Iterator[Asked]:
    """One matrix for all three, or three matrices; each with biases or without (create_tensor_qkv).

    All are needed, of phi3 too: it asks for none while loading, and its graph uses them unasked.
    """
    columns, *rows = shape
    fused = f"{stem}_qkv.weight" in tensors
    if fused:
        yield Asked(f"{stem}_qkv.weight", (columns, sum(rows)), True)
        yield Asked(f"{stem}_qkv.bias", (sum(rows),), False)
    for letter, n in zip("qkv", rows, strict=True):
        if not fused:
            yield Asked(f"{stem}_{letter}.weight", (columns, n), True)
        if f"{stem}_qkv.bias" not in tensors or not fused:
            yield Asked(f"{stem}_{letter}.bias", (n,), False)


def _scales(tensors: Tensors, architecture: str, h: Numbers) -> Iterator[Asked]:
    """The scales that any architecture may have beside its weights."""
    created = {row.name for row in family(architecture).tensors if all(_holds(c, h) for c in row.conditions)}
    for layer in range(h["n_layer"]):
        for weights, n in ((SCALED, 1), (SCALED_EXPERTS, h["n_expert"])):
            for stem in weights:
                held = f"blk.*.{stem}.weight" in created or stem in ("attn_q", "attn_k", "attn_v", "attn_qkv")
                if held and f"blk.{layer}.{stem}.weight" in tensors:
                    for suffix in ("scale", "input_scale"):
                        yield Asked(f"blk.{layer}.{stem}.{suffix}", (n,), False)
    output = tensors.get("output.weight") if "output.weight" in created else None
    # Where the embedding is the output too, such scales are refused.
    if output is not None and output.type_name == "NVFP4":
        yield Asked("output.scale", (1,), False)
        yield Asked("output.input_scale", (1,), False)


def _without_whole_layers(
    missing: list[Asked], asked: Mapping[str, Asked], architecture: str, h: Numbers, report: Report
) -> list[Asked]:
    """Layers of which nothing is there get one sentence each; what else is missing is returned."""
    needed: dict[int, int] = {}
    for a in asked.values():
        if a.required and a.name.startswith("blk."):
            layer = int(a.name.split(".")[1])
            needed[layer] = needed.get(layer, 0) + 1
    lacking: dict[int, int] = {}
    for a in missing:
        if a.name.startswith("blk."):
            layer = int(a.name.split(".")[1])
            lacking[layer] = lacking.get(layer, 0) + 1
    gone = {layer for layer, n in lacking.items() if n == needed[layer]}
    for layer in sorted(gone):
        count = f"{architecture}.block_count is {h['n_layer_all']}"
        sentence = f"layer {layer} has none of its {needed[layer]} tensors, and {count}"
        report.problem("L004", f"blk.{layer}", sentence)
    return [a for a in missing if not (a.name.startswith("blk.") and int(a.name.split(".")[1]) in gone)]


def _unasked(name: str, architecture: str, h: Numbers) -> str:
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) > 1 and parts[1].isdigit() and int(parts[1]) >= h["n_layer"]:
        return f"tensor {name} is of layer {parts[1]}, and {architecture} has {h['n_layer']} layers here"
    return f"tensor {name} is none that {architecture} has with these metadata"


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, *([1] * (4 - len(shape))))


def _shape(shape: tuple[int, ...]) -> str:
    return str(list(shape))
