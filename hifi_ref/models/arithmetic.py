"""What a mode of the forward pass must offer. The pages of the architectures take it from the model, and so serve all.

exact_mode.py has the release's bits, in NumPy; fast_mode.py the same formulas compiled by JAX. Arrays are theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from hifi_ref.models.rope import Turn


class Matrix(NamedTuple):
    """``blocks``: uint8[rows, row bytes], or [matrices, rows, row bytes], of the format ``kind``; ``columns`` weights
    a row."""

    kind: str
    blocks: np.ndarray
    columns: int


class Attend(Protocol):
    """float32[tokens, heads, size], and k, v [tokens, kv heads, size] -> [tokens, heads * size].

    Each token sees itself and those before, of the last ``window`` alone; scores are scaled, or capped by tanh; a head
    of k and v serves several of q.
    """

    def __call__(
        self, q: Any, k: Any, v: Any, scale: np.float32 | float = 1.0, window: int | None = None, cap: float = 0.0
    ) -> Any: ...


class Arithmetic(NamedTuple):
    """Every function is float32 to float32; rows are along the last axis."""

    decoded: Callable[[Matrix], Any]
    """A matrix's weights [rows, columns]."""
    product: Callable[[Matrix, Any], Any]
    """x [tokens, columns], encoded as the matrix's format is multiplied with, times one matrix: [tokens, rows]."""
    rms_norm: Callable[[Any, Any, float], Any]
    """x / sqrt(mean of x^2 + eps) times a weight: of (x, weight, eps)."""
    turn: Callable[..., Turn]
    """As rope.turn."""
    rotate: Callable[[Any, Turn], Any]
    """As rope.rotate."""
    attend: Attend
    softmax: Callable[[Any], Any]
    swiglu: Callable[[Any, Any], Any]
    """gate / (1 + exp(-gate)) times up: of (gate, up)."""
    geglu: Callable[[Any, Any], Any]
    """GELU of the gate, rounded to binary16, times up: of (gate, up)."""
    capped: Callable[[Any, float], Any]
    """cap tanh(x / cap): of (x, cap)."""
