"""The checkpoints: one of each way in which llama.cpp's converter changes the tensors of some architecture."""

from __future__ import annotations

import json

from tests import checkpoint_codes as codes
from tests import checkpoint_newer, checkpoint_rarer
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

GEMMA_NORMS: Shapes = {
    "pre_feedforward_layernorm.weight": (WIDTH,), "post_feedforward_layernorm.weight": (WIDTH,),
}  # fmt: skip
MOE: Shapes = {**NORMS, **ATTENTION, "mlp.gate.weight": (EXPERTS, WIDTH)}
EXPERT_COUNTS = {
    "num_local_experts": EXPERTS, "num_experts": EXPERTS, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2,
    "moe_intermediate_size": INNER,
}  # fmt: skip
LATENT: Shapes = {
    "self_attn.q_a_proj.weight": (32, WIDTH), "self_attn.q_a_layernorm.weight": (32,),
    "self_attn.q_b_proj.weight": (HEADS * 40, 32), "self_attn.kv_a_proj_with_mqa.weight": (32 + 8, WIDTH),
    "self_attn.kv_a_layernorm.weight": (32,), "self_attn.kv_b_proj.weight": (HEADS * (32 + 16), 32),
    "self_attn.o_proj.weight": (WIDTH, HEADS * 16),
}  # fmt: skip
LATENT_CONFIG = {
    "num_key_value_heads": HEADS, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 8, "v_head_dim": 16, "first_k_dense_replace": 1, "n_shared_experts": 1,
    "routed_scaling_factor": 1.0, "norm_topk_prob": False, "head_dim": 8,
}  # fmt: skip
FUSED: Shapes = {"query_key_value.weight": (3 * WIDTH, WIDTH), "query_key_value.bias": (3 * WIDTH,)}
QWEN_EXPERTS: Shapes = {
    "mlp.gate.weight": (EXPERTS, WIDTH), **experts("mlp.experts"), "mlp.shared_expert_gate.weight": (1, WIDTH),
    "mlp.shared_expert.gate_proj.weight": (INNER, WIDTH), "mlp.shared_expert.up_proj.weight": (INNER, WIDTH),
    "mlp.shared_expert.down_proj.weight": (WIDTH, INNER),
}  # fmt: skip
EMBEDDINGS: Shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
SMALL_TOKENIZER = {"tokenizer.json": json.dumps({"model": {"vocab": {"a": 0} | {f"t{i}": i for i in range(1, 38)}},
                                                 "added_tokens": []})}  # fmt: skip


