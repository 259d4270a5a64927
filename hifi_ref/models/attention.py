"""What attention works on: queries, keys and values of all tokens of one sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref.models.model import Model
from hifi_ref.models.products import linear
from hifi_ref.models.rope import Turn
from hifi_ref.models.sizes import Sizes

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array


def queries_keys_values(
    model: Model, block: str, x: Float32[Array, "tokens width"], sizes: Sizes, turn: Turn
) -> tuple[Array, Array, Array]:
    """float32[tokens, heads, head size] each: projected, q and k normed where the model does so, and rotated."""
    heads, kv, size, a = sizes.heads, sizes.kv_heads, sizes.head, model.arithmetic
    if model.has(f"{block}attn_qkv.weight"):
        qkv = linear(model, f"{block}attn_qkv", x, (heads + 2 * kv) * size)
        q, k, v = qkv[:, : heads * size], qkv[:, heads * size : -kv * size], qkv[:, -kv * size :]
    else:
        counts = {"q": heads, "k": kv, "v": kv}
        q, k, v = (linear(model, f"{block}attn_{letter}", x, n * size) for letter, n in counts.items())
    q, k, v = q.reshape(-1, heads, size), k.reshape(-1, kv, size), v.reshape(-1, kv, size)
    if model.has(f"{block}attn_q_norm.weight"):
        q = a.rms_norm(q, model.vector(f"{block}attn_q_norm.weight", size), sizes.eps)
        k = a.rms_norm(k, model.vector(f"{block}attn_k_norm.weight", size), sizes.eps)
    return a.rotate(q, turn), a.rotate(k, turn), v
