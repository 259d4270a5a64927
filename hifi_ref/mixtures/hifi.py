"""Which format the HIFI fork gives each tensor under its own file types, and how many outliers it keeps there.

Sizes are in billions of parameters.

Reference: llama_tensor_get_type_impl of the fork (llama-quant.cpp, 1de093b32).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from hifi_ref.formats.hifi import q3_k_hifi, q4_k_hifi
from hifi_ref.mixtures.model import NotDescribed, first_number
from hifi_ref.mixtures.rules import layer_of, more_bits
from hifi_ref.model_files.gguf_model import Gguf

# The fork's file types: general.file_type, and what a tensor takes where no rule says otherwise.
FORK_FILE_TYPES = {
    "Q4_K_HIFI": 44, "Q3_K_HIFI": 45, "Q5_K_HIFI": 46, "Q2_K_HIFI": 47,
    "Q2_K_LITE": 48, "Q3_K_LITE": 49, "Q4_K_LITE": 50, "Q5_K_LITE": 51, "Q6_K_LITE": 52,
}  # fmt: skip
# One step up, for what stands outside the layers.
LITE_STEP_UP = {"Q2_K_LITE": "Q3_K_LITE", "Q3_K_LITE": "Q4_K_LITE", "Q4_K_LITE": "Q5_K_LITE", "Q5_K_LITE": "Q6_K_LITE",
                "Q6_K_LITE": "Q8_0"}  # fmt: skip
# The tensors among which importance chooses.
GUIDED = ("attn_q", "attn_k", "attn_v", "attn_qkv", "ffn_gate", "ffn_up")


class Model(NamedTuple):
    """What the fork's rules ask of a model. ``layers``: how many it has; ``tied``: no output tensor of its own."""

    size: float
    layers: int
    experts: int = 0
    seventy: bool = False
    tied: bool = False


def read(gguf: Gguf) -> Model:
    """The model that a file's metadata describe. Raises NotDescribed."""
    arch = gguf.text("general.architecture")

    def number(key: str) -> int:
        found = first_number(gguf, f"{arch}.{key}")
        if found is None:
            raise NotDescribed(f"the source's metadata has no number {arch}.{key}, which the fork's rules need")
        return found

    layers, experts = number("block_count"), first_number(gguf, f"{arch}.expert_count") or 0
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    embedding = next((t for t in gguf.tensors if t.name == "token_embd.weight"), None)
    vocabulary = tokens.count if tokens and tokens.count else embedding.shape[-1] if embedding else 0
    size = size_of(number("embedding_length"), layers, number("feed_forward_length"), vocabulary)
    tied = not any(t.name == "output.weight" for t in gguf.tensors)
    return Model(size, layers, experts, layers == 80 and arch == "llama", tied)


def size_of(embedding: int, layers: int, feed_forward: int, vocabulary: int) -> float:
    """The fork's estimate of a model's size, in billions; it knows neither grouped queries nor experts."""
    e, n, f, v = embedding, layers, feed_forward, vocabulary
    return (4 * e * e * n + 3 * e * f * n + 2 * v * e) / 1e9


def kind_of(name: str) -> str:
    """ "attn_v" of "blk.3.attn_v.weight"; "output" and so on of tensors outside the layers."""
    return re.sub(r"^blk\.\d+\.|\.weight$", "", name).removesuffix("_exps")


def fork_format(file_type: str, name: str, model: Model) -> str:
    """What the fork gives a tensor under one of FORK_FILE_TYPES, with importance left aside."""
    kind, i, n, size = kind_of(name), layer_of(name), model.layers, model.size
    if kind == "output" or (kind == "token_embd" and model.tied):
        kind = "output"
    if file_type in LITE_STEP_UP:
        chosen = _lite(file_type, kind)
    else:
        chosen = {"Q2_K_HIFI": _q2, "Q3_K_HIFI": _q3, "Q4_K_HIFI": _q4, "Q5_K_HIFI": _q5}[file_type](kind, i, n, size)
    if model.experts == 8 and kind in ("attn_v", "attn_k"):
        return "Q8_0"
    if model.experts == 8 and kind == "attn_output" and file_type in ("Q3_K_HIFI", "Q2_K_HIFI"):
        return "Q5_K"
    if model.seventy and kind == "attn_v" and chosen in ("Q3_K", "Q4_K"):
        return "Q5_K"
    return chosen


def _q2(kind: str, i: int, n: int, size: float) -> str:
    return {
        "output": "Q6_K", "token_embd": "Q4_K", "attn_v": "Q3_K", "attn_q": "Q2_K_HIFI", "attn_k": "Q2_K_HIFI",
        "attn_output": "Q3_K", "attn_qkv": "Q3_K", "ffn_down": "Q3_K",
    }.get(kind, "Q2_K")  # fmt: skip


def _q3(kind: str, i: int, n: int, size: float) -> str:
    if kind == "output":
        return "Q6_K"
    if kind == "token_embd":
        return "Q6_K" if size > 1.7 else "Q4_K"
    if kind == "attn_v":
        return "Q5_K" if i < 2 else "Q4_K"
    if kind in ("attn_q", "attn_k", "ffn_gate"):
        return "Q4_K" if size <= 2 else "Q3_K_HIFI"
    if kind == "ffn_up":
        return "Q3_K_HIFI" if 2 < size <= 10 else "Q4_K"
    if kind == "ffn_down":
        return "Q5_K" if i < n // 16 else "Q4_K"
    return "Q4_K"


