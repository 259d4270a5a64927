"""Rotary positions, as ggml_rope_cache_init and ggml_compute_forward_rope of the release compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.models import libm

if TYPE_CHECKING:
    from jaxtyping import Float32

Function = Callable[[np.ndarray], np.ndarray]


class Turn(NamedTuple):
    """``cos`` and ``sin`` of each position and pair, float32[tokens, pairs]. ``halves``: a pair lies half the rotated
    part apart ("neox"); else its two are neighbours ("norm")."""

    cos: np.ndarray
    sin: np.ndarray
    halves: bool


def turn(
    tokens: int, rotated: int, base: float, halves: bool, scale: float = 1.0,
    factors: Float32[np.ndarray, "pairs"] | None = None, cos: Function = libm.cos, sin: Function = libm.sin,
) -> Turn:  # fmt: skip
    """The angles of the positions 0, 1, ..: the angle of a pair is that of the pair before times base^(-2 / rotated).

    ``factors`` divide the angles, and ``scale`` multiplies them; ``cos`` and ``sin`` are taken of them.
    """
    step = libm.power(base, float(np.float32(-2) / np.float32(rotated)))
    angle = np.arange(tokens, dtype=np.float32)
    angles = np.empty((tokens, rotated // 2), np.float32)
    for pair in range(rotated // 2):
        angles[:, pair] = angle if factors is None else angle / factors[pair]
        angle = angle * step
    angles *= np.float32(scale)
    return Turn(cos(angles), sin(angles), halves)


def rotate(x: Float32[np.ndarray, "tokens heads size"], by: Turn) -> Float32[np.ndarray, "tokens heads size"]:
    """Turn the pairs of each head; what lies behind the rotated part stays."""
    n = 2 * by.cos.shape[1]
    first, second = (slice(0, n // 2), slice(n // 2, n)) if by.halves else (slice(0, n, 2), slice(1, n, 2))
    cos, sin = by.cos[:, None], by.sin[:, None]
    a, b, out = x[..., first], x[..., second], x.copy()
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out
