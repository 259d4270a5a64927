"""More checkpoints still: newer architectures, and experts and latent attention from FP8."""

from __future__ import annotations

import json

from tests import checkpoint_codes as codes
from tests.checkpoints import (
    ATTENTION,
    ENDS,
    EXPERTS,
    HEAD,
    HEADS,
    INNER,
    LLAMA,
    LLAMA3,
    MLP,
    NARROW,
    NORMS,
    QK_NORMS,
    TIED,
    VOCABULARY,
    WIDTH,
    Checkpoint,
    Shapes,
    config,
    experts,
    in_layers,
    named,
    norm_and_bias,
)

TOKENIZER = {"tokenizer.json": json.dumps({"model": {"vocab": {f"t{i}": i for i in range(37)}}, "added_tokens": []})}
GEMMA_NORMS: Shapes = {
    "pre_feedforward_layernorm.weight": (WIDTH,), "post_feedforward_layernorm.weight": (WIDTH,),
}  # fmt: skip
FULL_AND_SLIDING = ["sliding_attention", "full_attention"]
FP8 = {"quant_method": "fp8", "weight_block_size": [32, 48]}
MIXTURE = {
    "num_experts": EXPERTS, "num_local_experts": EXPERTS, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2,
    "moe_intermediate_size": INNER,
}  # fmt: skip

