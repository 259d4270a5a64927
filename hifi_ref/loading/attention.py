"""What building a context asserts of the numbers: the graphs of models/*.cpp, llm_graph_context, llama_kv_cache.

These graphs give every layer the heads of the first, and the cache takes each layer's own: both must agree.
"""

from __future__ import annotations

from hifi_ref.loading.hyper_parameters import Numbers
from hifi_ref.loading.report import Report
from hifi_ref.loading.tensors import Tensors

# Families whose graph asserts that a head is rotated as a whole; the others leave it to the computation.
ROTATE_WHOLE_HEADS = ("llama", "qwen2", "qwen3", "qwen3moe")
# Families whose heads together are as wide as the embedding: their output matrix is square.
SQUARE = ("bert", "phi3", "qwen2")
# Families without a cache.
NO_CACHE = ("bert",)
WITH_EXPERTS = ("llama", "qwen3moe")
# A layer's graph makes fewer tensors than this, and two for each expert used (measured: 50 to 56); the whole graph has
# room for 1024, or 8 for each tensor of the model (llama_context::graph_max_nodes).
NODES = 64


def check(tensors: Tensors, architecture: str, h: Numbers, report: Report) -> None:
    """Report what keeps the release from building a context of a model that it loaded."""
    a, head, heads, kv = architecture, h["n_embd_head_k"], h["n_head"], h["n_head_kv"]
    if not heads or not kv or not h["n_layer"]:
        heads_key = "attention.head_count_kv" if heads else "attention.head_count"
        key = f"{a}.{heads_key if h['n_layer'] else 'nextn_predict_layers'}"
        report.doubt(key, f"{key} leaves nothing to attend with, which the rules here do not cover")
        return
    if head != h["n_embd_head_v"]:
        sentence = f"{a}.attention.value_length is {h['n_embd_head_v']}, and key_length {head}: {a} needs both alike"
        report.problem("L003", f"{a}.attention.value_length", sentence)
    if a in ROTATE_WHOLE_HEADS and h["n_rot"] != head:
        sentence = f"{a}.rope.dimension_count is {h['n_rot']}, where {head}, the length of a head, is needed"
        report.problem("L003", f"{a}.rope.dimension_count", sentence)
    if a in SQUARE and heads * head != h["n_embd"]:
        sentence = f"{a}.attention.head_count: {heads} heads of {head} are not {a}.embedding_length, {h['n_embd']}"
        report.problem("L003", f"{a}.attention.head_count", sentence)
    if heads % kv:
        sentence = f"{a}.attention.head_count_kv is {kv}, which does not divide the {heads} heads"
        report.problem("L003", f"{a}.attention.head_count_kv", sentence)
    if a not in NO_CACHE:
        _check_cache(a, h, report)
    _check_experts(a, tensors, h, report)
    _check_biases(tensors, h, report)


def _check_cache(a: str, h: Numbers, report: Report) -> None:
    """Each layer's keys and values go into the cache as that layer's own numbers would have them."""
    windowed = a == "gemma2" or (a == "gemma3" and h["n_swa"] > 0)
    if windowed and not h["is_swa"][: h["n_layer_all"]].any():
        key = f"{a}.attention.sliding_window_pattern"
        report.problem("L003", key, f"{key} gives no layer a window, and {a} needs one that has")
    for layer in range(h["n_layer"]):
        which = "swa" if h["is_swa"][layer] else "full"
        kv = int(h["n_head_kv_arr"][layer])
        if kv != h["n_head_kv"]:
            key = f"{a}.attention.head_count_kv"
            report.problem("L003", key, f"{key} is {kv} in layer {layer} and {h['n_head_kv']} in the first")
            return
        for letter, name in (("k", "key_length"), ("v", "value_length")):
            length = h[f"n_embd_head_{letter}_{which}"]
            if length != h["n_embd_head_k"]:
                key = f"{a}.attention.{name}" + ("_swa" if which == "swa" or h["is_swa"][0] else "")
                sentence = f"{key}: heads of {length} in layer {layer}, of {h['n_embd_head_k']} in the first"
                report.problem("L003", key, sentence)
                return


def _check_experts(a: str, tensors: Tensors, h: Numbers, report: Report) -> None:
    if a not in WITH_EXPERTS or not h["n_expert"]:
        return
    used, groups = h["n_expert_used_arr"][: h["n_layer"]], h["n_expert_groups"]
    if groups > 1 and h["n_expert"] // groups < 2:
        key = f"{a}.expert_group_count"
        report.problem("L003", key, f"{key} is {groups}: groups of {h['n_expert'] // groups} experts are too small")
    key, nodes = f"{a}.expert_used_count", sum(NODES + 2 * n for n in used.tolist())
    if (used != used[0]).any():
        report.doubt(key, f"{key} differs between layers, which the rules here do not cover")
    elif nodes > max(1024, 8 * len(tensors)):
        report.doubt(key, f"{key} is {used[0]}: whether the graph has room for so many is not covered here")


def _check_biases(tensors: Tensors, h: Numbers, report: Report) -> None:
    """Three biases beside one fused matrix are joined, so they must be of one type."""
    for layer in range(h["n_layer"]):
        stem = f"blk.{layer}.attn_"
        biases = [tensors[f"{stem}{x}.bias"] for x in "qkv" if f"{stem}{x}.bias" in tensors]
        if f"{stem}qkv.weight" in tensors and len(biases) == 3 and any(t.type_name != "F32" for t in biases):
            report.doubt(
                biases[0].name, f"tensor {biases[0].name}: biases joined that are not all F32 are not covered here"
            )
