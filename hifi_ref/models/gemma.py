"""gemma2 and gemma3: embeddings scaled, norms before and after attention and feed-forward, most layers local.

x += norm(attention(norm(x)));  x += norm(feed_forward(norm(x)))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.models.attention import queries_keys_values
from hifi_ref.models.ends import embedded, logits_of
from hifi_ref.models.feed_forward import dense
from hifi_ref.models.model import Model
from hifi_ref.models.products import linear
from hifi_ref.models.rope import Turn
from hifi_ref.models.sizes import Sizes, sizes_of

if TYPE_CHECKING:
    from jaxtyping import Float32, Int

    from hifi_ref.exact import Array

# Of so many layers the last sees everything; the others see a window.
PERIOD = {"gemma2": 2, "gemma3": 6}
# The largest model of each takes the width of a head from the embedding: so many layers it has.
LARGEST = {"gemma2": 46, "gemma3": 62}


def forward(model: Model, ids: Int[np.ndarray, "tokens"]) -> Float32[Array, "tokens vocab"]:
    s, a, second = sizes_of(model), model.arithmetic, model.architecture == "gemma2"
    window = model.count("attention.sliding_window", 4096 if second else 0)
    period = model.count("attention.sliding_window_pattern", PERIOD[model.architecture])
    cap = model.number("attn_logit_softcapping", 50.0) if second else 0.0
    everywhere = a.turn(len(ids), s.rotated, s.base, True, s.scale)
    local = _local_turn(model, s, len(ids), second)
    scale = _scale_of_queries(model, s)
    x = embedded(model, ids, s.width) * np.sqrt(np.float32(s.width))
    for layer in range(s.layers):
        block = f"blk.{layer}."
        is_local = bool(window) and layer % period < period - 1

        def norm(x: Array, name: str, block: str = block) -> Array:
            return a.rms_norm(x, model.vector(f"{block}{name}.weight", s.width), s.eps)

        turn = local if is_local else everywhere
        q, k, v = queries_keys_values(model, block, norm(x, "attn_norm"), s, turn)
        seen = a.attend(q * scale, k, v, window=window if is_local else None, cap=cap)
        x = norm(linear(model, f"{block}attn_output", seen, s.width), "post_attention_norm") + x
        x = norm(dense(model, block, norm(x, "ffn_norm"), a.geglu), "post_ffw_norm") + x
    out = logits_of(model, x, s.eps)
    final = model.number("final_logit_softcapping", 30.0 if second else 0.0)
    return a.capped(out, final) if final else out


def _local_turn(model: Model, s: Sizes, tokens: int, second: bool) -> Turn:
    """gemma3's windows have a base of their own, and no scale."""
    base = model.number("rope.freq_base_swa", s.base if second else 10000.0)
    return model.arithmetic.turn(tokens, s.rotated, base, True, s.scale if second else 1.0)


def _scale_of_queries(model: Model, s: Sizes) -> np.float32:
    size = s.width // s.heads if s.layers == LARGEST[model.architecture] else s.head
    return np.float32(1) / np.sqrt(np.float32(size))
