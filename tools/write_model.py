"""The sample model's shape, its tokenizer, and its GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
import tokenizers

END = "<|endoftext|>"


class Shape(NamedTuple):
    """Sizes of a llama whose output matrix is its embedding."""

    vocabulary: int = 512
    width: int = 256
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 512
    context: int = 256
    epsilon: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head(self) -> int:
        return self.width // self.heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, rows first."""
        width, narrow, wide = self.width, self.kv_heads * self.head, self.feed_forward
        parts: dict[str, tuple[int, ...]] = {
            "attn_norm": (width,), "attn_q": (width, width), "attn_k": (narrow, width), "attn_v": (narrow, width),
            "attn_output": (width, width), "ffn_norm": (width,), "ffn_gate": (wide, width), "ffn_up": (wide, width),
            "ffn_down": (width, wide),
        }  # fmt: skip
        layers = {f"blk.{i}.{n}.weight": shape for i in range(self.layers) for n, shape in parts.items()}
        return {"token_embd.weight": (self.vocabulary, width), "output_norm.weight": (width,)} | layers


SHAPE = Shape()


def tokenizer_of(texts: Sequence[str]) -> tokenizers.Tokenizer:
    """Byte-level BPE, words cut as gpt-2 cuts them, merges learned from the texts; END is its last token."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=SHAPE.vocabulary - 1, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END])
    return tokenizer


def write_gguf(path: Path, weights: Mapping[str, np.ndarray], tokenizer: tokenizers.Tokenizer) -> None:
    """Write the model with matrices in F16, norms in F32, and the tokenizer whole."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("hifi_ref sample model")
    writer.add_description(
        "a llama of 1.9 million weights, trained by tools/train_model.py on sources of Python packages"
    )
    writer.add_block_count(SHAPE.layers)
    writer.add_context_length(SHAPE.context)
    writer.add_embedding_length(SHAPE.width)
    writer.add_feed_forward_length(SHAPE.feed_forward)
    writer.add_head_count(SHAPE.heads)
    writer.add_head_count_kv(SHAPE.kv_heads)
    writer.add_rope_dimension_count(SHAPE.head)
    writer.add_rope_freq_base(SHAPE.rope_base)
    writer.add_layer_norm_rms_eps(SHAPE.epsilon)
    writer.add_vocab_size(SHAPE.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer, tokenizer)
    for name, tensor in weights.items():
        writer.add_tensor(name, tensor.astype(np.float16 if tensor.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: tokenizers.Tokenizer) -> None:
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    end = tokenizer.token_to_id(END)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for token, _ in vocabulary])
    kinds = [gguf.TokenType.CONTROL if token == END else gguf.TokenType.NORMAL for token, _ in vocabulary]
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