CHECKPOINTS: dict[str, Checkpoint] = {
    "llama": Checkpoint(
        config("LlamaForCausalLM", "llama", rope_scaling=LLAMA3, rope_theta=500000.0, attention_bias=True),
        ENDS | in_layers({**LLAMA, **BIASES, "self_attn.rotary_emb.inv_freq": (HEAD // 2,)}),
    ),
    "llama f16": Checkpoint(config("LlamaForCausalLM", "llama"), TIED | in_layers(LLAMA), "F16"),
    "llama f32": Checkpoint(config("LlamaForCausalLM", "llama"), ENDS | in_layers(LLAMA), "F32"),
    "mistral": Checkpoint(config("MistralForCausalLM", "mistral", head_dim=HEAD), ENDS | in_layers(LLAMA)),
    "mixtral": Checkpoint(
        config("MixtralForCausalLM", "mixtral", **EXPERT_COUNTS),
        ENDS | in_layers({
            **NORMS, **ATTENTION, "block_sparse_moe.gate.weight": (EXPERTS, WIDTH),
            **experts("block_sparse_moe.experts", "w1", "w3", "w2"),
        }),
    ),
    "qwen2": Checkpoint(config("Qwen2ForCausalLM", "qwen2"), ENDS | in_layers(LLAMA | BIASES)),
    "qwen3": Checkpoint(config("Qwen3ForCausalLM", "qwen3", head_dim=HEAD), TIED | in_layers(LLAMA | QK_NORMS)),
    "qwen3moe": Checkpoint(
        config("Qwen3MoeForCausalLM", "qwen3_moe", head_dim=HEAD, **EXPERT_COUNTS),
        ENDS | in_layers(MOE | QK_NORMS | experts("mlp.experts")),
    ),
    "qwen3moe stacked": Checkpoint(
        config("Qwen3MoeForCausalLM", "qwen3_moe", head_dim=HEAD, **EXPERT_COUNTS),
        ENDS | in_layers({
            **MOE, **QK_NORMS, "mlp.experts.gate_up_proj": (EXPERTS, 2 * INNER, WIDTH),
            "mlp.experts.down_proj": (EXPERTS, WIDTH, INNER),
        }),
    ),
    "qwen3vlmoe": Checkpoint(
        config("Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe") | {
            "text_config": config("", "qwen3_vl_moe_text", head_dim=HEAD, **EXPERT_COUNTS,
                                  rope_scaling={"rope_type": "default", "mrope_section": [4, 2, 2]})
            | {"architectures": None},
            "vision_config": {"deepstack_visual_indexes": [0]},
        },
        named("model.language_", in_layers({
            **MOE, **QK_NORMS, "mlp.experts.gate_up_proj": (EXPERTS, WIDTH, 2 * INNER),
            "mlp.experts.down_proj": (EXPERTS, INNER, WIDTH),
        }) | TIED) | {"lm_head.weight": (VOCABULARY, WIDTH), "model.visual.blocks.0.attn.qkv.weight": (96, 32)},
    ),
    "olmoe": Checkpoint(
        config("OlmoeForCausalLM", "olmoe", **EXPERT_COUNTS),
        ENDS | in_layers({**MOE, **experts("mlp.experts"),
                          "self_attn.q_norm.weight": (WIDTH,), "self_attn.k_norm.weight": (NARROW,)}),
    ),
    "phi3": Checkpoint(
        config("Phi3ForCausalLM", "phi3", rope_theta=1e4, rope_scaling=LONG,
               original_max_position_embeddings=64, sliding_window=64,
               pad_token_id=0),
        ENDS | in_layers({
            **NORMS, "self_attn.qkv_proj.weight": (WIDTH + 2 * NARROW, WIDTH),
            "self_attn.o_proj.weight": (WIDTH, WIDTH),
            "mlp.gate_up_proj.weight": (2 * INNER, WIDTH), "mlp.down_proj.weight": (WIDTH, INNER),
        }),
    ),
    "gemma2": Checkpoint(
        config("Gemma2ForCausalLM", "gemma2", head_dim=HEAD, sliding_window=64, attn_logit_softcapping=50.0,
               final_logit_softcapping=30.0, query_pre_attn_scalar=16),
        TIED | in_layers({**LLAMA, **GEMMA_NORMS}),
    ),
    "gemma2 f16": Checkpoint(
        config("Gemma2ForCausalLM", "gemma2", head_dim=HEAD, sliding_window=64, attn_logit_softcapping=50.0,
               final_logit_softcapping=30.0, query_pre_attn_scalar=16),
        TIED | in_layers({**LLAMA, **GEMMA_NORMS}), "F16",
    ),
    "gemma3": Checkpoint(
        config("Gemma3ForCausalLM", "gemma3_text", head_dim=HEAD, sliding_window=64, rope_theta=1e6,
               rope_local_base_freq=1e4, query_pre_attn_scalar=16),
        TIED | in_layers({**LLAMA, **GEMMA_NORMS, **QK_NORMS}), "BF16", SMALL_TOKENIZER,
    ),
    "gemma3 with images": Checkpoint(
        config("Gemma3ForConditionalGeneration", "gemma3") | {
            "text_config": config("", "gemma3_text", head_dim=HEAD, sliding_window=64) | {"architectures": None},
        },
        named("language_model.", TIED | in_layers({**LLAMA, **GEMMA_NORMS, **QK_NORMS}))
        | {"vision_tower.vision_model.post_layernorm.weight": (32,),
           "multi_modal_projector.mm_input_projection_weight": (32, WIDTH)},
        "BF16", SMALL_TOKENIZER,
    ),
    "nemotron": Checkpoint(
        config("NemotronForCausalLM", "nemotron", norm_eps=1e-5, partial_rotary_factor=0.5, head_dim=HEAD),
        {**TIED, "model.norm.bias": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)} | in_layers({
            **norm_and_bias("input_layernorm", "post_attention_layernorm"), **ATTENTION,
            "mlp.up_proj.weight": (INNER, WIDTH), "mlp.down_proj.weight": (WIDTH, INNER),
        }),
    ),
    "olmo": Checkpoint(config("OlmoForCausalLM", "olmo", clip_qkv=None), EMBEDDINGS | in_layers({**ATTENTION, **MLP})),
    "olmo2": Checkpoint(
        config("Olmo2ForCausalLM", "olmo2"),
        ENDS | in_layers({**ATTENTION, **MLP, "self_attn.q_norm.weight": (WIDTH,), "self_attn.k_norm.weight": (NARROW,),
                          "post_attention_layernorm.weight": (WIDTH,), "post_feedforward_layernorm.weight": (WIDTH,)}),
    ),
    "minicpm": Checkpoint(
        config("MiniCPMForCausalLM", "minicpm", scale_emb=12, scale_depth=1.4, dim_model_base=16, rope_scaling=LONG),
        ENDS | in_layers(LLAMA),
    ),
    "deepseek2": Checkpoint(
        config("DeepseekV2ForCausalLM", "deepseek_v2", **EXPERT_COUNTS | LATENT_CONFIG),
        ENDS | in_layers({**NORMS, **LATENT, **MLP}, layers=1)
        | named("model.layers.1.", {**NORMS, **LATENT, "mlp.gate.weight": (EXPERTS, WIDTH),
                                    **experts("mlp.experts"), "mlp.shared_experts.gate_proj.weight": (INNER, WIDTH),
                                    "mlp.shared_experts.up_proj.weight": (INNER, WIDTH),
                                    "mlp.shared_experts.down_proj.weight": (WIDTH, INNER)})
        | named("model.layers.2.", {"enorm.weight": (WIDTH,)}),
    ),
    "falcon": Checkpoint(
        config("FalconForCausalLM", "falcon", num_kv_heads=KEYS, layer_norm_epsilon=1e-5,
               new_decoder_architecture=True),
        {"transformer.word_embeddings.weight": (VOCABULARY, WIDTH), **norm_and_bias("transformer.ln_f"),
         "lm_head.weight": (VOCABULARY, WIDTH)}
        | in_layers({**norm_and_bias("ln_attn", "ln_mlp"),
                     "self_attention.query_key_value.weight": (WIDTH + 2 * NARROW, WIDTH),
                     "self_attention.dense.weight": (WIDTH, WIDTH), "mlp.dense_h_to_4h.weight": (4 * WIDTH, WIDTH),
                     "mlp.dense_4h_to_h.weight": (WIDTH, 4 * WIDTH)}, "transformer.h.{}."),
    ),
    "gptneox": Checkpoint(
        config("GPTNeoXForCausalLM", "gpt_neox", rotary_pct=0.5, layer_norm_eps=1e-5),
        {"gpt_neox.embed_in.weight": (VOCABULARY, WIDTH), **norm_and_bias("gpt_neox.final_layer_norm"),
         "embed_out.weight": (VOCABULARY, WIDTH)}
        | in_layers({**norm_and_bias("input_layernorm", "post_attention_layernorm"), **named("attention.", FUSED),
                     "attention.dense.weight": (WIDTH, WIDTH), "attention.dense.bias": (WIDTH,),
                     "mlp.dense_h_to_4h.weight": (INNER, WIDTH), "mlp.dense_h_to_4h.bias": (INNER,),
                     "mlp.dense_4h_to_h.weight": (WIDTH, INNER), "mlp.dense_4h_to_h.bias": (WIDTH,)},
                    "gpt_neox.layers.{}."),
    ),
    "bloom": Checkpoint(
        {"architectures": ["BloomForCausalLM"], "model_type": "bloom", "n_head": HEADS, "hidden_size": WIDTH,
         "n_layer": 2, "vocab_size": VOCABULARY, "layer_norm_epsilon": 1e-5},
        {"word_embeddings.weight": (VOCABULARY, WIDTH), **norm_and_bias("word_embeddings_layernorm", "ln_f")}
        | in_layers({**norm_and_bias("input_layernorm", "post_attention_layernorm"), **named("self_attention.", FUSED),
                     "self_attention.dense.weight": (WIDTH, WIDTH), "self_attention.dense.bias": (WIDTH,),
                     "mlp.dense_h_to_4h.weight": (4 * WIDTH, WIDTH), "mlp.dense_4h_to_h.weight": (WIDTH, 4 * WIDTH)},
                    "h.{}."),
    ),
    "gpt2": Checkpoint(
        {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_head": HEADS, "n_embd": WIDTH, "n_layer": 2,
         "n_ctx": 32, "n_positions": 32, "vocab_size": VOCABULARY, "layer_norm_epsilon": 1e-5},
        named("transformer.", {"wte.weight": (VOCABULARY, WIDTH), "wpe.weight": (32, WIDTH), **norm_and_bias("ln_f")}
              | in_layers({**norm_and_bias("ln_1", "ln_2"), "attn.c_attn.weight": (WIDTH, 3 * WIDTH),
                           "attn.c_attn.bias": (3 * WIDTH,), "attn.c_proj.weight": (WIDTH, WIDTH),
                           "mlp.c_fc.weight": (WIDTH, 4 * WIDTH), "mlp.c_proj.weight": (4 * WIDTH, WIDTH)}, "h.{}.")),
    ),
    "bert": Checkpoint(
        config("BertModel", "bert", hidden_act="gelu", layer_norm_eps=1e-12, type_vocab_size=2),
        {"embeddings.word_embeddings.weight": (VOCABULARY, WIDTH), "embeddings.position_embeddings.weight": (64, WIDTH),
         "embeddings.token_type_embeddings.weight": (2, WIDTH), "embeddings.LayerNorm.gamma": (WIDTH,),
         "embeddings.LayerNorm.beta": (WIDTH,), "pooler.dense.weight": (WIDTH, WIDTH)}
        | in_layers({"attention.self.query.weight": (WIDTH, WIDTH), "attention.self.query.bias": (WIDTH,),
                     "attention.self.key.weight": (WIDTH, WIDTH), "attention.self.value.weight": (WIDTH, WIDTH),
                     "attention.output.dense.weight": (WIDTH, WIDTH), **norm_and_bias("attention.output.LayerNorm"),
                     "intermediate.dense.weight": (INNER, WIDTH), "output.dense.weight": (WIDTH, INNER),
                     **norm_and_bias("output.LayerNorm")}, "encoder.layer.{}."), "F32",
    ),
    "gpt_oss": Checkpoint(
        config("GptOssForCausalLM", "gpt_oss", head_dim=HEAD, sliding_window=64, **EXPERT_COUNTS),
        ENDS | in_layers({**NORMS, **ATTENTION, **BIASES, "self_attn.o_proj.bias": (WIDTH,),
                          "self_attn.sinks": (HEADS,), "mlp.router.weight": (EXPERTS, WIDTH),
                          "mlp.router.bias": (EXPERTS,), "mlp.experts.gate_up_proj": (EXPERTS, WIDTH, 2 * INNER),
                          "mlp.experts.gate_up_proj_bias": (EXPERTS, 2 * INNER),
                          "mlp.experts.down_proj": (EXPERTS, INNER, WIDTH),
                          "mlp.experts.down_proj_bias": (EXPERTS, WIDTH)}),
    ),
    "gpt_oss mxfp4": Checkpoint(
        config("GptOssForCausalLM", "gpt_oss", head_dim=HEAD, sliding_window=64, **EXPERT_COUNTS,
               quantization_config={"quant_method": "mxfp4"}),
        ENDS | in_layers({**NORMS, **ATTENTION, "self_attn.sinks": (HEADS,),
                          "mlp.experts.gate_up_proj_bias": (EXPERTS, 2 * INNER)}),
        raw=codes.mxfp4("mlp.experts.gate_up_proj", EXPERTS, 2 * INNER, WIDTH)
        | codes.mxfp4("mlp.experts.down_proj", EXPERTS, WIDTH, INNER),
    ),
    "llama4": Checkpoint(
        config("Llama4ForCausalLM", "llama4_text", head_dim=HEAD, interleave_moe_layer_step=1,
               intermediate_size_mlp=INNER, **EXPERT_COUNTS),
        ENDS | in_layers({**NORMS, **ATTENTION, "feed_forward.router.weight": (EXPERTS, WIDTH),
                          "feed_forward.experts.gate_up_proj": (EXPERTS, WIDTH, 2 * INNER),
                          "feed_forward.experts.down_proj": (EXPERTS, INNER, WIDTH),
                          "feed_forward.shared_expert.gate_proj.weight": (INNER, WIDTH),
                          "feed_forward.shared_expert.up_proj.weight": (INNER, WIDTH),
                          "feed_forward.shared_expert.down_proj.weight": (WIDTH, INNER)}),
    ),
    "granitemoe": Checkpoint(
        config("GraniteMoeForCausalLM", "granitemoe", **EXPERT_COUNTS),
        TIED | in_layers({**NORMS, **ATTENTION, "block_sparse_moe.router.layer.weight": (EXPERTS, WIDTH),
                          "block_sparse_moe.input_linear.weight": (EXPERTS, 2 * INNER, WIDTH),
                          "block_sparse_moe.output_linear.weight": (EXPERTS, WIDTH, INNER)}),
    ),
    "internlm2": Checkpoint(
        config("InternLM2ForCausalLM", "internlm2", rope_scaling=None),
        {"model.tok_embeddings.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,),
         "output.weight": (VOCABULARY, WIDTH)}
        | in_layers({"attention.wqkv.weight": (WIDTH + 2 * NARROW, WIDTH), "attention.wo.weight": (WIDTH, WIDTH),
                     "attention_norm.weight": (WIDTH,), "ffn_norm.weight": (WIDTH,),
                     "feed_forward.w1.weight": (INNER, WIDTH), "feed_forward.w3.weight": (INNER, WIDTH),
                     "feed_forward.w2.weight": (WIDTH, INNER)}),
    ),
    "qwen3next": Checkpoint(
        config("Qwen3NextForCausalLM", "qwen3_next", head_dim=HEAD, linear_num_key_heads=2, linear_num_value_heads=4,
               linear_key_head_dim=8, linear_value_head_dim=16, linear_conv_kernel_dim=4, full_attention_interval=2,
               shared_expert_intermediate_size=INNER, partial_rotary_factor=0.5, **EXPERT_COUNTS),
        ENDS | named("model.layers.0.", {
            **NORMS, **QWEN_EXPERTS, "linear_attn.A_log": (4,), "linear_attn.dt_bias": (4,),
            "linear_attn.norm.weight": (16,),
            "linear_attn.conv1d.weight": (96, 1, 4), "linear_attn.in_proj_ba.weight": (8, WIDTH),
            "linear_attn.in_proj_qkvz.weight": (2 * (8 + 8 + 32 + 32), WIDTH),
            "linear_attn.out_proj.weight": (WIDTH, 64),
        }) | named("model.layers.1.", NORMS | ATTENTION | QWEN_EXPERTS | QK_NORMS
                   | {"self_attn.q_proj.weight": (2 * WIDTH, WIDTH)})
        | named("mtp.", {"fc.weight": (WIDTH, 2 * WIDTH), "norm.weight": (WIDTH,),
                         "pre_fc_norm_hidden.weight": (WIDTH,), "pre_fc_norm_embedding.weight": (WIDTH,)})
        | named("mtp.layers.0.", NORMS | ATTENTION | QWEN_EXPERTS | QK_NORMS),
    ),
    "mamba": Checkpoint(
        {"architectures": ["MambaForCausalLM"], "model_type": "mamba", "hidden_size": WIDTH, "num_hidden_layers": 2,
         "vocab_size": VOCABULARY, "state_size": 8, "conv_kernel": 4, "intermediate_size": 2 * WIDTH,
         "time_step_rank": 4, "layer_norm_epsilon": 1e-5},
        named("backbone.", {"embeddings.weight": (VOCABULARY, WIDTH), "norm_f.weight": (WIDTH,)}
              | in_layers({"norm.weight": (WIDTH,), "mixer.A_log": (2 * WIDTH, 8), "mixer.D": (2 * WIDTH,),
                           "mixer.conv1d.weight": (2 * WIDTH, 1, 4), "mixer.conv1d.bias": (2 * WIDTH,),
                           "mixer.in_proj.weight": (4 * WIDTH, WIDTH), "mixer.x_proj.weight": (20, 2 * WIDTH),
                           "mixer.dt_proj.weight": (2 * WIDTH, 4), "mixer.dt_proj.bias": (2 * WIDTH,),
                           "mixer.out_proj.weight": (WIDTH, 2 * WIDTH)}, "layers.{}.")), "F32",
    ),
    "llama fp8": Checkpoint(
        config("LlamaForCausalLM", "llama",
               quantization_config={"quant_method": "fp8", "weight_block_size": [32, 48]}),
        ENDS | in_layers(NORMS), raw=codes.in_every_layer(codes.fp8, ATTENTION | MLP),
    ),
    "llama compressed": Checkpoint(
        config("LlamaForCausalLM", "llama", quantization_config=codes.CHANNELS),
        ENDS | in_layers(NORMS), raw=codes.in_every_layer(codes.channels, ATTENTION | MLP),
    ),
    "llama packed": Checkpoint(
        config("LlamaForCausalLM", "llama", quantization_config=codes.PACKED),
        ENDS | in_layers(NORMS), raw=codes.in_every_layer(codes.packed, ATTENTION | MLP),
    ),
    "llama gptq": Checkpoint(
        config("LlamaForCausalLM", "llama", quantization_config={"quant_method": "gptq", "bits": 4}),
        ENDS | in_layers(NORMS), raw=codes.in_every_layer(codes.gptq, ATTENTION | MLP),
    ),
} | checkpoint_rarer.CHECKPOINTS | checkpoint_newer.CHECKPOINTS  # fmt: skip
