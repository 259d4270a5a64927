"""What convert_hf_to_gguf does to the tensors of each family of architectures: a table of steps.

A step is: which names, what they become, and what is done to their numbers. What all families have in common stands in
names: the tables of gguf-py, the tensors of images and sound, and experts, which are stacked. Which class of
transformers is of which family stands in classes.

A further family needs its steps here, its classes in classes, a small checkpoint in tests/checkpoint_models.py, and a
run of tools/make_converted.py, which tells what the converter makes of that.

Reference: the package `conversion` of llama.cpp v0.5.0.
"""

from __future__ import annotations

from hifi_ref.model_files.hugging_face import fused
from hifi_ref.model_files.hugging_face.common import (
    BERT,
    BIAS_OF_EXPERTS,
    EMBEDDINGS_CUT,
    EXTRA_LAYERS_LEFT_OUT,
    FUSED_EXPERTS_TURNED,
    LATENT,
    MASKS_LEFT_OUT,
    MERGED_INPUTS,
    OUTPUT_LEFT_OUT,
    OUTPUT_LEFT_OUT_IF_TIED,
    QWEN_3_NEXT,
    RAISED,
    ROTARY,
    ROTARY_WEIGHTS,
    STATE_SPACE,
    STATE_SPACE_2,
)
from hifi_ref.model_files.hugging_face.special import (
    after_the_padding,
    four_axes,
    halves_from_pairs,
    has_experts,
    is_packed,
    matrices_of,
    multiplied,
    multiplied_by_part,
    one_for_all_heads,
    one_head,
    queries,
    shuffled_columns,
    shuffled_queries,
    the_rest,
    turns_by_sections,
)
from hifi_ref.model_files.hugging_face.steps import (
    SAME,
    Step,
    alternate,
    doubted,
    halves,
    in_groups,
    interleaved,
    minus_exp,
    padded,
    raised,
    rows_from,
    squeezed,
    turned,
    turned_alternate,
)

