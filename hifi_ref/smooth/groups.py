"""Which channels of a model may be divided in one place and multiplied in the next, its function unchanged.

    attn_norm    -> attn_q, attn_k, attn_v, or attn_qkv
    attn_v       -> attn_output: channel by channel; heads of q that share a head of v share its scales
    ffn_norm     -> ffn_gate, ffn_up, or all experts and their router
    ffn_up       -> ffn_down: SwiGLU and GeGLU multiply by it; each expert for itself
    output_norm  -> output, where the model has one: what is tied to the embedding stays

The norms behind attention and feed-forward of gemma's layers lie between a matrix and a sum, and give to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.models.model import Model
from hifi_ref.models.run import family_of
from hifi_ref.models.sizes import Sizes, sizes_of

if TYPE_CHECKING:
    from jaxtyping import Float


class Group(NamedTuple):
    """``channels`` of what ``giver`` makes, which the matrices ``takers`` are multiplied with.

    giver: a norm's vector, or a matrix whose rows from ``first`` on are the channels. router: a matrix that takes them
    too and is never quantized. Columns of the takers are runs of ``run``, each repeated ``shared`` times.
    """

    giver: str
    takers: tuple[str, ...]
    channels: int
    layer: int | None = None
    first: int = 0
    router: str | None = None
    shared: int = 1
    run: int = 1

    @property
    def name(self) -> str:
        return self.giver.removesuffix(".weight")

    @property
    def of_norm(self) -> bool:
        return self.giver.endswith("norm.weight")

    def channels_of(self, columns: Float[np.ndarray, "*m columns"]) -> Float[np.ndarray, "*m channels"]:
        """The largest of the columns that a channel goes to."""
        m = columns.shape[:-1]
        return columns.reshape(*m, -1, self.shared, self.run).max(axis=-2).reshape(*m, self.channels)

    def columns_of(self, channels: Float[np.ndarray, "*m channels"]) -> Float[np.ndarray, "*m columns"]:
        """For each column of the takers what belongs to its channel."""
        m = channels.shape[:-1]
        return channels.reshape(*m, -1, 1, self.run).repeat(self.shared, axis=-2).reshape(*m, -1)


def groups_of(model: Model) -> list[Group]:
    """In the order of the model's layers. Raises ModelError for a model that is not known or not whole."""
    family_of(model)
    sizes = sizes_of(model)
    found = [group for layer in range(sizes.layers) for group in _of_layer(model, layer, sizes)]
    if model.has("output.weight"):
        found.append(Group("output_norm.weight", ("output.weight",), sizes.width))
    return found


def _of_layer(model: Model, layer: int, s: Sizes) -> Iterator[Group]:
    def named(part: str) -> str:
        return f"blk.{layer}.{part}.weight"

    def rows(name: str) -> int:
        return model.matrix(name).blocks.shape[-2]

    qkv = ("attn_qkv",) if model.has(named("attn_qkv")) else ("attn_q", "attn_k", "attn_v")
    takers = tuple(map(named, qkv))
    values = s.kv_heads * s.head
    yield Group(named("attn_norm"), takers, s.width, layer)
    first = rows(takers[-1]) - values
    shared = s.heads // s.kv_heads
    yield Group(takers[-1], (named("attn_output"),), values, layer, first, shared=shared, run=s.head)

    router = named("ffn_gate_inp") if model.has(named("ffn_gate_inp")) else None
    up, gate, down = (named(f"ffn_{part}{'_exps' if router else ''}") for part in ("up", "gate", "down"))
    gated = model.has(gate)
    yield Group(named("ffn_norm"), (up, gate) if gated else (up,), s.width, layer, router=router)
    # Without a gate of its own the first half of ffn_up is the gate.
    hidden = rows(up) if gated else rows(up) // 2
    yield Group(up, (down,), hidden, layer, rows(up) - hidden)
