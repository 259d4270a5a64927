"""Tensors that no checkpoint holds: factors of rotary embeddings, which the converter computes from config.json.

Reference: generate_extra_tensors of the classes in `conversion` of llama.cpp v0.5.0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hifi_ref.model_files.hugging_face.model import Model
from hifi_ref.model_files.hugging_face.steps import LIBRARY
from hifi_ref.model_files.hugging_face.tensors import Tensor, made_tensor, unknown_tensor

FREQUENCIES, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
# The most numbers that a head is taken to have.
MOST = 1 << 16
GENERATED = (FREQUENCIES, LONG, SHORT)


def generated(model: Model) -> dict[str, Tensor]:
    """The GGUF's tensors that come of config.json alone; those that it does not say enough for are not known."""
    rope, where = model.rope, "rope_scaling in config.json"
    made: dict[str, Tensor] = {}
    try:
        kind = str(rope.get("rope_type") or "").lower()
        if kind == "llama3":
            with np.errstate(all="ignore"):
                made[FREQUENCIES] = made_tensor(where, llama3_factors(rope, _size(model)), LIBRARY)
        elif kind == "proportional":
            made[FREQUENCIES] = made_tensor(
                where, proportional_factors(rope, min(MOST, model.number("global_head_dim")))
            )
        for name, key in ((LONG, "long_factor"), (SHORT, "short_factor")):
            if rope.get(key):
                made[name] = made_tensor(where, np.array(rope[key], np.float32))
    except (ValueError, TypeError, KeyError, OverflowError, ZeroDivisionError):
        pass
    beside = "says too little for it" if model.config else "is not beside the source"
    why = f"the converter computes it from {where}, which {beside}"
    return {name: made.get(name) or unknown_tensor((where,), why) for name in GENERATED}


def _size(model: Model) -> int:
    """The numbers that a head has."""
    size = model.find("head_dim") or model.number("hidden_size") // model.heads
    if not 1 < size <= MOST:
        raise ValueError(size)
    return size


def llama3_factors(rope: Any, size: int) -> np.ndarray:
    """f32[size / 2]: by what each frequency is divided, 1 for short waves and ``factor`` for long ones.

    Every operation is rounded to binary32, in the converter's order.
    """
    one, default = np.float32(1), 8192
    base, factor = np.float32(rope.get("rope_theta", 10000.0)), np.float32(rope.get("factor", 8.0))
    low, high = float(rope.get("low_freq_factor", 1.0)), float(rope.get("high_freq_factor", 4.0))
    context = rope.get("original_max_position_embeddings", default)
    frequencies = one / base ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
    factors = []
    for frequency in frequencies:
        wave = one / frequency * np.float32(2 * math.pi)
        if wave < np.float32(context / high):
            factors.append(one)
        elif wave > np.float32(context / low):
            factors.append(factor)
        else:
            smooth = (one / wave * np.float32(context) - np.float32(low)) / np.float32(high - low)
            factors.append(one / ((one - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def proportional_factors(rope: Any, size: int) -> np.ndarray:
    """f32[size / 2]: 1 for what is rotated, 1e30 for what is not."""
    rotated = int(size * rope["partial_rotary_factor"] / 2)
    return np.array([1.0] * rotated + [1e30] * (size // 2 - rotated), np.float32)
