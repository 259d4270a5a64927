"""What loads and still is of little use: numbers that make the computation fail or lose its sense."""

from __future__ import annotations

import math

from hifi_ref.loading.hyper_parameters import Numbers
from hifi_ref.loading.report import Report
from hifi_ref.model_files.gguf_model import Gguf

POSITIVE = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "rope.freq_base", "rope.freq_base_swa")


def check(gguf: Gguf, architecture: str, h: Numbers, report: Report) -> None:
    """Note numbers that are not finite, not positive, or no length at all."""
    for key, value in gguf.metadata.items():
        if not key.startswith(architecture + ".") or value.kind != "f32" or value.count is not None:
            continue
        if value.scalar is None or not math.isfinite(value.scalar):
            report.note("L011", key, f"{key} is {value.scalar}")
        elif value.scalar <= 0 and key.removeprefix(architecture + ".") in POSITIVE:
            report.note("L011", key, f"{key} is {value.scalar}, where a positive number makes sense")
    if h["n_ctx_train"] == 0:
        key = f"{architecture}.context_length"
        report.note("L011", key, f"{key} is 0: a program that takes its context from the model gets none")
    if h["n_rot"] > h["n_embd_head_k"] or h["n_rot"] % 2:
        key = f"{architecture}.rope.dimension_count"
        report.note("L011", key, f"{key} is {h['n_rot']}, no even part of a head of {h['n_embd_head_k']}")