def _residual(size: float) -> str:
    return "Q5_K_HIFI_RES8" if size <= 5 else "Q6_K_HIFI_RES8"


def _q4(kind: str, i: int, n: int, size: float) -> str:
    if kind in ("output", "token_embd"):
        return _residual(size)
    if kind == "attn_v":
        share = 0.32 if size <= 1 else 0.25 if size <= 2 else 0.20 if size <= 15 else 0.0
        return _residual(size) if i <= n * share else "Q6_K" if more_bits(i, n) else "Q4_K_HIFI"
    if kind == "ffn_down":
        return "Q6_K" if more_bits(i, n) else "Q4_K"
    if kind == "ffn_gate":
        return _residual(size) if size <= 1 and i <= n * 0.18 else "Q4_K_HIFI"
    return {"attn_output": "Q4_K_HIFI", "attn_qkv": "Q5_K", "ffn_up": "Q4_K_HIFI"}.get(kind, "Q4_K")


def _q5(kind: str, i: int, n: int, size: float) -> str:
    residual = "Q6_K" if size <= 2 else _residual(size)
    if kind in ("output", "token_embd"):
        return residual
    if kind == "attn_v":
        share = 0.0 if size <= 1.7 else 0.05 if size <= 5 else 0.08 if size <= 10 else 0.05
        return residual if share and i <= n * share else "Q6_K" if more_bits(i, n) else "Q5_K"
    if kind == "ffn_down":
        return "Q6_K" if more_bits(i, n) else "Q5_K"
    return "Q6_K" if kind == "attn_qkv" else "Q5_K"


def _lite(file_type: str, kind: str) -> str:
    up = kind in ("output", "token_embd") or (file_type == "Q2_K_LITE" and kind == "ffn_down")
    return LITE_STEP_UP[file_type] if up else file_type


def guided_tensors(importance: dict[str, float | None], size: float) -> set[str]:
    """The tensors that importance picks out for outliers under the file type Q3_K_HIFI.

    Args:
        importance: of every tensor of the model by its name, 0.2 to 0.9; None, which counts as 0.5, where it is not
            known. Only those of a GUIDED kind are candidates.
        size: the model's, in billions of parameters. Up to 2 nothing is chosen.

    Returns:
        The candidates as important as the one at the 30th percentile from the top, or more; the 20th in models above
        5 billion, the 15th above 10, the 10th above 20. Of an even importance that is all of them.
    """
    own = {name: 0.5 if i is None else i for name, i in importance.items() if kind_of(name) in GUIDED}
    if size <= 2 or not own:
        return set()
    percent = 30 if size <= 5 else 20 if size <= 10 else 15 if size <= 20 else 10
    least = sorted(own.values(), reverse=True)[len(own) * percent // 100]
    return {name for name, i in own.items() if i >= least}


def fork_outliers(name: str, format: str, model: Model, importance: float | None = None) -> int | None:
    """How many outliers the fork's quantizer asks for in a tensor; ``importance`` is that of the tensor, 0.2 to 0.9."""
    if format == "Q3_K_HIFI":
        count = q3_k_hifi.outlier_count(model.size)
        if importance is None or count == 0:
            return count
        return min(count + 2, 8) if importance >= 0.7 else max(count - 2, 2) if importance < 0.4 else count
    if format == "Q4_K_HIFI":
        count = q4_k_hifi.outlier_count(model.size)
        if importance is None:
            return count
        return 8 if importance > 0.7 else max(count - 2, 2) if importance < 0.3 else count
    if format in ("Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8"):
        layer = layer_of(name)
        own = 0.5 if importance is None else importance
        return 8 if layer < 0 else outliers_by_depth(layer, model.layers, own, model.size)
    return None


def outliers_by_depth(layer: int, layers: int, importance: float, size: float) -> int:
    """2 to 8: early layers keep more outliers than late ones, important tensors more than others."""
    f = np.float32
    if layers <= 0:
        return 8
    depth = f(0.5) if layers == 1 else f(layer) / f(layers - 1)
    third = 0 if depth <= f(0.3) else 1 if depth <= f(0.7) else 2
    size_f32, own = f(size), f(importance)
    factor = f(1)
    if size_f32 >= 7:
        factor = f((1, 0.9, 1)[third])
    elif size_f32 >= 3:
        factor = f((1, 0.95, 1)[third])
    elif size_f32 >= f(1.5):
        factor = f((1, 1, 1.25)[third])
    elif size_f32 <= 1:
        factor = f((1.4, 1.3, 1.5)[third])
    count = f((8, 5, 2)[third]) * factor
    if own > f(0.7):
        count = count * (f(1) + (own - f(0.7)))
    elif own < f(0.3):
        count = count * (f(0.7) + own / f(0.3) * f(0.3))
    return int(min(max(np.floor(count + f(0.5)), 2), 8))
