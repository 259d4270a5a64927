"""The tensors that are never quantized, by their names and dimensions.

Reference: tensor_allows_quantization of llama.cpp v0.5.0 (llama-quant.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence

# Names that are kept wherever one of these stands in them: norms, routers, what is small, positions and pictures.
_TIME_MIX = ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2", "decay_w1", "decay_w2",
             "lerp_fused")  # fmt: skip
KEPT_PARTS = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight", "attn_rel_b.weight",
    ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
    "a.rvq.codebook", "mm.a.code_embd", *(f"time_mix_{part}.weight" for part in _TIME_MIX),
)  # fmt: skip
# And of one architecture.
_SMALL = ("f_a", "f_b", "g_a", "g_b", "beta")
KEPT_OF_GLM5_NEXT = (
    "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate", "indexer_compressor_ape",
    *(f"ssm_{part}.weight" for part in _SMALL), "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
)  # fmt: skip
KEPT_NAMES = ("position_embd.weight", "token_types.weight")


def dimensions(shape: Sequence[int]) -> int:
    """How many dimensions a shape has, row length first, where those of 1 at its end do not count."""
    return max((i + 1 for i, n in enumerate(shape) if n != 1), default=1)


def is_quantized(name: str, shape: Sequence[int], architecture: str = "") -> bool:
    """Whether llama-quantize gives a tensor another type: a matrix, or several, that no rule keeps as it is.

    A name ends in "weight"; any name of five letters passes as well, since the release looks six back from its end.
    """
    is_weight = name.endswith("weight") or len(name.encode()) == 5
    parts = KEPT_PARTS + (KEPT_OF_GLM5_NEXT if architecture == "glm5-next" else ())
    named = name in KEPT_NAMES or any(part in name for part in parts)
    return dimensions(shape) > 1 and is_weight and not named
