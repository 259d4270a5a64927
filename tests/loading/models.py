"""Tiny sound models of each family, and how one is written: metadata and tensor shapes, with zeros for weights."""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.gguf_header import KINDS
from hifi_ref.model_files.tensor_types import nbytes

TYPES = {kind.name: (number, kind) for number, kind in DIALECTS[REFERENCE].ids.items()}
NUMBERS = {kind.name: number for number, kind in KINDS.items()}
LETTERS = {kind.name: kind.letter for kind in KINDS.values()}


@dataclass
class Model:
    """``keys``: name -> (kind, value), "u32" or "[u32]"; ``tensors``: name -> (shape, row length first, type)."""

    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)
    tensors: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)

    def copy(self) -> Model:
        """One whose keys and tensors can be replaced; none is ever changed in place."""
        return Model(dict(self.keys), dict(self.tensors))

    @property
    def architecture(self) -> str:
        return self.keys["general.architecture"][1]

    def write(self, path: Path) -> Path:
        head = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))]
        head += [_text(key) + _value(kind, value) for key, (kind, value) in self.keys.items()]
        offset = 0
        for name, (shape, kind) in self.tensors.items():
            head.append(_text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
            head.append(struct.pack("<IQ", TYPES[kind][0], offset))
            offset += -(-(nbytes(TYPES[kind][1], shape) or 0) // 32) * 32
        raw = b"".join(head)
        with open(path, "wb") as file:
            file.write(raw)
            file.truncate(-(-len(raw) // 32) * 32 + offset)
        return path


def _text(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: str, value: Any) -> bytes:
    if kind.startswith("["):
        item = kind[1:-1]
        head = struct.pack("<IIQ", NUMBERS["array"], NUMBERS[item], len(value))
        return head + b"".join(_item(item, x) for x in value)
    return struct.pack("<I", NUMBERS[kind]) + _item(kind, value)


def _item(kind: str, value: Any) -> bytes:
    return _text(value) if kind == "string" else struct.pack("<" + LETTERS[kind], value)


def _byte_letter(b: int) -> str:
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(b) if b in keep else chr(256 + sum(1 for i in range(b) if i not in keep))


@functools.cache
def vocabulary(kind: str) -> dict[str, tuple[str, Any]]:
    """The metadata of a small tokenizer: "llama", "gpt2", "bert" or "none"."""
    t = "tokenizer.ggml."
    if kind == "none":
        return {t + "model": ("string", "none")}
    if kind == "llama":
        words = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["\u2581a", "a", "b", "ab", "\u2581"]
        types = [2, 3, 3] + [6] * 256 + [1] * 5
        special = {"bos": 1, "eos": 2, "unknown": 0}
    elif kind == "gpt2":
        words = [_byte_letter(b) for b in range(256)] + ["ab", "abc", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        types = [1] * 258 + [3] * 3
        special = {"bos": 258, "eos": 260}
    else:
        words = ["[PAD]"] + [f"[unused{i}]" for i in range(1, 100)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words += [f"\u2581{w}" for w in ("the", "a", "of")] + ["ing", "ed"]
        types = [3] * 104 + [1] * 5
        special = {"unknown": 100, "seperator": 102, "padding": 0, "cls": 101, "mask": 103}
    out: dict[str, tuple[str, Any]] = {
        t + "model": ("string", kind), t + "pre": ("string", "qwen2" if kind == "gpt2" else "default"),
        t + "tokens": ("[string]", words), t + "token_type": ("[i32]", types),
    }  # fmt: skip
    if kind == "gpt2":
        out[t + "merges"] = ("[string]", ["a b", "ab c"])
    else:
        out[t + "scores"] = ("[f32]", [-float(i) for i in range(len(words))])
    out |= {f"{t}{name}_token_id": ("u32", number) for name, number in special.items()}
    return out | {t + "add_bos_token": ("bool", kind == "llama"), t + "add_eos_token": ("bool", False)}


@dataclass
class Shape:
    """What a tiny model is built from."""

    arch: str
    vocab: str = "llama"
    layers: int = 2
    embd: int = 64
    heads: int = 4
    kv: int = 2
    head: int = 16
    ff: int = 96
    experts: int = 0
    used: int = 2
    tied: bool = False
    fused: bool = False
    bias: bool = False
    arrays: bool = False
    longrope: bool = False
    freqs: bool = False
    window: int = 0


def build(s: Shape) -> Model:
    """A sound model."""
    a, model = s.arch, Model()
    norm = "layer_norm_epsilon" if a == "bert" else "layer_norm_rms_epsilon"
    per_layer = (lambda n: ("[u32]", [n] * s.layers)) if s.arrays else (lambda n: ("u32", n))
    model.keys = {
        "general.architecture": ("string", a), "general.name": ("string", "tiny"), "general.file_type": ("u32", 0),
        f"{a}.context_length": ("u32", 128), f"{a}.embedding_length": ("u32", s.embd),
        f"{a}.block_count": ("u32", s.layers), f"{a}.feed_forward_length": per_layer(s.ff),
        f"{a}.attention.head_count": per_layer(s.heads), f"{a}.attention.head_count_kv": per_layer(s.kv),
        f"{a}.attention.{norm}": ("f32", 1e-5), f"{a}.rope.freq_base": ("f32", 10000.0),
        f"{a}.rope.dimension_count": ("u32", s.head),
    }  # fmt: skip
    if a in ("qwen3", "qwen3moe", "gemma2", "gemma3") or s.head * s.heads != s.embd:
        model.keys |= {f"{a}.attention.{k}_length": ("u32", s.head) for k in ("key", "value")}
    if s.experts:
        model.keys |= {f"{a}.expert_count": ("u32", s.experts), f"{a}.expert_used_count": ("u32", s.used)}
    if a == "qwen3moe":
        model.keys[f"{a}.expert_feed_forward_length"] = ("u32", s.ff)
    if s.window:
        model.keys[f"{a}.attention.sliding_window"] = ("u32", s.window)
    if a == "gemma2":
        model.keys |= {f"{a}.{k}_logit_softcapping": ("f32", 30.0) for k in ("attn", "final")}
        model.keys[f"{a}.attn_logit_softcapping"] = ("f32", 50.0)
        del model.keys[f"{a}.final_logit_softcapping"]
    if s.longrope:
        model.keys[f"{a}.rope.scaling.type"] = ("string", "longrope")
    if a == "bert":
        model.keys |= {f"{a}.attention.causal": ("bool", False), f"{a}.pooling_type": ("u32", 2)}
        model.keys["tokenizer.ggml.token_type_count"] = ("u32", 2)
        del model.keys[f"{a}.rope.dimension_count"], model.keys[f"{a}.rope.freq_base"]
    model.keys |= vocabulary(s.vocab)
    n_vocab = 100 if s.vocab == "none" else len(model.keys["tokenizer.ggml.tokens"][1])
    if s.vocab == "none":
        model.keys[f"{a}.vocab_size"] = ("u32", n_vocab)
    for name, shape in _tensors(s, n_vocab).items():
        model.tensors[name] = (shape, "F32")
    return model


def _tensors(s: Shape, n_vocab: int) -> dict[str, tuple[int, ...]]:
    e, a = s.embd, s.arch
    out: dict[str, tuple[int, ...]] = {"token_embd.weight": (e, n_vocab)}
    if a == "bert":
        out |= {"token_types.weight": (e, 2), "position_embd.weight": (e, 128)}
        out |= {"token_embd_norm.weight": (e,), "token_embd_norm.bias": (e,)}
    else:
        out["output_norm.weight"] = (e,)
        if not s.tied:
            out["output.weight"] = (e, n_vocab)
    if s.longrope:
        out |= {f"rope_factors_{k}.weight": (s.head // 2,) for k in ("long", "short")}
    if s.freqs:
        out["rope_freqs.weight"] = (s.head // 2,)
    for i in range(s.layers):
        out |= {f"blk.{i}.{name}": shape for name, shape in _layer(s).items()}
    return out


def _layer(s: Shape) -> dict[str, tuple[int, ...]]:
    e, a, q, kv = s.embd, s.arch, s.heads * s.head, s.kv * s.head
    out: dict[str, tuple[int, ...]] = {} if a == "bert" else {"attn_norm.weight": (e,), "ffn_norm.weight": (e,)}
    if s.fused:
        out["attn_qkv.weight"] = (e, q + 2 * kv)
        if s.bias:
            out["attn_qkv.bias"] = (q + 2 * kv,)
    else:
        out |= {f"attn_{x}.weight": (e, n) for x, n in (("q", q), ("k", kv), ("v", kv))}
        if s.bias:
            out |= {f"attn_{x}.bias": (n,) for x, n in (("q", q), ("k", kv), ("v", kv))}
    out["attn_output.weight"] = (q, e)
    if a in ("qwen3", "qwen3moe", "gemma3"):
        out |= {"attn_q_norm.weight": (s.head,), "attn_k_norm.weight": (s.head,)}
    if a.startswith("gemma"):
        out |= {"post_attention_norm.weight": (e,), "post_ffw_norm.weight": (e,)}
    if a == "bert":
        out |= {f"{n}_output_norm.{x}": (e,) for n in ("attn", "layer") for x in ("weight", "bias")}
        out |= {"attn_output.bias": (e,), "ffn_up.bias": (s.ff,), "ffn_down.bias": (e,)}
    if s.experts:
        out["ffn_gate_inp.weight"] = (e, s.experts)
        sizes = {"gate": (e, s.ff), "up": (e, s.ff), "down": (s.ff, e)}
        return out | {f"ffn_{x}_exps.weight": (*shape, s.experts) for x, shape in sizes.items()}
    out |= {"ffn_up.weight": (e, 2 * s.ff if a == "phi3" else s.ff), "ffn_down.weight": (s.ff, e)}
    return out if a in ("phi3", "bert") else out | {"ffn_gate.weight": (e, s.ff)}


SOUND = {
    "llama": Shape("llama"),
    "llama-bpe": Shape("llama", vocab="gpt2", tied=True, freqs=True),
    "llama-none": Shape("llama", vocab="none", layers=3),
    "llama-wordpiece": Shape("llama", vocab="bert", kv=4),
    "llama-fused": Shape("llama", vocab="gpt2", fused=True, bias=True, arrays=True),
    "llama-longrope": Shape("llama", longrope=True, heads=2, head=32, kv=1, bias=True),
    "mixtral": Shape("llama", experts=4),
    "qwen2": Shape("qwen2", vocab="gpt2", bias=True),
    "qwen2-tied": Shape("qwen2", vocab="gpt2", tied=True, arrays=True, fused=True),
    "qwen3": Shape("qwen3", vocab="gpt2", head=32, tied=True),
    "qwen3moe": Shape("qwen3moe", vocab="gpt2", experts=5),
    "phi3": Shape("phi3", fused=True, kv=4),
    "phi3-split": Shape("phi3", vocab="gpt2", longrope=True, tied=True),
    "gemma2": Shape("gemma2", tied=True, head=32),
    "gemma3": Shape("gemma3", tied=True, layers=7, window=32, kv=1),
    "gemma3-whole": Shape("gemma3", vocab="llama"),
    "bert": Shape("bert", vocab="bert", kv=4),
    "bert-fused": Shape("bert", vocab="gpt2", kv=2, fused=True, bias=True),
}


@functools.cache
def _sound(name: str) -> Model:
    return build(SOUND[name])


def sound(name: str) -> Model:
    """One of SOUND."""
    return _sound(name).copy()
