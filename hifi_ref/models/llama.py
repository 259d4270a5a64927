"""llama, and models built like it: mixtral (experts), qwen2 (biases), qwen3 and qwen3moe (norms of q and k), phi3
(fused projections, q scaled before the scores).

    x += attention(norm(x));  x += feed_forward(norm(x))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.models import rope
from hifi_ref.models.attention import attend, queries_keys_values
from hifi_ref.models.ends import embedded, logits_of
from hifi_ref.models.feed_forward import dense, experts
from hifi_ref.models.model import Model
from hifi_ref.models.norms import rms_norm
from hifi_ref.models.products import linear
from hifi_ref.models.sizes import sizes_of

if TYPE_CHECKING:
    from jaxtyping import Float32, Int

# Converters permute llama's q and k, so that a pair of a rotation are neighbours; the others' lie half a head apart.
NEIGHBOURS = ("llama",)


def forward(model: Model, ids: Int[np.ndarray, "tokens"]) -> Float32[np.ndarray, "tokens vocab"]:
    s = sizes_of(model)
    factors = model.vector("rope_freqs.weight", s.rotated // 2) if model.has("rope_freqs.weight") else None
    turn = rope.turn(len(ids), s.rotated, s.base, model.architecture not in NEIGHBOURS, s.scale, factors)
    scale = np.float32(1) / np.sqrt(np.float32(s.head))
    x = embedded(model, ids, s.width)
    for layer in range(s.layers):
        block = f"blk.{layer}."
        normed = rms_norm(x, model.vector(f"{block}attn_norm.weight", s.width), s.eps)
        q, k, v = queries_keys_values(model, block, normed, s, turn)
        seen = attend(q * scale, k, v) if model.architecture == "phi3" else attend(q, k, v, scale)
        x = x + linear(model, f"{block}attn_output", seen, s.width)

        normed = rms_norm(x, model.vector(f"{block}ffn_norm.weight", s.width), s.eps)
        several = model.has(f"{block}ffn_gate_inp.weight")
        x = x + (experts if several else dense)(model, block, normed)
    return logits_of(model, x, s.eps)
