"""The release's exponential, and what is made of it: softmax, SwiGLU and, with a table, GeGLU. Each step rounds once.

Reference: ggml_v_expf (the SSE2 branch), ggml_vec_soft_max_f32, ggml_vec_swiglu_f32, ggml_vec_geglu_f32 (llama.cpp
v0.5.0, variant x64).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.models import libm

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32

# Added to a number below 2^22 it leaves the nearest whole number in the last bits.
_ROUNDER = np.float32(1.5 * 2.0**23)
_LOG2_E, _LN2_HIGH, _LN2_LOW = (np.float32(float.fromhex(h)) for h in ("0x1.715476p0", "0x1.62e4p-1", "0x1.7f7d1cp-20"))
# exp(b) - 1 = b (c1 + b (c2 + ...)), the constants of b, b^2, ... b^5.
_C1, _C2, _C3, _C4, _C5 = (
    np.float32(float.fromhex(h))
    for h in ("0x1.ffffecp-1", "0x1.fffdb6p-2", "0x1.555e66p-3", "0x1.573e2ep-5", "0x1.0e4020p-7")
)


def exp_of_fours(x: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """e^x as the release computes it four at a time: x = n ln 2 + b, then 2^n (1 + p(b))."""
    with np.errstate(all="ignore"):
        z = x * _LOG2_E + _ROUNDER
        n = z - _ROUNDER
        b = (x - n * _LN2_HIGH) - n * _LN2_LOW
        u = b * b
        p = ((_C5 * b + _C4) * u + (_C3 * b + _C2)) * u + _C1 * b
        exponent = z.view(np.uint32) << np.uint32(23)
        k = (exponent + np.uint32(0x3F800000)).view(np.float32)
        out = k * p + k
        far = np.abs(n) > 126
        if far.any():
            # 2^n has no exponent of its own there: it is multiplied in two steps.
            bias = np.where(n <= 0, np.uint32(0x82000000), np.uint32(0))
            s1 = (bias + np.uint32(0x7F000000)).view(np.float32)
            s2 = (exponent - bias).view(np.float32)
            out = np.where(far, np.where(np.abs(n) > 192, s1 * s1, (s2 * p + s2) * s1), out)
    return out


def exp_of_rows(x: Float32[np.ndarray, "*m n"]) -> Float32[np.ndarray, "*m n"]:
    """e^x of rows, four at a time; what is left of a row below four goes to the C library."""
    fours = x.shape[-1] // 4 * 4
    if fours == x.shape[-1]:
        return exp_of_fours(x)
    return np.concatenate([exp_of_fours(x[..., :fours]), libm.exp(x[..., fours:])], axis=-1)


def softmax(
    x: Float32[np.ndarray, "*m n"], scale: np.float32 | float = 1.0, allowed: Bool[np.ndarray, "*k n"] | None = None
) -> Float32[np.ndarray, "*m n"]:
    """Rows of exp(scale x - the largest) over their sum; where ``allowed`` is false 0. Every row has one allowed."""
    x = x * np.float32(scale)
    if allowed is not None:
        x = np.where(allowed, x, -np.inf).astype(np.float32)
    e = exp_of_rows(x - x.max(axis=-1, keepdims=True))
    fours = e.shape[-1] // 4 * 4
    quads = e[..., :fours].reshape(*e.shape[:-1], -1, 4)
    sums = ((quads[..., 0] + quads[..., 1]) + (quads[..., 2] + quads[..., 3])).astype(np.float64)
    terms = np.concatenate([sums, e[..., fours:].astype(np.float64)], axis=-1)
    total = np.add.accumulate(terms, axis=-1)[..., -1:]
    return e * (1.0 / total).astype(np.float32)


def swiglu(gate: Float32[np.ndarray, "*n"], up: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """gate / (1 + exp(-gate)), times up"""
    return gate / (np.float32(1) + exp_of_rows(np.float32(0) - gate)) * up


def geglu(gate: Float32[np.ndarray, "*n"], up: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """GELU of the gate, by a table of all binary16 numbers, times up; from 10 on the gate itself, below -10 nothing."""
    with np.errstate(over="ignore"):
        of_table = _gelu_table()[gate.astype(np.float16).view(np.uint16)]
    return np.where(gate <= -10, np.float32(0), np.where(gate >= 10, gate, of_table) * up)


@functools.cache
def _gelu_table() -> Float32[np.ndarray, "65536"]:
    """x / 2 (1 + tanh(sqrt(2 / pi) x (1 + 0.044715 x x))) of each binary16 number, rounded to binary16."""
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    one, half, root, cubic = (np.float32(c) for c in (1, 0.5, 0.79788456080286535587989211986876, 0.044715))
    with np.errstate(all="ignore"):
        inner = (root * x) * (one + (cubic * x) * x)
        return ((half * x) * (one + libm.tanh(inner))).astype(np.float16).astype(np.float32)


def capped(x: Float32[np.ndarray, "*n"], cap: float) -> Float32[np.ndarray, "*n"]:
    """cap tanh(x / cap), the division by multiplication"""
    c = np.float32(cap)
    return libm.tanh(x * (np.float32(1) / c)) * c
