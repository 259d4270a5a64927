"""RMS norm, as ggml_compute_forward_rms_norm_f32 of the release computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32


def rms_norm(
    x: Float32[np.ndarray, "*m n"], weight: Float32[np.ndarray, "n"], eps: float
) -> Float32[np.ndarray, "*m n"]:
    """x / sqrt(mean of x^2 + eps) * weight: squares in binary32, added first to last in binary64."""
    total = np.add.accumulate((x * x).astype(np.float64), axis=-1)[..., -1:]
    mean = (total / x.shape[-1]).astype(np.float32)
    scale = np.float32(1) / np.sqrt(mean + np.float32(eps))
    return x * scale * weight