CHECKPOINTS: dict[str, Checkpoint] = {
    "gemma3n": Checkpoint(
        config("Gemma3nForCausalLM", "gemma3n_text", head_dim=HEAD, vocab_size=48, altup_num_inputs=4,
               altup_active_idx=0, hidden_size_per_layer_input=8, num_kv_shared_layers=1, sliding_window=64,
               activation_sparsity_pattern=[0.95, 0.0], layer_types=FULL_AND_SLIDING, vocab_size_per_layer_input=40,
               intermediate_size=INNER),
        {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,),
         "model.embed_tokens_per_layer.weight": (VOCABULARY, 16), "model.per_layer_projection_norm.weight": (8,),
         "model.per_layer_model_projection.weight": (16, WIDTH)}
        | {f"model.{kind}.{i}.weight": (WIDTH, WIDTH) for i in range(3)
           for kind in ("altup_projections", "altup_unembed_projections")}
        | in_layers({**LLAMA, **GEMMA_NORMS, **QK_NORMS, "altup.correct_output_scale": (WIDTH,),
                     "altup.correction_coefs.weight": (4, 4), "altup.prediction_coefs.weight": (16, 4),
                     "altup.modality_router.weight": (4, WIDTH), "altup.router_norm.weight": (WIDTH,),
                     "laurel.linear_left.weight": (8, WIDTH), "laurel.linear_right.weight": (WIDTH, 8)}),
        "BF16", TOKENIZER,
    ),
    "gemma4": Checkpoint(
        config("Gemma4ForCausalLM", "gemma4_text", head_dim=HEAD, global_head_dim=HEAD, sliding_window=64,
               num_kv_shared_layers=0, layer_types=FULL_AND_SLIDING, hidden_size_per_layer_input=0, top_k_experts=2,
               rope_parameters={"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25,
                                                   "rope_theta": 1e6},
                                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}, **MIXTURE),
        TIED | in_layers({**LLAMA, **GEMMA_NORMS, **QK_NORMS, "layer_scalar": (1,), "router.scale": (WIDTH,),
                          "router.proj.weight": (EXPERTS, WIDTH), "router.per_expert_scale": (EXPERTS,),
                          "experts.gate_up_proj": (EXPERTS, 2 * INNER, WIDTH),
                          "experts.down_proj": (EXPERTS, WIDTH, INNER)}),
        "BF16", TOKENIZER,
    ),
    "qwen3moe fp8": Checkpoint(
        config("Qwen3MoeForCausalLM", "qwen3_moe", head_dim=HEAD, quantization_config=FP8, **MIXTURE),
        ENDS | in_layers({**NORMS, **QK_NORMS, "mlp.gate.weight": (EXPERTS, WIDTH)}),
        raw=codes.in_every_layer(codes.fp8, ATTENTION | experts("mlp.experts")),
    ),
    "deepseek3 fp8": Checkpoint(
        config("DeepseekV3ForCausalLM", "deepseek_v3", num_key_value_heads=HEADS, q_lora_rank=32, kv_lora_rank=32,
               qk_nope_head_dim=32, qk_rope_head_dim=8, v_head_dim=16, first_k_dense_replace=2, n_shared_experts=1,
               routed_scaling_factor=1.0, norm_topk_prob=True, scoring_func="sigmoid", quantization_config=FP8,
               **MIXTURE),
        ENDS | in_layers({**NORMS, "self_attn.q_a_layernorm.weight": (32,), "self_attn.kv_a_layernorm.weight": (32,),
                          "mlp.gate.e_score_correction_bias": (EXPERTS,)}),
        raw=codes.in_every_layer(codes.fp8, {
            **MLP, "self_attn.q_a_proj.weight": (32, WIDTH), "self_attn.q_b_proj.weight": (HEADS * 40, 32),
            "self_attn.kv_a_proj_with_mqa.weight": (40, WIDTH), "self_attn.kv_b_proj.weight": (HEADS * 48, 32),
            "self_attn.o_proj.weight": (WIDTH, HEADS * 16),
        }),
    ),
    "glm4moe": Checkpoint(
        config("Glm4MoeForCausalLM", "glm4_moe", head_dim=HEAD, partial_rotary_factor=0.5, n_shared_experts=1,
               first_k_dense_replace=1, routed_scaling_factor=1.0, norm_topk_prob=True, num_nextn_predict_layers=1,
               **MIXTURE),
        ENDS | in_layers({**NORMS, **ATTENTION, "mlp.gate.weight": (EXPERTS, WIDTH), **experts("mlp.experts"),
                          "mlp.gate.e_score_correction_bias": (EXPERTS,)})
        | named("model.layers.2.", {**NORMS, **ATTENTION, "eh_proj.weight": (WIDTH, 2 * WIDTH),
                                    "enorm.weight": (WIDTH,),
                                    "hnorm.weight": (WIDTH,), "shared_head.norm.weight": (WIDTH,)}),
    ),
    "ernie moe": Checkpoint(
        config("Ernie4_5_MoeForCausalLM", "ernie4_5_moe", head_dim=HEAD, moe_num_experts=EXPERTS, moe_k=2,
               moe_layer_interval=1, moe_layer_start_index=0, moe_intermediate_size=INNER, moe_num_shared_experts=0),
        ENDS | in_layers({**NORMS, **ATTENTION, "mlp.gate.weight": (EXPERTS, WIDTH), **experts("mlp.experts"),
                          "mlp.moe_statics.e_score_correction_bias": (1, EXPERTS)})
        | {"model.mtp_block.0.mlp.up_proj.weight": (INNER, WIDTH)},
    ),
    "cohere2": Checkpoint(
        config("Cohere2ForCausalLM", "cohere2", layer_norm_eps=1e-5, sliding_window=64, logit_scale=0.25,
               rotary_pct=1.0),
        TIED | in_layers({"input_layernorm.weight": (WIDTH,), **ATTENTION, **MLP}),
    ),
    "apertus": Checkpoint(
        config("ApertusForCausalLM", "apertus", head_dim=HEAD, rope_scaling=LLAMA3, rope_theta=1e6),
        ENDS | in_layers({**ATTENTION, **QK_NORMS, "attention_layernorm.weight": (WIDTH,),
                          "feedforward_layernorm.weight": (WIDTH,), "mlp.up_proj.weight": (INNER, WIDTH),
                          "mlp.down_proj.weight": (WIDTH, INNER), "mlp.act_fn.alpha_n": (1,),
                          "mlp.act_fn.alpha_p": (1,),
                          "mlp.act_fn.beta": (1,), "mlp.act_fn.eps": (1,)}),
    ),
    "hunyuan": Checkpoint(
        config("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense", head_dim=HEAD, tie_word_embeddings=True),
        ENDS | in_layers({**LLAMA, "self_attn.query_layernorm.weight": (HEAD,),
                          "self_attn.key_layernorm.weight": (HEAD,)}),
    ),
    "phimoe": Checkpoint(
        config("PhiMoEForCausalLM", "phimoe", original_max_position_embeddings=64, rope_theta=1e4,
               num_local_experts=EXPERTS, num_experts_per_tok=2),
        ENDS | in_layers({**norm_and_bias("input_layernorm", "post_attention_layernorm"), **ATTENTION,
                          "block_sparse_moe.gate.weight": (EXPERTS, WIDTH),
                          **experts("block_sparse_moe.experts", "w1", "w3", "w2")}),
    ),
    "starcoder2": Checkpoint(
        config("Starcoder2ForCausalLM", "starcoder2", norm_epsilon=1e-5),
        TIED | {"model.norm.bias": (WIDTH,)} | in_layers({
            **norm_and_bias("input_layernorm", "post_attention_layernorm"), **ATTENTION,
            "mlp.c_fc.weight": (INNER, WIDTH), "mlp.c_proj.weight": (WIDTH, INNER)}),
    ),
    "seed_oss": Checkpoint(
        config("SeedOssForCausalLM", "seed_oss", head_dim=HEAD), ENDS | in_layers(LLAMA),
    ),
    "plamo3": Checkpoint(
        config("Plamo3ForCausalLM", "plamo3", head_dim=HEAD, window_size=64, sliding_window_pattern=2),
        TIED | {"lm_head.weight": (VOCABULARY, WIDTH)} | in_layers({
            "mixer.qkv_proj.weight": (WIDTH + 2 * NARROW, WIDTH), "mixer.o_proj.weight": (WIDTH, WIDTH),
            "mixer.q_norm.weight": (HEAD,), "mixer.k_norm.weight": (HEAD,),
            "mlp.gate_up_proj.weight": (2 * INNER, WIDTH),
            "mlp.down_proj.weight": (WIDTH, INNER), "pre_mixer_norm.weight": (WIDTH,),
            "post_mixer_norm.weight": (WIDTH,), "pre_mlp_norm.weight": (WIDTH,), "post_mlp_norm.weight": (WIDTH,),
        }, "model.layers.layers.{}."), "F16",
    ),
    "nomic": Checkpoint(
        {"architectures": ["NomicBertModel"], "model_type": "nomic_bert", "n_embd": WIDTH, "n_head": HEADS,
         "n_inner": INNER, "n_layer": 2, "n_positions": 2048, "vocab_size": VOCABULARY, "layer_norm_epsilon": 1e-12,
         "num_experts": EXPERTS, "moe_top_k": 2, "moe_every_n_layers": 2, "activation_function": "gelu",
         "causal": False, "use_rms_norm": False, "prenorm": False, "qkv_proj_bias": True, "mlp_fc1_bias": True,
         "mlp_fc2_bias": True, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_base": 10000,
         "rotary_emb_scale_base": None, "type_vocab_size": 1, "max_position_embeddings": 64, "pad_token_id": 1},
        {"embeddings.word_embeddings.weight": (VOCABULARY, WIDTH), **norm_and_bias("emb_ln"),
         "embeddings.token_type_embeddings.weight": (1, WIDTH)}
        | in_layers({"attn.Wqkv.weight": (3 * WIDTH, WIDTH), "attn.out_proj.weight": (WIDTH, WIDTH),
                     **norm_and_bias("norm1", "norm2")}, "encoder.layers.{}.")
        | named("encoder.layers.0.mlp.", {"fc1.weight": (INNER, WIDTH), "fc2.weight": (WIDTH, INNER)})
        | named("encoder.layers.1.mlp.", {"router.layer.weight": (EXPERTS, WIDTH), "experts.bias": (WIDTH,),
                                          "experts.mlp.w1": (EXPERTS * INNER, WIDTH),
                                          "experts.mlp.w2": (EXPERTS * INNER, WIDTH)}),
        "BF16", {"tokenizer.json": json.dumps({"model": {"type": "Unigram"}})},
    ),
    "modernbert": Checkpoint(
        config("ModernBertModel", "modernbert", local_attention=64, global_attn_every_n_layers=2, norm_eps=1e-5,
               global_rope_theta=1e5, local_rope_theta=1e4, layer_norm_eps=1e-5),
        {"embeddings.tok_embeddings.weight": (VOCABULARY, WIDTH), "embeddings.norm.weight": (WIDTH,),
         "final_norm.weight": (WIDTH,)}
        | in_layers({"attn.Wqkv.weight": (3 * WIDTH, WIDTH), "attn.Wo.weight": (WIDTH, WIDTH),
                     "mlp.Wi.weight": (2 * INNER, WIDTH), "mlp.Wo.weight": (WIDTH, INNER), "mlp_norm.weight": (WIDTH,)},
                    "layers.{}."),
    ),
}  # fmt: skip
