"""Attention of all tokens of one sequence, as the release computes it without flash attention, with a float32 cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.models.functions import capped, softmax
from hifi_ref.models.model import Model
from hifi_ref.models.norms import rms_norm
from hifi_ref.models.products import float_products, linear
from hifi_ref.models.rope import Turn, rotate
from hifi_ref.models.sizes import Sizes

if TYPE_CHECKING:
    from jaxtyping import Float32


def queries_keys_values(
    model: Model, block: str, x: Float32[np.ndarray, "tokens width"], sizes: Sizes, turn: Turn
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32[tokens, heads, head size] each: projected, q and k normed where the model does so, and rotated."""
    heads, kv, size = sizes.heads, sizes.kv_heads, sizes.head
    if model.has(f"{block}attn_qkv.weight"):
        qkv = linear(model, f"{block}attn_qkv", x, (heads + 2 * kv) * size)
        q, k, v = np.split(qkv, np.cumsum([heads * size, kv * size]), axis=1)
    else:
        counts = {"q": heads, "k": kv, "v": kv}
        q, k, v = (linear(model, f"{block}attn_{letter}", x, n * size) for letter, n in counts.items())
    q, k, v = q.reshape(-1, heads, size), k.reshape(-1, kv, size), v.reshape(-1, kv, size)
    if model.has(f"{block}attn_q_norm.weight"):
        q = rms_norm(q, model.vector(f"{block}attn_q_norm.weight", size), sizes.eps)
        k = rms_norm(k, model.vector(f"{block}attn_k_norm.weight", size), sizes.eps)
    return rotate(q, turn), rotate(k, turn), v


def attend(
    q: Float32[np.ndarray, "tokens heads size"],
    k: Float32[np.ndarray, "tokens kv_heads size"],
    v: Float32[np.ndarray, "tokens kv_heads size"],
    scale: np.float32 | float = 1.0,
    window: int | None = None,
    cap: float = 0.0,
) -> Float32[np.ndarray, "tokens width"]:
    """Each token sees itself and those before, of the last ``window`` alone; a head of k and v serves several of q."""
    tokens, heads, size = q.shape
    kv = k.shape[1]
    q = q.transpose(1, 0, 2).reshape(kv, -1, size)
    scores = float_products(k.transpose(1, 0, 2), q)
    if cap:
        scores = capped(scores, cap)
    back = np.arange(tokens)[:, None] - np.arange(tokens)
    allowed = (back >= 0) & (back < (window or tokens))
    # The release's rows are as long as its cache, a multiple of four.
    missing = -tokens % 4
    scores = np.pad(scores.reshape(heads, tokens, tokens), ((0, 0), (0, 0), (0, missing)))
    shares = softmax(scores, scale, np.pad(allowed, ((0, 0), (0, missing))))[..., :tokens]
    out = float_products(v.transpose(1, 2, 0), shares.reshape(kv, -1, tokens))
    return out.reshape(heads, tokens, size).transpose(1, 0, 2).reshape(tokens, -1)
