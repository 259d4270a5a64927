"""Language models of a few hundred thousand weights, one of each architecture, made from a seed.

Weights have uneven columns and some far out, so that a wrong order of additions shows. ``MIXED`` gives the matrices of
one file many formats in turn.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

import hifi_ref as hr
from tools.make_sample import made_weights

WIDTH, LAYERS, HEADS, EXPERTS, WINDOW = 256, 2, 4, 5, 7
MIXED = ("Q4_K", "Q6_K", "Q8_0", "Q4_0", "Q2_K", "IQ3_S", "Q3_K", "Q5_K", "IQ4_XS", "F16")
# What byte pairs are merged in, and what is tokenized: with contractions, digits, signs, line ends and other letters.
TEXT = """It's the gradient's fault, they'll say: 12345 steps, 3.14 of loss --- and then\r\n\r\n    nothing at all.
The other thing that they're saying is that the weather in the north isn't what it was in the 1990s...
\tна\u00efve caf\u00e9, \u4e2d\u6587 \U0001f680  end   """


class Kind(NamedTuple):
    """What one architecture has. ``pre``: its tokenizer. ``extra``: more metadata."""

    architecture: str
    pre: str = "spm"
    kv: int = 2
    tied: bool = False
    factors: bool = False
    bias: bool = False
    qk_norm: bool = False
    experts: bool = False
    fused: bool = False
    gemma: bool = False
    extra: tuple[tuple[str, float], ...] = ()


MODELS = {
    "llama": Kind("llama"),
    "llama3": Kind("llama", "llama-bpe", tied=True, factors=True),
    "qwen2": Kind("qwen2", "qwen2", bias=True),
    "qwen3": Kind("qwen3", "qwen2", qk_norm=True),
    "qwen3moe": Kind("qwen3moe", "gpt-2", qk_norm=True, experts=True),
    "mixtral": Kind("llama", experts=True),
    "gemma2": Kind("gemma2", "spm-bare", tied=True, gemma=True, extra=(("final_logit_softcapping", 20.0),)),
    "gemma3": Kind(
        "gemma3", "spm-bare", tied=True, gemma=True, qk_norm=True, kv=1, extra=(("rope.scaling.factor", 8.0),)
    ),
    "phi3": Kind("phi3", kv=4, fused=True),
}


def write(path: Path, name: str, mixed: bool = False, seed: int = 0, leave_out: Sequence[str] = ()) -> Path:
    """Write a model; without the tensors and metadata keys that are to be left out. Returns its path."""
    kind = MODELS[name]
    writer = gguf.GGUFWriter(path, kind.architecture)
    for key, value in [*numbers(kind), *vocabulary(kind.pre)]:
        if key not in leave_out:
            _add(writer, key, value)
    for number, (tensor, values) in enumerate(tensors(kind, seed)):
        if tensor in leave_out:
            continue
        matrix = values.ndim > 1 and "gate_inp" not in tensor
        stored = MIXED[number % len(MIXED)] if mixed and matrix else "F32"
        rows = values.reshape(-1, values.shape[-1])
        raw = hr.encode(stored, rows, lane="numpy").reshape(*values.shape[:-1], -1)
        kind_id = gguf.GGMLQuantizationType[stored]
        writer.add_tensor(tensor, raw if matrix else values, raw_dtype=kind_id if matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def numbers(kind: Kind) -> Iterator[tuple[str, object]]:
    a, head = kind.architecture, WIDTH // HEADS
    # The release takes a name like phi-3 for more than a name.
    yield "general.name", f"a small {a.replace('phi3', 'phi-3')}"
    values: dict[str, object] = {
        "vocab_size": len(dict(vocabulary(kind.pre))["tokenizer.ggml.tokens"]), "context_length": 512,
        "embedding_length": WIDTH, "block_count": 6 if a == "gemma3" else LAYERS, "feed_forward_length": WIDTH,
        "attention.head_count": HEADS, "attention.head_count_kv": kind.kv,
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 50000.0, "rope.dimension_count": head,
    }  # fmt: skip
    if kind.experts:
        values |= {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": WIDTH}
    if kind.gemma:
        values |= {"attention.sliding_window": WINDOW, "attention.key_length": head, "attention.value_length": head}
    if kind.fused:
        values["rope.scaling.original_context_length"] = 512
    for key, value in (values | dict(kind.extra)).items():
        yield f"{a}.{key}", value


def tensors(kind: Kind, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor, float32, rows first."""
    n_vocab, count = (
        len(dict(vocabulary(kind.pre))["tokenizer.ggml.tokens"]),
        iter(range(1000 * seed, 1000 * seed + 999)),
    )

    def made(*shape: int, gain: float = 4.0) -> np.ndarray:
        columns = 0.5 + made_weights(next(count), shape[-1]).astype(np.float64) ** 2 * 400
        return (made_weights(next(count), *shape) * columns * gain).astype(np.float32)

    def norm(n: int = WIDTH, middle: float = 1.0) -> np.ndarray:
        return (middle * (1 + 4 * made_weights(next(count), n))).astype(np.float32)

    head, kv = WIDTH // HEADS, kind.kv * WIDTH // HEADS
    yield "token_embd.weight", made(n_vocab, WIDTH, gain=1.0 if kind.gemma else 30.0)
    yield "output_norm.weight", norm(middle=5.0 if kind.tied else 1.0)
    if not kind.tied:
        yield "output.weight", made(n_vocab, WIDTH, gain=20.0)
    if kind.factors:
        yield "rope_freqs.weight", np.repeat(np.array([1, 1.5, 4, 8], np.float32), head // 8)
    for layer in range(6 if kind.architecture == "gemma3" else LAYERS):
        block = f"blk.{layer}."
        yield f"{block}attn_norm.weight", norm()
        parts = {"q": made(WIDTH, WIDTH), "k": made(kv, WIDTH), "v": made(kv, WIDTH)}
        if kind.fused:
            yield f"{block}attn_qkv.weight", np.concatenate(list(parts.values()))
        else:
            yield from ((f"{block}attn_{letter}.weight", part) for letter, part in parts.items())
        if kind.bias:
            yield from ((f"{block}attn_{letter}.bias", norm(len(part), 0.5)) for letter, part in parts.items())
        if kind.qk_norm:
            yield from ((f"{block}attn_{letter}_norm.weight", norm(head)) for letter in "qk")
        yield f"{block}attn_output.weight", made(WIDTH, WIDTH)
        yield f"{block}ffn_norm.weight", norm()
        if kind.gemma:
            yield f"{block}post_attention_norm.weight", norm(middle=0.3)
            yield f"{block}post_ffw_norm.weight", norm(middle=0.3)
        if kind.experts:
            yield f"{block}ffn_gate_inp.weight", made(EXPERTS, WIDTH)
            yield from (
                (f"{block}ffn_{part}_exps.weight", made(EXPERTS, WIDTH, WIDTH)) for part in ("gate", "up", "down")
            )
        elif kind.fused:
            yield f"{block}ffn_up.weight", made(2 * WIDTH, WIDTH)
            yield f"{block}ffn_down.weight", made(WIDTH, WIDTH)
        else:
            yield from ((f"{block}ffn_{part}.weight", made(WIDTH, WIDTH)) for part in ("gate", "up", "down"))


def vocabulary(pre: str) -> Iterator[tuple[str, object]]:
    """The tokenizer's metadata: bytes, and what merging the most frequent pairs of TEXT gives."""
    if pre.startswith("spm"):
        merges = learned([list(word) for word in TEXT.replace(" ", " \u2581").split(" ")])
        letters = sorted({c for c in TEXT.replace(" ", "\u2581") if c.isascii() or c == "\u2581"})
        pieces = [a + b for a, b in merges] + letters
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
        types = [2, 3, 3] + [6] * 256 + [1] * len(pieces)
        tokens, types = [*tokens, "<|endoftext|>", "<|user|>", "<|mark|>"], [*types, 3, 3, 4]
        yield "tokenizer.ggml.model", "llama"
        yield "tokenizer.ggml.add_space_prefix", pre == "spm"
        yield "tokenizer.ggml.scores", [0.0] * 259 + [-float(i) for i in range(len(pieces) + 3)]
        own = {"bos_token_id": 1, "eos_token_id": 2, "add_bos_token": True}
    else:
        letters = gguf_letters()
        merges = learned([[letters[32], *(letters[byte] for byte in word.encode())] for word in TEXT.split(" ")])
        tokens = [*letters, *(a + b for a, b in merges), "<|endoftext|>", "<|user|>", "<|mark|>"]
        types = [1] * (len(tokens) - 3) + [3, 3, 4]
        yield "tokenizer.ggml.model", "gpt2"
        yield "tokenizer.ggml.pre", pre
        yield "tokenizer.ggml.merges", [f"{a} {b}" for a, b in merges]
        own = {"bos_token_id": len(tokens) - 3, "eos_token_id": len(tokens) - 3}
    yield "tokenizer.ggml.tokens", tokens
    yield "tokenizer.ggml.token_type", types
    yield from ((f"tokenizer.ggml.{key}", value) for key, value in own.items())


def gguf_letters() -> list[str]:
    """The letter of each byte in byte-level vocabularies."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte if byte in shown else 256 + hidden.index(byte)) for byte in range(256)]


def learned(words: list[list[str]], count: int = 60) -> list[tuple[str, str]]:
    """The most frequent pairs, one after the other, each merged before the next is counted."""
    merges: list[tuple[str, str]] = []
    for _ in range(count):
        pairs = collections.Counter(pair for word in words for pair in zip(word, word[1:], strict=False))
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        for word in words:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return merges
