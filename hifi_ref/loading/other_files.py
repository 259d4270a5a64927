"""Files that are no models of their own: adapters, projectors, control vectors, importance matrices, vocabularies."""

from __future__ import annotations

from hifi_ref.loading.metadata import Metadata
from hifi_ref.loading.report import Report
from hifi_ref.model_files.gguf_model import Gguf

VOCABULARY = "a vocabulary without tensors: llama.cpp loads it as such alone (vocab_only)"


def description(gguf: Gguf, report: Report) -> str | None:
    """What a file is that is no model, in one sentence; None where it may be one. What it lacks is reported."""
    architecture, kind = gguf.text("general.architecture"), gguf.text("general.type")
    names = [tensor.name for tensor in gguf.tensors]
    if "token_embd.weight" in names:
        return None
    if kind == "adapter" or any(name.endswith((".lora_a", ".lora_b")) for name in names):
        _check_adapter(gguf, names, report)
        return "a LoRA adapter: llama.cpp applies it to a model, with --lora"
    if architecture == "clip" or kind == "mmproj":
        return "a projector for images or sound: llama.cpp takes it beside a model, with --mmproj"
    if architecture == "controlvector":
        return "a control vector: llama.cpp adds it to a model's layers, with --control-vector"
    if kind == "imatrix" or "imatrix.datasets" in gguf.metadata:
        return "an importance matrix: llama-quantize takes it, with --imatrix"
    if not names and "tokenizer.ggml.tokens" in gguf.metadata:
        return VOCABULARY
    return None


def _check_adapter(gguf: Gguf, names: list[str], report: Report) -> None:
    """What llama_adapter_lora_init asks for, as far as it can be seen without the model."""
    metadata = Metadata(gguf, report)
    if metadata.scalar("general.type", "string", required=True) not in ("adapter", None):
        report.problem("L002", "general.type", "general.type is not adapter, and llama.cpp takes no other for one")
    if metadata.scalar("adapter.type", "string", required=True) not in ("lora", None):
        report.problem("L002", "adapter.type", "adapter.type is not lora, and llama.cpp takes no other adapter")
    metadata.scalar("adapter.lora.alpha", "f32")
    held = set(names)
    for name in names:
        stem, _, end = name.rpartition(".")
        if end in ("lora_a", "lora_b"):
            other = f"{stem}.{'lora_b' if end == 'lora_a' else 'lora_a'}"
            if other not in held:
                report.problem("L004", name, f"tensor {name} lacks its other half, {other}")
        elif not name.endswith("_norm.weight"):
            report.problem("L006", name, f"tensor {name} is no half of a pair, lora_a or lora_b")
