"""The part of a layer behind attention: one gated product, or several experts of which a router chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.models.model import Model, ModelError
from hifi_ref.models.products import linear, of_experts

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array

# What the weights of the chosen experts are divided by is no smaller: the least normal binary16 number.
LEAST_SUM = np.float32(2.0**-14)


def dense(
    model: Model, block: str, x: Float32[Array, "tokens width"],
    gated: Callable[[Any, Any], Any] | None = None,
) -> Float32[Array, "tokens width"]:  # fmt: skip
    """down(gated(gate x, up x)), SwiGLU by default; without a gate of its own the first half of ``up`` is the gate."""
    up = linear(model, f"{block}ffn_up", x)
    if model.has(f"{block}ffn_gate.weight"):
        gate = linear(model, f"{block}ffn_gate", x, up.shape[1])
    else:
        gate, up = up[:, : up.shape[1] // 2], up[:, up.shape[1] // 2 :]
    return linear(model, f"{block}ffn_down", (gated or model.arithmetic.swiglu)(gate, up), x.shape[1])


def experts(model: Model, block: str, x: Float32[Array, "tokens width"]) -> Float32[Array, "tokens width"]:
    """The best experts' outputs, weighted by their probabilities among the chosen, added best first."""
    used = model.count("expert_used_count")
    if used < 1:
        raise ModelError(f"{model.name}: {model.architecture}.expert_used_count is {used}")
    probabilities = np.asarray(model.arithmetic.softmax(linear(model, f"{block}ffn_gate_inp", x)))
    chosen = np.argsort(-probabilities, axis=1, kind="stable")[:, :used]
    weights = np.take_along_axis(probabilities, chosen, 1)
    total = np.add.accumulate(weights.astype(np.float64), axis=1)[:, -1:].astype(np.float32)
    weights = weights / np.maximum(total, LEAST_SUM)
    scale = np.float32(model.number("expert_weights_scale", 0.0))
    if scale not in (0, 1):
        weights = weights * scale
    up = of_experts(model, f"{block}ffn_up_exps", x[:, None], chosen)
    gate = of_experts(model, f"{block}ffn_gate_exps", x[:, None], chosen, up.shape[-1])
    hidden = model.arithmetic.swiglu(gate, up)
    outputs = of_experts(model, f"{block}ffn_down_exps", hidden, chosen, x.shape[1]) * weights[..., None]
    out = outputs[:, 0]
    for slot in range(1, used):
        out = out + outputs[:, slot]
    return out
