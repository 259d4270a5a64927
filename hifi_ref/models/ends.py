"""The two ends of a model: from ids to vectors, and from vectors to logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.models.model import Model, ModelError
from hifi_ref.models.products import linear

if TYPE_CHECKING:
    from jaxtyping import Float32, Int

    from hifi_ref.exact import Array


def embedded(model: Model, ids: Int[np.ndarray, "tokens"], width: int) -> Float32[Array, "tokens width"]:
    """The ids' rows of token_embd, decoded. Raises ModelError where an id is none of the vocabulary."""
    rows = model.matrix("token_embd.weight", width)
    bad = np.flatnonzero((ids < 0) | (ids >= len(rows.blocks)))
    if bad.size:
        at = int(bad[0])
        raise ModelError(f"{model.name}: id {ids[at]} at place {at} is not in the vocabulary of {len(rows.blocks)}")
    return model.arithmetic.decoded(rows._replace(blocks=rows.blocks[ids]))


def logits_of(model: Model, x: Float32[Array, "tokens width"], eps: float) -> Float32[Array, "tokens vocab"]:
    """Normed, and multiplied with the output matrix, or with token_embd where the model has no other."""
    x = model.arithmetic.rms_norm(x, model.vector("output_norm.weight", x.shape[1]), eps)
    return linear(model, "output" if model.has("output.weight") else "token_embd", x)
