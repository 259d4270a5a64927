"""llama, and models built like it: mixtral (experts), qwen2 (biases), qwen3 and qwen3moe (norms of q and k), phi3
(fused projections, q scaled before the scores).

    x += attention(norm(x));  x += feed_forward(norm(x))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.models.attention import queries_keys_values
from hifi_ref.models.ends import embedded, logits_of
from hifi_ref.models.feed_forward import dense, experts
from hifi_ref.models.model import Model
from hifi_ref.models.products import linear
from hifi_ref.models.sizes import sizes_of

if TYPE_CHECKING:
    from jaxtyping import Float32, Int

    from hifi_ref.exact import Array

# Converters permute llama's q and k, so that a pair of a rotation are neighbours; the others' lie half a head apart.
NEIGHBOURS = ("llama",)


def forward(model: Model, ids: Int[np.ndarray, "tokens"]) -> Float32[Array, "tokens vocab"]:
    s, a = sizes_of(model), model.arithmetic
    factors = model.vector("rope_freqs.weight", s.rotated // 2) if model.has("rope_freqs.weight") else None
    turn = a.turn(len(ids), s.rotated, s.base, model.architecture not in NEIGHBOURS, s.scale, factors)
    scale = np.float32(1) / np.sqrt(np.float32(s.head))
    x = embedded(model, ids, s.width)
    for layer in range(s.layers):
        block = f"blk.{layer}."
        normed = a.rms_norm(x, model.vector(f"{block}attn_norm.weight", s.width), s.eps)
        q, k, v = queries_keys_values(model, block, normed, s, turn)
        seen = a.attend(q * scale, k, v) if model.architecture == "phi3" else a.attend(q, k, v, scale)
        x = x + linear(model, f"{block}attn_output", seen, s.width)

        normed = a.rms_norm(x, model.vector(f"{block}ffn_norm.weight", s.width), s.eps)
        several = model.has(f"{block}ffn_gate_inp.weight")
        x = x + (experts if several else dense)(model, block, normed)
    return logits_of(model, x, s.eps)
