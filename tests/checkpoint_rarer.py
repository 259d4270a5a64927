"""More checkpoints: what the converter does to the tensors of a single architecture, or of few."""

from __future__ import annotations

from tests.checkpoints import (
    ATTENTION,
    BIASES,
    ENDS,
    EXPERTS,
    HEAD,
    HEADS,
    INNER,
    KEYS,
    LLAMA,
    LLAMA3,
    LONG,
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

STATE: Shapes = {
    "A_log": (2 * WIDTH, 8), "D": (2 * WIDTH,), "conv1d.weight": (2 * WIDTH, 1, 4), "conv1d.bias": (2 * WIDTH,),
    "in_proj.weight": (4 * WIDTH, WIDTH), "x_proj.weight": (20, 2 * WIDTH), "dt_proj.weight": (2 * WIDTH, 4),
    "dt_proj.bias": (2 * WIDTH,), "out_proj.weight": (WIDTH, 2 * WIDTH),
}  # fmt: skip
MAMBA2: Shapes = {
    "A_log": (4,), "D": (4,), "dt_bias": (4,), "conv1d.weight": (144, 1, 4), "conv1d.bias": (144,),
    "in_proj.weight": (276, WIDTH), "norm.weight": (2 * WIDTH,), "out_proj.weight": (WIDTH, 2 * WIDTH),
}  # fmt: skip
BERT: Shapes = {
    "attention.self.query.weight": (WIDTH, WIDTH), "attention.self.key.weight": (WIDTH, WIDTH),
    "attention.self.value.weight": (WIDTH, WIDTH), "attention.output.dense.weight": (WIDTH, WIDTH),
    **norm_and_bias("attention.output.LayerNorm"), "intermediate.dense.weight": (INNER, WIDTH),
    "output.dense.weight": (WIDTH, INNER), **norm_and_bias("output.LayerNorm"),
}  # fmt: skip
T5_LAYER: Shapes = {
    "layer.0.SelfAttention.q.weight": (WIDTH, WIDTH), "layer.0.SelfAttention.k.weight": (WIDTH, WIDTH),
    "layer.0.SelfAttention.v.weight": (WIDTH, WIDTH), "layer.0.SelfAttention.o.weight": (WIDTH, WIDTH),
    "layer.0.layer_norm.weight": (WIDTH,),
}  # fmt: skip

CHECKPOINTS: dict[str, Checkpoint] = {
    "xverse": Checkpoint(config("XverseForCausalLM", "xverse"), ENDS | in_layers(LLAMA)),
    "arctic": Checkpoint(
        config("ArcticForCausalLM", "arctic", num_local_experts=EXPERTS, num_experts_per_tok=2),
        ENDS | in_layers({
            **LLAMA, "block_sparse_moe.gate.weight": (EXPERTS, WIDTH), "residual_layernorm.weight": (WIDTH,),
            **experts("block_sparse_moe.experts", "w1", "w3", "w2"),
        }),
    ),
    "smollm3": Checkpoint(config("SmolLM3ForCausalLM", "smollm3", no_rope_layers=[1, 0]), TIED | in_layers(LLAMA)),
    "exaone4": Checkpoint(
        config("Exaone4ForCausalLM", "exaone4", head_dim=HEAD, sliding_window=64, rope_scaling=LLAMA3, rope_theta=1e6,
               layer_types=["sliding_attention", "full_attention"]),
        ENDS | in_layers({**ATTENTION, **MLP, **QK_NORMS, "post_attention_layernorm.weight": (WIDTH,),
                          "post_feedforward_layernorm.weight": (WIDTH,)}),
    ),
    "stablelm": Checkpoint(
        config("StableLmForCausalLM", "stablelm", partial_rotary_factor=0.25, layer_norm_eps=1e-5),
        {**ENDS, "model.norm.bias": (WIDTH,)} | in_layers({
            **norm_and_bias("input_layernorm"), **ATTENTION, **MLP,
        }),
    ),
    "ernie": Checkpoint(
        config("Ernie4_5ForCausalLM", "ernie4_5", head_dim=HEAD),
        ENDS | in_layers({**NORMS, "self_attn.qkv_proj.weight": (WIDTH + 2 * NARROW, WIDTH),
                          "self_attn.o_proj.weight": (WIDTH, WIDTH), "mlp.up_gate_proj.weight": (2 * INNER, WIDTH),
                          "mlp.down_proj.weight": (WIDTH, INNER)}),
    ),
    "bailingmoe": Checkpoint(
        config("BailingMoeForCausalLM", "bailing_moe", head_dim=HEAD, num_experts=EXPERTS, num_experts_per_tok=2,
               moe_intermediate_size=INNER, num_shared_experts=1, first_k_dense_replace=0, norm_topk_prob=True,
               norm_head=False),
        {"model.word_embeddings.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,),
         "lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({**NORMS, "attention.query_key_value.weight": (WIDTH + 2 * NARROW, WIDTH),
                     "attention.dense.weight": (WIDTH, WIDTH), "mlp.gate.weight": (EXPERTS, WIDTH),
                     **experts("mlp.experts")}),
    ),
    "refact": Checkpoint(
        {"architectures": ["GPTRefactForCausalLM"], "model_type": "gpt_refact", "n_embd": WIDTH, "n_head": HEADS,
         "n_layer": 2, "n_positions": 64, "layer_norm_epsilon": 1e-5, "vocab_size": VOCABULARY},
        {"transformer.wte.weight": (VOCABULARY, WIDTH), "transformer.ln_f.weight": (WIDTH,),
         "lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({"attn.q.weight": (WIDTH, WIDTH), "attn.kv.weight": (2 * HEAD, WIDTH),
                     "attn.c_proj.weight": (WIDTH, WIDTH), "ln_1.weight": (WIDTH,), "ln_2.weight": (WIDTH,),
                     "mlp.gate_up_proj.weight": (512, WIDTH), "mlp.c_proj.weight": (WIDTH, 256)}, "transformer.h.{}."),
    ),
    "openelm": Checkpoint(
        {"architectures": ["OpenELMForCausalLM"], "model_type": "openelm", "model_dim": WIDTH, "head_dim": HEAD,
         "num_kv_heads": [2, 2], "num_query_heads": [4, 4], "num_transformer_layers": 2, "ffn_multipliers": [1.5, 1.5],
         "ffn_dim_divisor": 32, "vocab_size": VOCABULARY, "max_context_length": 64, "rope_freq_constant": 10000},
        {"transformer.token_embeddings.weight": (VOCABULARY, WIDTH), "transformer.norm.weight": (WIDTH,)}
        | in_layers({"attn.qkv_proj.weight": (8 * HEAD, WIDTH), "attn.out_proj.weight": (WIDTH, WIDTH),
                     "attn.q_norm.weight": (HEAD,), "attn.k_norm.weight": (HEAD,), "attn_norm.weight": (WIDTH,),
                     "ffn_norm.weight": (WIDTH,), "ffn.proj_1.weight": (2 * INNER, WIDTH),
                     "ffn.proj_2.weight": (WIDTH, INNER)}, "transformer.layers.{}."),
    ),
    "dbrx": Checkpoint(
        {"architectures": ["DbrxForCausalLM"], "model_type": "dbrx", "d_model": WIDTH, "n_heads": HEADS, "n_layers": 2,
         "max_seq_len": 64, "vocab_size": VOCABULARY,
         "attn_config": {"kv_n_heads": KEYS, "clip_qkv": 8, "rope_theta": 10000},
         "ffn_config": {"ffn_hidden_size": INNER, "moe_num_experts": EXPERTS, "moe_top_k": 2}},
        {"transformer.wte.weight": (VOCABULARY, WIDTH), "transformer.norm_f.weight": (WIDTH,),
         "lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({"norm_attn_norm.attn.Wqkv.weight": (WIDTH + 2 * NARROW, WIDTH),
                     "norm_attn_norm.attn.out_proj.weight": (WIDTH, WIDTH), "norm_attn_norm.norm_1.weight": (WIDTH,),
                     "norm_attn_norm.norm_2.weight": (WIDTH,), "ffn.router.layer.weight": (EXPERTS, WIDTH),
                     "ffn.experts.mlp.w1": (EXPERTS * INNER, WIDTH), "ffn.experts.mlp.v1": (EXPERTS * INNER, WIDTH),
                     "ffn.experts.mlp.w2": (EXPERTS * INNER, WIDTH)}, "transformer.blocks.{}."),
    ),
    "chatglm": Checkpoint(
        {"architectures": ["ChatGLMModel"], "model_type": "chatglm", "hidden_size": WIDTH, "num_attention_heads": HEADS,
         "multi_query_group_num": KEYS, "num_layers": 2, "ffn_hidden_size": INNER, "padded_vocab_size": VOCABULARY},
        named("transformer.", {"embedding.word_embeddings.weight": (VOCABULARY, WIDTH),
                               "rotary_pos_emb.inv_freq": (8,), "encoder.final_layernorm.weight": (WIDTH,),
                               "output_layer.weight": (VOCABULARY, WIDTH)}
              | in_layers({**NORMS, "self_attention.query_key_value.weight": (WIDTH + 2 * NARROW, WIDTH),
                           "self_attention.query_key_value.bias": (WIDTH + 2 * NARROW,),
                           "self_attention.dense.weight": (WIDTH, WIDTH), 
                           "mlp.dense_h_to_4h.weight": (2 * INNER, WIDTH),
                           "mlp.dense_4h_to_h.weight": (WIDTH, INNER)}, "encoder.layers.{}.")),
    ),
    "glm4": Checkpoint(
        config("Glm4ForCausalLM", "glm4", head_dim=HEAD, partial_rotary_factor=0.5),
        ENDS | in_layers({**NORMS, **ATTENTION, **BIASES, "post_self_attn_layernorm.weight": (WIDTH,),
                          "post_mlp_layernorm.weight": (WIDTH,), "mlp.gate_up_proj.weight": (2 * INNER, WIDTH),
                          "mlp.down_proj.weight": (WIDTH, INNER)}),
    ),
    "minicpm3": Checkpoint(
        config("MiniCPM3ForCausalLM", "minicpm3", num_key_value_heads=HEADS, q_lora_rank=32, kv_lora_rank=32,
               qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=16, rope_scaling=LONG),
        TIED | in_layers({**NORMS, **MLP, "self_attn.q_a_proj.weight": (32, WIDTH),
                          "self_attn.q_a_layernorm.weight": (32,), "self_attn.q_b_proj.weight": (HEADS * 32, 32),
                          "self_attn.kv_a_proj_with_mqa.weight": (48, WIDTH), "self_attn.kv_a_layernorm.weight": (32,),
                          "self_attn.kv_b_proj.weight": (HEADS * 32, 32), "self_attn.o_proj.weight": (WIDTH, WIDTH)}),
    ),
    "lfm2": Checkpoint(
        config("Lfm2ForCausalLM", "lfm2", norm_eps=1e-5, conv_L_cache=3, block_auto_adjust_ff_dim=False,
               block_ffn_dim_multiplier=1.0, block_multiple_of=32, block_ff_dim=INNER,
               layer_types=["conv", "full_attention"]),
        {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.embedding_norm.weight": (WIDTH,)}
        | in_layers({"operator_norm.weight": (WIDTH,), "ffn_norm.weight": (WIDTH,),
                     "feed_forward.w1.weight": (INNER, WIDTH), "feed_forward.w2.weight": (WIDTH, INNER),
                     "feed_forward.w3.weight": (INNER, WIDTH)})
        | named("model.layers.0.", {"conv.conv.weight": (WIDTH, 1, 3), "conv.in_proj.weight": (3 * WIDTH, WIDTH),
                                    "conv.out_proj.weight": (WIDTH, WIDTH)})
        | named("model.layers.1.self_attn.", {
            "q_proj.weight": (WIDTH, WIDTH), "k_proj.weight": (NARROW, WIDTH), "v_proj.weight": (NARROW, WIDTH),
            "out_proj.weight": (WIDTH, WIDTH), "q_layernorm.weight": (HEAD,), "k_layernorm.weight": (HEAD,)}),
    ),
    "jamba": Checkpoint(
        config("JambaForCausalLM", "jamba", attn_layer_offset=1, attn_layer_period=2, expert_layer_offset=1,
               expert_layer_period=2, mamba_d_conv=4, mamba_d_state=8, mamba_expand=2, mamba_dt_rank=4,
               num_experts=EXPERTS, num_experts_per_tok=2),
        {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.final_layernorm.weight": (WIDTH,),
         "lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({"input_layernorm.weight": (WIDTH,), "pre_ff_layernorm.weight": (WIDTH,)})
        | named("model.layers.0.", {**named("mamba.", STATE), "mamba.dt_layernorm.weight": (4,),
                                    "mamba.b_layernorm.weight": (8,), "mamba.c_layernorm.weight": (8,),
                                    **named("feed_forward.", {"gate_proj.weight": (INNER, WIDTH),
                                                              "up_proj.weight": (INNER, WIDTH),
                                                              "down_proj.weight": (WIDTH, INNER)})})
        | named("model.layers.1.", {**ATTENTION, "feed_forward.router.weight": (EXPERTS, WIDTH),
                                    **experts("feed_forward.experts")}),
    ),
    "mamba2": Checkpoint(
        {"architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "hidden_size": WIDTH, "num_hidden_layers": 2,
         "vocab_size": VOCABULARY, "state_size": 8, "conv_kernel": 4, "expand": 2, "head_dim": 32, "n_groups": 2},
        named("backbone.", {"embeddings.weight": (VOCABULARY, WIDTH), "norm_f.weight": (WIDTH,)}
              | in_layers({"norm.weight": (WIDTH,), "mixer.A_log": (4,), "mixer.D": (4,), "mixer.dt_bias": (4,),
                           "mixer.conv1d.weight": (160, 1, 4), "mixer.conv1d.bias": (160,),
                           "mixer.in_proj.weight": (292, WIDTH), "mixer.norm.weight": (2 * WIDTH,),
                           "mixer.out_proj.weight": (WIDTH, 2 * WIDTH)}, "layers.{}.")), "F32",
    ),
    "roberta": Checkpoint(
        config("RobertaModel", "roberta", hidden_act="gelu", layer_norm_eps=1e-12, type_vocab_size=1, pad_token_id=1),
        named("roberta.", {"embeddings.word_embeddings.weight": (VOCABULARY, WIDTH),
                           "embeddings.position_embeddings.weight": (34, WIDTH),
                           "embeddings.token_type_embeddings.weight": (1, WIDTH),
                           **norm_and_bias("embeddings.LayerNorm")}
              | in_layers(BERT, "encoder.layer.{}.")),
    ),
    "t5": Checkpoint(
        {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": WIDTH, "d_ff": INNER,
         "d_kv": HEAD, "num_heads": HEADS, "num_layers": 1, "num_decoder_layers": 1, "vocab_size": VOCABULARY,
         "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": 8, "decoder_start_token_id": 0,
         "n_positions": 64, "is_encoder_decoder": True},
        {"shared.weight": (VOCABULARY, WIDTH), "encoder.embed_tokens.weight": (VOCABULARY, WIDTH),
         "encoder.final_layer_norm.weight": (WIDTH,), "decoder.final_layer_norm.weight": (WIDTH,)}
        | named("encoder.block.0.", {**T5_LAYER, "layer.1.DenseReluDense.wi.weight": (INNER, WIDTH),
                                     "layer.1.DenseReluDense.wo.weight": (WIDTH, INNER),
                                     "layer.1.layer_norm.weight": (WIDTH,)})
        | named("decoder.block.0.", T5_LAYER),
    ),
    "qwen35": Checkpoint(
        config("Qwen3_5ForCausalLM", "qwen3_5_text", head_dim=HEAD, linear_num_key_heads=2, linear_num_value_heads=4,
               linear_key_head_dim=8, linear_value_head_dim=16, linear_conv_kernel_dim=4, full_attention_interval=2,
               partial_rotary_factor=0.5, mtp_num_hidden_layers=1, rope_parameters={"rope_theta": 1e6,
               "rope_type": "default", "partial_rotary_factor": 0.5}),
        ENDS | named("model.layers.0.", {
            **NORMS, **MLP, "linear_attn.A_log": (4,), "linear_attn.dt_bias": (4,), "linear_attn.norm.weight": (16,),
            "linear_attn.conv1d.weight": (96, 1, 4), "linear_attn.in_proj_a.weight": (4, WIDTH),
            "linear_attn.in_proj_b.weight": (4, WIDTH), "linear_attn.in_proj_qkv.weight": (96, WIDTH),
            "linear_attn.in_proj_z.weight": (64, WIDTH), "linear_attn.out_proj.weight": (WIDTH, 64),
        }) | named("model.layers.1.", LLAMA | QK_NORMS | {"self_attn.q_proj.weight": (2 * WIDTH, WIDTH)}),
    ),
    "granite hybrid": Checkpoint(
        config("GraniteMoeHybridForCausalLM", "granitemoehybrid", mamba_n_groups=1, mamba_n_heads=4, mamba_d_head=32,
               mamba_expand=2, mamba_d_state=8, mamba_d_conv=4, layer_types=["mamba", "attention"],
               num_local_experts=EXPERTS, num_experts_per_tok=2, shared_intermediate_size=INNER),
        TIED | in_layers({**NORMS, "block_sparse_moe.router.layer.weight": (EXPERTS, WIDTH),
                          "block_sparse_moe.input_linear.weight": (EXPERTS, 2 * INNER, WIDTH),
                          "block_sparse_moe.output_linear.weight": (EXPERTS, WIDTH, INNER),
                          "shared_mlp.input_linear.weight": (2 * INNER, WIDTH),
                          "shared_mlp.output_linear.weight": (WIDTH, INNER)})
        | named("model.layers.0.mamba.", MAMBA2) | named("model.layers.1.", ATTENTION),
    ),
    "nemotron_h": Checkpoint(
        config("NemotronHForCausalLM", "nemotron_h", n_groups=2, mamba_num_heads=4, mamba_head_dim=32, expand=2,
               ssm_state_size=8, conv_kernel=4, hybrid_override_pattern="M*-", num_hidden_layers=3, head_dim=HEAD,
               attention_head_dim=HEAD, layer_norm_epsilon=1e-5),
        {"backbone.embeddings.weight": (VOCABULARY, WIDTH), "backbone.norm_f.weight": (WIDTH,),
         "lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({"norm.weight": (WIDTH,)}, "backbone.layers.{}.", 3)
        | named("backbone.layers.0.mixer.", MAMBA2)
        | {name.replace("self_attn", "backbone.layers.1.mixer"): shape for name, shape in ATTENTION.items()}
        | named("backbone.layers.2.mixer.", {"up_proj.weight": (INNER, WIDTH), "down_proj.weight": (WIDTH, INNER)}),
    ),
    "falcon_h1": Checkpoint(
        config("FalconH1ForCausalLM", "falcon_h1", mamba_n_groups=1, mamba_n_heads=4, mamba_d_head=32, mamba_d_ssm=128,
               mamba_d_state=8, mamba_d_conv=4, mamba_expand=2, head_dim=HEAD, attention_in_multiplier=0.9,
               attention_out_multiplier=0.3, ssm_in_multiplier=1.7, ssm_out_multiplier=0.23, key_multiplier=0.39,
               mlp_multipliers=[0.88, 0.11], ssm_multipliers=[0.35, 0.25, 0.18, 0.5, 0.31], lm_head_multiplier=0.039,
               embedding_multiplier=5.65, rope_theta=1e4),
        {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.final_layernorm.weight": (WIDTH,),
         "lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({"input_layernorm.weight": (WIDTH,), "pre_ff_layernorm.weight": (WIDTH,), **ATTENTION,
                     **named("mamba.", MAMBA2), **{n.replace("mlp", "feed_forward"): s for n, s in MLP.items()}}),
        "F16",
    ),
    "kimi_linear": Checkpoint(
        config("KimiLinearForCausalLM", "kimi_linear", num_key_value_heads=HEADS, kv_lora_rank=32, q_lora_rank=None,
               qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, head_dim=24, num_experts=EXPERTS,
               num_experts_per_token=2, moe_intermediate_size=INNER, first_k_dense_replace=1, num_shared_experts=1,
               routed_scaling_factor=1.0, moe_renormalize=True, moe_router_activation_func="sigmoid",
               linear_attn_config={"kda_layers": [1], "full_attn_layers": [2], "num_heads": HEADS, "head_dim": HEAD,
                                   "short_conv_kernel_size": 4}),
        ENDS | in_layers(NORMS) | named("model.layers.0.", MLP) | named("model.layers.0.self_attn.", {
            "A_log": (1, 1, HEADS, 1), "dt_bias": (WIDTH,), "q_conv1d.weight": (WIDTH, 1, 4),
            "k_conv1d.weight": (WIDTH, 1, 4), "v_conv1d.weight": (WIDTH, 1, 4), "q_proj.weight": (WIDTH, WIDTH),
            "k_proj.weight": (WIDTH, WIDTH), "v_proj.weight": (WIDTH, WIDTH), "o_proj.weight": (WIDTH, WIDTH)})
        | named("model.layers.1.", {
            "self_attn.q_proj.weight": (HEADS * 24, WIDTH), "self_attn.kv_a_proj_with_mqa.weight": (40, WIDTH),
            "self_attn.kv_a_layernorm.weight": (32,), "self_attn.kv_b_proj.weight": (HEADS * 32, 32),
            "self_attn.o_proj.weight": (WIDTH, HEADS * 16), "block_sparse_moe.gate.weight": (EXPERTS, WIDTH),
            "block_sparse_moe.gate.e_score_correction_bias": (EXPERTS,),
            **experts("block_sparse_moe.experts", "w1", "w3", "w2")}),
    ),
    "chameleon": Checkpoint(
        config("ChameleonForConditionalGeneration", "chameleon", num_key_value_heads=HEADS, swin_norm=False),
        ENDS | {"model.vqmodel.quantize.embedding.weight": (8, 8)} | in_layers({
            **NORMS, **MLP, **{n: (WIDTH, WIDTH) for n in ATTENTION},
            **{f"self_attn.{k}_norm.{kind}": (HEADS, HEAD) for k in "qk" for kind in ("weight", "bias")},
        }),
    ),
    "glm4v": Checkpoint(
        config("Glm4vForConditionalGeneration", "glm4v") | {
            "text_config": config("", "glm4v_text", rope_scaling={"rope_type": "default", "mrope_section": [2, 1, 1],
                                  "partial_rotary_factor": 0.5}) | {"architectures": None},
            "vision_config": {},
        },
        {name.replace("model.", "model.language_model.", 1): shape for name, shape in TIED.items()}
        | {"lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({"input_layernorm.weight": (WIDTH,), "post_attention_layernorm.weight": (WIDTH,), **ATTENTION,
                     **BIASES, "post_self_attn_layernorm.weight": (WIDTH,), "post_mlp_layernorm.weight": (WIDTH,),
                     "mlp.gate_up_proj.weight": (2 * INNER, WIDTH), "mlp.down_proj.weight": (WIDTH, INNER)},
                    "model.language_model.layers.{}."),
    ),
}  # fmt: skip
