"""Any configuration but Hyper-Quantization's: its blocks are made, read back, and compared with the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import api
from hifi_ref import neighbours as nb
from hifi_ref.sweep import losses
from hifi_ref.sweep.configurations import Configuration

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64


def sums(
    x: Float32[np.ndarray, "rows n"], importance: Float32[np.ndarray, "n"] | None, configuration: Configuration
) -> Float64[np.ndarray, "sums"]:
    """The sums of losses.SUMS. Formats that cannot do without importance take ones where there is none.

    Raises ValueError where the scheme cannot store weights of this shape.
    """
    return losses.sums(x, decoded(x, importance, configuration), importance)


def decoded(
    x: Float32[np.ndarray, "rows n"], importance: Float32[np.ndarray, "n"] | None, configuration: Configuration
) -> Float32[np.ndarray, "rows n"]:
    """What is left of weights."""
    f = configuration.format
    if f is None:
        parameters = dict(configuration.parameters)
        stored = nb.encode(configuration.scheme, x, **parameters)
        return np.asarray(nb.decode(configuration.scheme, stored, x.shape, **parameters))
    if importance is None and f.requires_weights:
        importance = np.ones(x.shape[1], np.float32)
    return api.decode(f.name, api.encode(f.name, x, importance))