FAMILIES: dict[str, tuple[Step, ...]] = {
    # Names alone, and experts stacked.
    "plain": (),
    "tied": OUTPUT_LEFT_OUT_IF_TIED,
    # Rows of q and k permuted.
    "llama": ROTARY,
    "llama weights": ROTARY_WEIGHTS,
    "granite_swa": (*ROTARY, Step(r"(.*sinks)", (r"\1.weight",))),
    "sarashina": (*ROTARY, Step(r"norm\..*", ())),
    "chameleon": (
        *ROTARY,
        Step(r".*q_norm\.(weight|bias)", SAME, one_for_all_heads(keys=False)),
        Step(r".*k_norm\.(weight|bias)", SAME, one_for_all_heads(keys=True)),
    ),
    "glm4": (Step(r".*[qk]_proj\.(weight|bias)", SAME, halves_from_pairs, turns_by_sections),),
    "xverse": (
        Step(r".*q_proj\.weight", SAME, interleaved(queries)),
        Step(r".*k_proj\.weight", SAME, interleaved(fused.shared_heads)),
    ),
    "apertus": (Step(r".*\.act_fn\.(alpha_n|alpha_p|beta|eps)", ()),),
    "plamo": (
        Step(r".*\.q_proj\.weight", SAME, shuffled_queries),
        Step(r".*\.o_proj\.weight", SAME, shuffled_columns),
    ),
    # Fused q, k and v reordered or split.
    "gptneox": (Step(r".*\.query_key_value\.(weight|bias)", SAME, fused.by_head), *MASKS_LEFT_OUT),
    "bloom": (
        Step(r"(?:transformer\.)?(.*)", (r"\1",)),
        Step(r".*\.query_key_value\.(weight|bias)", SAME, fused.by_head),
    ),
    "falcon": (Step(r".*\.query_key_value\.weight", SAME, fused.falcon),),
    "internlm2": (
        Step(
            r"(model\.layers\.\d+)\.attention\.wqkv\.weight",
            (r"\1.self_attn.q_proj.weight", r"\1.self_attn.k_proj.weight", r"\1.self_attn.v_proj.weight"),
            fused.internlm2,
        ),
    ),
    "baichuan": (
        Step(
            r"(.*)\.W_pack\.weight", (r"\1.q_proj.weight", r"\1.k_proj.weight", r"\1.v_proj.weight"), fused.baichuan
        ),
    ),
    "bailingmoe": (
        Step(
            r"model\.layers\.(\d+)\.attention\.query_key_value\.weight",
            (r"blk.\1.attn_q.weight", r"blk.\1.attn_k.weight", r"blk.\1.attn_v.weight"),
            fused.bailingmoe,
        ),
        Step(r"model\.layers\.(\d+)\.attention\.dense\.weight", (r"blk.\1.attn_output.weight",)),
        Step(
            r"lm_head\.weight", SAME, doubted("the converter divides the output's columns by their norms"),
            lambda model, layer: bool(model.config.get("norm_head")),
        ),
    ),
    "ernie": (
        Step(r"ernie\.(.*)", (r"model.\1",)),
        Step(r"model\.mtp_(block|emb_norm|hidden_norm|linear_proj)\..*", ()),
        Step(
            r"(.*)\.qkv_proj\.weight", (r"\1.q_proj.weight", r"\1.k_proj.weight", r"\1.v_proj.weight"), fused.ernie
        ),
        Step(r"(.*)\.up_gate_proj\.weight", (r"\1.gate_proj.weight", r"\1.up_proj.weight"), halves),
    ),
    "refact": (
        Step(
            r"transformer\.h\.(\d+)\.attn\.kv\.weight", (r"blk.\1.attn_k.weight", r"blk.\1.attn_v.weight"),
            rows_from(one_head, the_rest),
        ),
        Step(r"transformer\.h\.(\d+)\.attn\.q\.weight", (r"blk.\1.attn_q.weight",)),
        Step(
            r"transformer\.h\.(\d+)\.mlp\.gate_up_proj\.weight", (r"blk.\1.ffn_gate.weight", r"blk.\1.ffn_up.weight"),
            halves,
        ),
    ),
    "openelm": (
        Step(
            r"transformer\.layers\.(\d+)\.ffn\.proj_1\.weight", (r"blk.\1.ffn_gate.weight", r"blk.\1.ffn_up.weight"),
            halves,
        ),
    ),
    # Matrices turned.
    "gpt2": (Step(r".*\.(c_attn|c_proj|c_fc)\.weight", SAME, turned), *MASKS_LEFT_OUT),
    "jais": (
        Step(r".*\.(c_attn|c_proj|c_fc|c_fc2)\.weight", SAME, turned),
        Step(r".*(\.attn\.bias|relative_pe\.slopes)", ()),
        Step(r".*(wte|lm_head)\.weight", SAME, doubted("the converter scales the embeddings and the output of jais")),
    ),
    # Norms raised.
    "gemma": (*RAISED, *OUTPUT_LEFT_OUT),
    "gemma3": (*RAISED, *EMBEDDINGS_CUT),
    "gemma3n": (
        Step(r"(.*_scale)", (r"\1.weight",)),
        Step(r".*embed_tokens(_per_layer)?\.weight", SAME, padded("vocab_size")),
    ),
    "gemma4": (
        *EMBEDDINGS_CUT,
        Step(r"(.*(?:per_dim_scale|layer_scalar))", (r"\1.weight",)),
        Step(r"model\.layers\.(\d+)\.router\.scale", (r"blk.\1.ffn_gate_inp.scale",)),
        Step(r"model\.layers\.(\d+)\..*per_expert_scale", (r"blk.\1.ffn_down_exps.scale",)),
        Step(r"(.*\.experts\.(?:gate_up_proj|down_proj))", (r"\1.weight",)),
    ),
    "raised": RAISED,
    "plamo2": (
        *STATE_SPACE,
        Step(r"(.*\.)(dt_norm|B_norm|C_norm|k|q)_weight", (r"\1\2.weight",)),
        Step(r".*\.(pre_mixer_norm|pre_mlp_norm|norm)\.weight", SAME, raised(1.0)),
        Step(r".*\.post_mixer_norm\.weight", SAME, raised(1.0 / 5)),
        Step(r".*\.post_mlp_norm\.weight", SAME, raised(1.0 / 5**1.5)),
    ),
    "plamo3": (
        Step(r".*\.(pre_mixer_norm|pre_mlp_norm|mixer\.[qk]_norm|norm)\.weight", SAME, raised(1.0)),
        Step(r".*\.post_mixer_norm\.weight", SAME, raised(1.0 / 5)),
        Step(r".*\.post_mlp_norm\.weight", SAME, raised(1.0 / 5**1.5)),
    ),
    # Experts that the checkpoint has stacked already.
    "qwen2moe": (
        Step(r"(.*experts)\.gate_up_proj(\.weight)?", (r"\1.gate_proj.weight", r"\1.up_proj.weight"), halves),
        Step(r"(.*experts)\.down_proj(\.weight)?", (r"\1.down_proj.weight",)),
    ),
    "experts turned": FUSED_EXPERTS_TURNED,
    "gpt_oss": (
        Step(r"(.*sinks)", (r"\1.weight",)),
        Step(r"(.*)\.down_proj_bias", (r"\1.down_proj.bias",)),
        Step(r"(.*)\.gate_up_proj_bias", (r"\1.gate_proj.bias", r"\1.up_proj.bias"), alternate),
        # What MXFP4 was unpacked to has the checkpoint's rows already.
        Step(r"(.*)\.down_proj", (r"\1.down_proj.weight",), turned, lambda model, layer: not is_packed(model)),
        Step(r"(.*)\.down_proj", (r"\1.down_proj.weight",)),
        Step(
            r"(.*)\.gate_up_proj", (r"\1.gate_proj.weight", r"\1.up_proj.weight"), turned_alternate,
            lambda model, layer: not is_packed(model),
        ),
        Step(r"(.*)\.gate_up_proj", (r"\1.gate_proj.weight", r"\1.up_proj.weight"), alternate),
    ),
    "granitemoe": (*ROTARY, *MERGED_INPUTS),
    "dbrx": (
        Step(r"(.*\.experts\.mlp\.)(w1|v1)", (r"\1\2.weight",), matrices_of("ffn_hidden_size")),
        Step(r"(.*\.experts\.mlp\.)w2", (r"\1w2.weight",), matrices_of("ffn_hidden_size", turn=True)),
    ),
    # Latent attention.
    "deepseek2": (*OUTPUT_LEFT_OUT_IF_TIED, *EXTRA_LAYERS_LEFT_OUT, *LATENT),
    "deepseek2 further layers": (*OUTPUT_LEFT_OUT_IF_TIED, *LATENT),
    # State spaces.
    "mamba": STATE_SPACE,
    "mamba2": (*STATE_SPACE_2, Step(r".*\.mixer\.norm\.weight", SAME, in_groups("n_groups"))),
    "granite hybrid": (
        *ROTARY, *MERGED_INPUTS, *STATE_SPACE_2,
        Step(r".*\.mamba\.norm\.weight", SAME, in_groups("n_groups", "mamba_n_groups")),
    ),
    "nemotron_h": (
        Step(r"model\.(.*)", (r"backbone.\1",)), *ROTARY_WEIGHTS, *STATE_SPACE_2,
        Step(r".*\.mixer\.norm\.weight", SAME, in_groups("n_groups", "num_groups", "mamba_n_groups")),
    ),
    "falcon_h1": (
        *STATE_SPACE_2,
        Step(r".*\.mamba\.norm\.weight", SAME, in_groups("mamba_n_groups")),
        Step(r".*down_proj\.weight", SAME, multiplied("mlp_multipliers.1")),
        Step(r".*gate_proj\.weight", SAME, multiplied("mlp_multipliers.0")),
        Step(r".*k_proj\.(weight|bias)", SAME, multiplied("key_multiplier", "attention_in_multiplier")),
        Step(r".*[qv]_proj\.(weight|bias)", SAME, multiplied("attention_in_multiplier")),
        Step(r".*o_proj\.(weight|bias)", SAME, multiplied("attention_out_multiplier")),
        Step(r".*out_proj\.(weight|bias)", SAME, multiplied("ssm_out_multiplier")),
        Step(r".*in_proj\.weight", SAME, multiplied_by_part),
        Step(r".*lm_head\.weight", SAME, multiplied("lm_head_multiplier")),
        Step(r".*embed_tokens\.weight", SAME, multiplied("embedding_multiplier")),
    ),
    "kimi_linear": (
        Step(r".*\.[qkv]_conv1d\.weight", SAME, four_axes), *LATENT,
        Step(r"(.*)\.dt_bias", (r"\1.dt_proj.bias",)),
        Step(r".*\.A_log", SAME, minus_exp),
    ),
    "jamba": (
        Step(r"(.*)\.moe\.(.*)", (r"\1.feed_forward.\2",)),
        Step(r"(.*)\.experts\.0\.(.*)", (r"\1.\2",), when=lambda model, layer: not has_experts(model, layer)),
        *STATE_SPACE,
    ),
    "qwen3next": QWEN_3_NEXT,
    "qwen3.5": (
        *QWEN_3_NEXT,
        Step(r".*linear_attn\.in_proj_qkv\.weight", SAME, fused.heads_tiled("qkv")),
        Step(r".*linear_attn\.conv1d\.weight", SAME, fused.heads_tiled("qkv")),
        Step(r".*linear_attn\.in_proj_z\.weight", SAME, fused.heads_tiled("linear_value_head_dim")),
        Step(r".*linear_attn\.(in_proj_[ab]\.weight|A_log|dt_proj\.bias)", SAME, fused.heads_tiled("")),
        Step(r".*linear_attn\.out_proj\.weight", SAME, fused.columns_tiled),
    ),
    "lfm2": (
        Step(r"lfm\.(.*)", (r"model.\1",)), *BIAS_OF_EXPERTS,
        Step(r".*conv\.conv\.weight", SAME, squeezed),
    ),
    # Encoders.
    "bert": BERT,
    "roberta": (*BERT, Step(r"embeddings\.position_embeddings\.weight", SAME, after_the_padding)),
    "nomic": (
        *BERT,
        Step(r".*mlp\.experts\.bias", ()),
        Step(r"(.*mlp\.experts\.mlp\.w1)", (r"\1.weight",), matrices_of("n_inner")),
        Step(r"(.*mlp\.experts\.mlp\.w2)", (r"\1.weight",), matrices_of("n_inner", turn=True)),
    ),
    "t5": (Step(r"(encoder|decoder)\.embed_tokens\.weight", ("shared.weight",)),),
    # Others.
    "expert bias": BIAS_OF_EXPERTS,
    "chatglm": (Step(r".*\.rotary_pos_emb\.inv_freq", ()),),
    "cohere2": (Step(r".*\.bias", ()),),
    "bitnet": (
        Step(
            r".*(q|k|v|o|gate|up|down)_proj\.weight", SAME,
            doubted("the converter rounds it to three values by a mean whose last bits depend on the library"),
        ),
    ),
}  # fmt: skip
