"""The numbers that a model is built from: llama_model_base::load_hparams, and load_arch_hparams of its family.

They keep the release's own names, in which the tables write their formulas. Its numbers are u32, and wrap as such.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref.loading.metadata import Metadata
from hifi_ref.loading.report import Report
from hifi_ref.loading.tables import Key, common_keys, family

# LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS of llama-hparams.h.
MAX_LAYERS, MAX_EXPERTS = 512, 1024
ROPE_SCALING = ("none", "linear", "yarn", "longrope")
_WORD = 0xFFFFFFFF

Numbers = dict[str, Any]


def read(metadata: Metadata, architecture: str, vocabulary: tuple[int, int], report: Report) -> Numbers | None:
    """Every number by the release's name for it; None where too much is wrong to go on.

    Args:
        vocabulary: the number of tokens, and of kinds of tokens.
    """
    before = len(report.problems)
    h: Numbers = {"n_vocab": vocabulary[0], "n_token_types": vocabulary[1], "n_head": 0}
    for key in (*common_keys(), *family(architecture).keys):
        if not _is_read(key, architecture, metadata, h):
            continue
        found = _value(metadata, key, key.name.replace("{arch}", architecture), h)
        # What llama reads of its vocabulary here only names the model's size.
        if key.field != "n_vocab":
            h[key.field] = _default(key.field, h) if found is None else found
        if key.field == "n_layer_all" and not _layers_are_possible(h, architecture, report):
            return None
        if key.field == "n_head_arr":
            h["n_head"] = int(h["n_head_arr"][0])
    for field in ("n_embd_head_k_full", "n_embd_head_v_full", "n_rot_full", "n_swa", "ropescale"):
        h.setdefault(field, 0)
    if len(report.problems) == before:
        _check_experts(h, architecture, report)
        _check_rope(h, architecture, report)
        _of_the_first_layer(h)
        _check_family(h, architecture, report)
    return None if len(report.problems) > before else h


def _is_read(key: Key, architecture: str, metadata: Metadata, h: Numbers) -> bool:
    """Whether the release comes to read this key: "if NUMBER", "unless KEY"."""
    for condition in key.conditions:
        word, what = condition.split()
        if word == "if" and not h[what]:
            return False
        if word == "unless" and metadata.value(what.replace("{arch}", architecture)) is not None:
            return False
    return True


def _value(metadata: Metadata, key: Key, name: str, h: Numbers) -> Any:
    if "|" in key.kind:
        return metadata.per_layer(name, key.kind.split("|")[0], h["n_layer_all"], key.required)
    if key.kind.startswith("pattern:"):
        return _windows(metadata, name, int(key.kind.split(":")[1]), h)
    if key.kind in ("strings", "any[]"):
        return _count(metadata, name, key.kind)
    return metadata.scalar(name, key.kind, key.required)


def _default(field: str, h: Numbers) -> Any:
    """What the release has where a key is absent."""
    if field.endswith("_arr"):
        return h["n_head_arr"] if field == "n_head_kv_arr" else np.zeros(h["n_layer_all"], np.uint32)
    if field in ("n_embd_head_k_full", "n_embd_head_v_full"):
        return h["n_embd"] // h["n_head"]
    if field == "n_rot_full":
        return h["n_embd_head_k_full"]
    if field.endswith("_swa") and field.startswith("n_"):
        return h.get(field.removesuffix("_swa") + "_full", 0)
    return "linear" if field == "rope_scaling" else 0


def _count(metadata: Metadata, name: str, kind: str) -> int | None:
    """The number of items of an array, of strings or of anything; an only value is passed over or refused."""
    value = metadata.value(name)
    if value is None or (value.count is None and kind == "strings"):
        return None
    if value.count is None:
        metadata.report.problem("L002", name, f"{name} is one {value.kind}, where an array is needed")
    elif kind == "strings" and value.kind != "string":
        metadata.report.problem("L002", name, f"{name} is an array of {value.kind}, where strings are needed")
    return value.count


def _windows(metadata: Metadata, name: str, period: int, h: Numbers) -> np.ndarray:
    """Which layers have a sliding window (load_swa_pattern): one value a layer, or all but each period-th."""
    value = metadata.value(name)
    out = np.zeros(MAX_LAYERS, np.uint32)
    if value is not None and value.count is not None:
        found = metadata.words(name, value)
        if found is not None and value.count > MAX_LAYERS:
            metadata.report.problem("L002", name, f"{name} has {value.count} items; {MAX_LAYERS} are the most")
        elif found is not None:
            out[: value.count] = found
        return out
    given = metadata.scalar(name, "u32")
    period = period if given is None else given
    layer = np.arange(h["n_layer_all"] - min(h["n_layer_nextn"], h["n_layer_all"]))
    out[: len(layer)] = layer % period < period - 1 if period else 1
    return out


def _layers_are_possible(h: Numbers, architecture: str, report: Report) -> bool:
    key, layers = f"{architecture}.block_count", h["n_layer_all"]
    possible = 0 < layers <= MAX_LAYERS
    if not possible and all(problem.subject != key for problem in report.problems):
        report.problem("L003", key, f"{key} is {layers}; llama.cpp takes 1 to {MAX_LAYERS} layers")
    return possible


def _check_experts(h: Numbers, architecture: str, report: Report) -> None:
    """The assertions of load_hparams on experts, and on layers that predict further tokens."""
    n, used = h["n_expert"], int(h["n_expert_used_arr"].max())
    groups, group_used = h["n_expert_groups"], h["n_group_used"]

    def refuse(key: str, sentence: str) -> None:
        report.problem("L003", f"{architecture}.{key}", f"{architecture}.{key} is {sentence}")

    if h["n_layer_nextn"] > h["n_layer_all"]:
        refuse("nextn_predict_layers", f"{h['n_layer_nextn']}, more than block_count, {h['n_layer_all']}")
    if n > MAX_EXPERTS:
        refuse("expert_count", f"{n}; {MAX_EXPERTS} are the most")
    elif used > n:
        refuse("expert_used_count", f"{used}, more than expert_count, {n}")
    elif n and not used:
        refuse("expert_used_count", f"0 or missing, with {n} experts")
    elif groups and groups >= n:
        refuse("expert_group_count", f"{groups}, not below expert_count, {n}")
    elif groups > 1 and (n % groups or not 0 < group_used < groups):
        refuse("expert_group_count", f"{groups}: {n} experts do not split so, {group_used} groups used")


def _check_rope(h: Numbers, architecture: str, report: Report) -> None:
    if h["rope_scaling"] not in ROPE_SCALING:
        key = f"{architecture}.rope.scaling.type"
        report.problem("L003", key, f"{key} is {h['rope_scaling']!r}, none of {', '.join(ROPE_SCALING)}")
    if architecture == "llama" and h["n_head"] and h["n_rot_full"] != h["n_embd_head_k_full"]:
        key = f"{architecture}.rope.dimension_count"
        sentence = f"{key} is {h['n_rot_full']}, where {h['n_embd_head_k_full']}, the length of a head, is needed"
        report.problem("L003", key, sentence)


def _of_the_first_layer(h: Numbers) -> None:
    """The numbers of LLAMA_LOAD_LOCALS: most families give every layer the shapes of the first."""
    h["is_swa"] = h.get("is_swa", np.zeros(MAX_LAYERS, np.uint32)) != 0
    which = "swa" if h["is_swa"][0] else "full"
    for name in ("n_embd_head_k", "n_embd_head_v", "n_rot"):
        h[name] = h[f"{name}_{which}"]
    h["n_layer"] = h["n_layer_all"] - h["n_layer_nextn"]
    h["n_head_kv"], h["n_ff"] = int(h["n_head_kv_arr"][0]), int(h["n_ff_arr"][0])
    h["n_embd_k_gqa"] = h["n_embd_head_k"] * h["n_head_kv"] & _WORD
    h["n_embd_v_gqa"] = h["n_embd_gqa"] = h["n_embd_head_v"] * h["n_head_kv"] & _WORD
    h["n_expert_used"] = int(h["n_expert_used_arr"][0])
    h["n_cls_out"] = h["classifier_labels"] or 1
    # What only other architectures set.
    h["n_ff_shexp"] = h["dense_2_feat_out"] = h["dense_3_feat_in"] = 0


def _check_family(h: Numbers, architecture: str, report: Report) -> None:
    """What load_arch_tensors of one family asks of the numbers."""
    if architecture == "bert" and not h["n_token_types"]:
        key = "tokenizer.ggml.token_type_count"
        report.problem("L002", key, f"{key} is missing or 0, and bert needs it")
    if architecture == "qwen3moe":
        if not h["n_expert"] or not h["n_expert_used"]:
            key = f"{architecture}.expert_{'used_count' if h['n_expert'] else 'count'}"
            report.problem("L002", key, f"{key} is missing or 0, and qwen3moe needs it")
            return
        h["n_ff_exp"] = int(h["n_ff_exp_arr"][0]) or h["n_ff"] // h["n_expert_used"]
