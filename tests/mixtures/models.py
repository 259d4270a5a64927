"""Models to ask the release about: metadata that every architecture takes, and tensors of many kinds, without weights.

llama-quantize looks at names and shapes and at a few numbers; whether the tensors are those of the architecture it
does not ask, so that one model may hold tensors of several.
"""

from __future__ import annotations

import random
from typing import Any

from tests.loading.models import Model

WIDTH = 256
# Keys that some architecture asks for; any other passes over them.
NUMBERS = {
    "context_length": 128, "embedding_length": WIDTH, "feed_forward_length": WIDTH, "vocab_size": 64,
    "attention.group_norm_groups": 4, "attention.sliding_window": 16, "expert_feed_forward_length": WIDTH,
    "expert_shared_feed_forward_length": WIDTH, "ssm.conv_kernel": 4, "ssm.inner_size": WIDTH, "ssm.state_size": 16,
    "ssm.time_step_rank": 16, "ssm.group_count": 1, "attention.q_lora_rank": 64, "attention.kv_lora_rank": 64,
    "leading_dense_block_count": 1, "expert_shared_count": 1, "expert_gating_func": 1, "wkv.head_size": 64,
    "time_mix_extra_dim": 32, "time_decay_extra_dim": 32, "rescale_every_n_layers": 6,
    "attention.decay_lora_rank": 32, "attention.iclr_lora_rank": 32, "attention.value_residual_mix_lora_rank": 32,
    "attention.gate_lora_rank": 32, "attention.key_length_mla": 32, "attention.value_length_mla": 32,
    "attention.indexer.head_count": 4, "attention.indexer.key_length": 32, "attention.indexer.top_k": 8,
    "shortconv.l_cache": 3, "interleave_moe_layer_step": 1, "hrm.layers_per_stack": 1,
    "attention.relative_buckets_count": 32, "features_length": WIDTH, "posnet.embedding_length": WIDTH,
    "posnet.block_count": 1, "convnext.embedding_length": WIDTH, "convnext.block_count": 1, "num_loops": 1,
    "kda.head_dim": 32, "attention.kv_lora_rank_swa": 32, "attention.key_length_swa": 32,
    "attention.value_length_swa": 32,
    "attention.key_length_mla_swa": 32, "attention.value_length_mla_swa": 32, "attention.q_lora_rank_swa": 32,
    "experts_per_group": 1, "hrm.h_cycles": 1, "hrm.l_cycles": 1, "hyper_connection.count": 2,
    "attention.output_group_count": 1, "attention.output_lora_rank": 32, "hash_layer_count": 0,
    "target_hidden_size": WIDTH,
    "hyper_connection.low_rank": 2, "adapters.count": 1, "adapters.lora_rank": 1,
    "attention.indexer.block_size": 32, "attn_res.block_size": 1, "rope.dimension_count_swa": 32,
    "hyper_connection.sinkhorn_iterations": 1, "attention.indexer.local_blocks": 1,
    "embedding_length_per_layer_input": 64, "attention.shared_kv_layers": 0,
}  # fmt: skip
FLOATS = {
    "attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": 1e-5, "logit_scale": 1.0,
    "attention.group_norm_epsilon": 1e-5, "expert_weights_scale": 1.0, "attn_logit_softcapping": 30.0,
    "final_logit_softcapping": 30.0, "rope.scaling.attn_factor": 1.0, "attention.clamp_kqv": 1.0,
    "expert_group_scale": 1.0, "residual_scale": 1.0, "embedding_scale": 1.0, "attention.scale": 1.0,
    "kda.gate_lower_bound": -5.0, "rope.freq_base_swa": 10000.0, "hyper_connection.epsilon": 1e-5,
    "attention.compress_rope_freq_base": 10000.0, "hyper_connection.magnitude": 1.0, "activation.situ_beta": 1.0,
    "activation.situ_linear_beta": 1.0,
}  # fmt: skip
FLAGS = ("attention.causal", "expert_weights_norm", "use_parallel_residual")
# In each layer: names, and how many matrices a tensor holds where there are several.
DENSE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
LAYERS = {
    "dense": DENSE,
    "fused": ("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
    "experts": (*DENSE[:4], "ffn_gate_inp", "ffn_gate_exps*", "ffn_up_exps*", "ffn_down_exps*", "ffn_gate_shexp",
                "ffn_up_shexp", "ffn_down_shexp", "ffn_gate_inp_shexp"),
    "one by one": (*DENSE[:4], "ffn_gate_inp", "ffn_down.0", "ffn_down.1", "ffn_up.0", "ffn_gate.1"),
    "latent": ("attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_k_b*", "attn_v_b*", "attn_output",
               "ffn_gate_up_exps*", "ffn_down_exps*", "indexer.k_proj", "indexer.q_proj", "ffn_gate_tid2eid"),
    "recurrent": ("ssm_in", "ssm_conv1d", "ssm_x", "ssm_dt", "ssm_out", "attn_qkv", "ffn_down", "shortconv.conv",
                  "shortconv.in_proj"),
    "time mix": ("time_mix_first", "time_mix_w1", "time_mix_decay_w2", "time_mix_lerp_fused", "time_mix_key",
                 "channel_mix_key", "ffn_down"),
    "per layer": (*DENSE, "inp_gate", "proj", "laurel_l", "altup_correct_coef", "attn_rel_b"),
}  # fmt: skip
OUTSIDE = ("position_embd", "token_types", "per_layer_token_embd", "per_layer_model_proj", "output_norm", "cls",
           "enc.blk.0.attn_q", "dec.blk.1.ffn_down", "enc.blk.0.attn_rel_b", "v.blk.0.attn_v", "v.patch_embd",
           "a.position_embd", "rope_freqs", "altup_proj", "mm.0", "nextn.eh_proj")  # fmt: skip
ROWS = (256, 256, 256, 256, 512, 64, 128, 96, 32, 40, 1)


def metadata(
    architecture: str, layers: int = 2, heads: Any = 8, key_heads: Any = 2, experts: int = 0
) -> dict[str, tuple[str, Any]]:
    """``heads`` and ``key_heads`` may be lists of one number a layer; None leaves the key out."""
    keys: dict[str, tuple[str, Any]] = {f"{name}": ("u32", n) for name, n in NUMBERS.items()}
    keys |= {name: ("f32", x) for name, x in FLOATS.items()} | {name: ("bool", True) for name in FLAGS}
    keys |= {f"swiglu_clamp_{name}": ("[f32]", [1.0] * layers) for name in ("exp", "shexp")}
    keys |= {f"{name}_layers": ("[i32]", [0, 0, 0]) for name in ("target", "extract")}
    keys |= {f"adapters.token_ids_{name}": ("[i32]", [1]) for name in ("activate", "substitute")}
    keys |= {"attention.compress_ratios": ("[u32]", [0] * layers), "attention.indexer.types": ("[u32]", [1] * layers)}
    keys |= {"rope.dimension_sections": ("[i32]", [8, 8, 8, 8]), "block_count": ("u32", layers)}
    keys |= {"attention.sliding_window_pattern": ("[bool]", [True] * layers)}
    for name, n in (("attention.head_count", heads), ("attention.head_count_kv", key_heads)):
        if n is not None:
            keys[name] = ("[u32]", n) if isinstance(n, list) else ("u32", n)
    if architecture in ("deepseek4", "dflash"):
        keys["expert_gating_func"] = ("u32", 4)
    head = WIDTH // heads if isinstance(heads, int) and heads else 32
    keys |= {name: ("u32", head) for name in ("rope.dimension_count", "attention.key_length", "attention.value_length")}
    if experts:
        keys |= {"expert_count": ("u32", experts), "expert_used_count": ("u32", 1)}
    general = {"general.architecture": ("string", architecture), "general.file_type": ("u32", 0)}
    general |= {f"xielu.{name}": ("[f32]", [1.0] * layers) for name in ("alpha_n", "alpha_p", "beta", "eps")}
    return general | {f"{architecture}.{name}": value for name, value in keys.items()}


def drawn(draw: random.Random, architecture: str) -> Model:
    """A model of this architecture: layers, heads, experts, rows, tensors and their floats are drawn."""
    layers = draw.choice((1, 2, 3, 7, 8, 16, 24, 33, 68, 80))
    experts = draw.choice((0, 0, 0, 1, 2, 4, 8, 8, 64))
    heads = draw.choice((1, 2, 4, 8, 16))
    key_heads = draw.choice([n for n in (1, 2, 4, 8, 16) if n <= heads] + [None])
    model = Model(metadata(architecture, layers, heads, key_heads, experts))
    kinds = draw.sample(sorted(LAYERS), draw.choice((1, 1, 1, 2)))
    shapes: dict[str, tuple[int, ...]] = {}
    rows = {name: draw.choice(ROWS) if draw.random() < 0.3 else WIDTH for kind in LAYERS.values() for name in kind}
    for layer in range(layers):
        for name in dict.fromkeys(name for kind in kinds for name in LAYERS[kind]):
            # Hybrid models have a kind of tensor in some of their layers.
            if layers < 4 or draw.random() > 0.1:
                stacked = (2,) if name.endswith("*") else ()
                shapes[f"blk.{layer}.{name.rstrip('*')}.weight"] = (rows[name], 2, *stacked)
        shapes[f"blk.{layer}.attn_norm.weight"] = (WIDTH,)
        shapes[f"blk.{layer}.attn_q.bias"] = (WIDTH, 2)
    shapes["token_embd.weight"] = (draw.choice(ROWS), 2)
    if draw.random() < 0.5:
        shapes["output.weight"] = (draw.choice(ROWS), 2)
    shapes |= {f"{name}.weight": (draw.choice(ROWS), draw.choice((1, 2, 2))) for name in draw.sample(OUTSIDE, 4)}
    shapes |= {name: (draw.choice(ROWS), 2) for name in draw.sample(("cubes", "spheres", "four", "myweight"), 1)}
    names = draw.sample(sorted(shapes), len(shapes))
    model.tensors = {name: (shapes[name], draw.choice(("F32", "F16", "BF16"))) for name in names}
    return model
