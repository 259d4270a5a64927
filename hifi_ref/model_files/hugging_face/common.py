"""Steps that several families share."""

from __future__ import annotations

from hifi_ref.model_files.hugging_face import fused
from hifi_ref.model_files.hugging_face.special import (
    is_classifier,
    keys,
    queries,
)
from hifi_ref.model_files.hugging_face.steps import (
    SAME,
    Step,
    as_the_file,
    extra_layer,
    halves,
    interleaved,
    minus_exp,
    raised,
    squeezed,
    tied,
    turned,
    turned_halves,
    upright,
)

# Rotary halves laid side by side: of weights and biases, or of weights alone.
ROTARY = (
    Step(r".*q_proj\.(weight|bias)", SAME, interleaved(queries)),
    Step(r".*k_proj\.(weight|bias)", SAME, interleaved(keys)),
)
ROTARY_WEIGHTS = (
    Step(r".*q_proj\.weight", SAME, interleaved(queries)),
    Step(r".*k_proj\.weight", SAME, interleaved(keys)),
)
RAISED = (Step(r".*norm\.weight", SAME, raised(1.0)),)
OUTPUT_LEFT_OUT = (Step(r"lm_head\.weight", ()),)
OUTPUT_LEFT_OUT_IF_TIED = (Step(r"(model\.)?lm_head\.weight", (), when=tied),)
BIAS_OF_EXPERTS = (Step(r"(.*\.expert_bias)", (r"\1.bias",)),)
EXTRA_LAYERS_LEFT_OUT = (Step(r"model\.layers\.\d+\..*", (), when=extra_layer),)
LATENT = (Step(r"(.*\.)kv_b_proj\.weight", (r"\1k_b_proj.weight", r"\1v_b_proj.weight", SAME[0]), fused.latent),)
EMBEDDINGS_CUT = (Step(r".*embed_tokens\.weight", SAME, as_the_file("token_embd.weight")),)
STATE_SPACE = (
    Step(r"(.*)\.dt_bias", (r"\1.dt_proj.bias",)),
    Step(r".*\.conv1d\.weight", SAME, squeezed),
    Step(r".*\.A_log", SAME, minus_exp),
)
STATE_SPACE_2 = (*STATE_SPACE, Step(r".*\.(A_log|D)", SAME, upright))
MASKS_LEFT_OUT = (Step(r".*\.attn\.(bias|masked_bias)", ()),)
FUSED_EXPERTS_TURNED = (
    Step(r"(.*)\.gate_up_proj(\.weight)?", (r"\1.gate_proj.weight", r"\1.up_proj.weight"), turned_halves),
    Step(r"(.*experts)\.down_proj(\.weight)?", (r"\1.down_proj.weight",), turned),
)
BERT = (
    Step(r"(?:bert|roberta|distilbert)\.(.*)", (r"\1",)),
    Step(r"(.*)\.gamma", (r"\1.weight",)),
    Step(r"(.*)\.beta", (r"\1.bias",)),
    Step(r"(.*)\.parametrizations\.(.*)\.original", (r"\1.\2",)),
    Step(r"embeddings\.position_ids|pooler\.dense\..*|cls\.(predictions|seq_relationship).*|vocab_.*", ()),
    Step(r"classifier\.(weight|bias)", (r"classifier.out_proj.\1",), when=is_classifier),
)


MERGED_INPUTS = (
    Step(
        r"model\.layers\.(\d+)\.block_sparse_moe\.input_linear\.weight",
        (r"blk.\1.ffn_gate_exps.weight", r"blk.\1.ffn_up_exps.weight"),
        halves,
    ),
    Step(
        r"model\.layers\.(\d+)\.shared_mlp\.input_linear\.weight",
        (r"blk.\1.ffn_gate_shexp.weight", r"blk.\1.ffn_up_shexp.weight"),
        halves,
        lambda model, layer: bool(model.find("num_local_experts")),
    ),
    Step(
        r"model\.layers\.(\d+)\.shared_mlp\.input_linear\.weight",
        (r"blk.\1.ffn_gate.weight", r"blk.\1.ffn_up.weight"),
        halves,
    ),
    Step(
        r"model\.layers\.(\d+)\.shared_mlp\.output_linear\.weight",
        (r"blk.\1.ffn_down.weight",),
        when=lambda model, layer: not model.find("num_local_experts"),
    ),
)
QWEN_3_NEXT = (
    *STATE_SPACE,
    Step(r"(?!.*linear_attn\.norm\.weight).*norm\.weight", SAME, raised(1.0)),
    Step(
        r"model\.layers\.(\d+)\..*in_proj_qkvz\.weight",
        (r"blk.\1.attn_qkv.weight", r"blk.\1.attn_gate.weight"),
        fused.qwen3next,
    ),
    Step(r"(.*experts)\.gate_up_proj(\.weight)?", (r"\1.gate_proj.weight", r"\1.up_proj.weight"), halves),
    Step(r"(.*experts)\.down_proj(\.weight)?", (r"\1.down_proj.weight",)),
)
