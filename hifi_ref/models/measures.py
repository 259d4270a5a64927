"""What a model says of the second halves of chunks, and the perplexity of that.

Reference: perplexity and process_logits of llama-perplexity (llama.cpp v0.5.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.model_files.files import InputError
from hifi_ref.models import libm

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int

# What e may be raised to in binary64, with room for the uncertainty.
LARGEST = 700.0


class Estimate(NamedTuple):
    """``perplexity`` +- ``uncertainty``, e to the mean of the negative log-likelihoods, ``nll``, of ``scored`` ids."""

    perplexity: float
    uncertainty: float
    nll: float
    scored: int


def scored(context: int) -> slice:
    """The positions of a chunk whose logits count: of its second half all but the last."""
    return slice(context // 2, context - 1)


def negative_log_likelihoods(
    logits: Float32[np.ndarray, "n vocab"], targets: Int[np.ndarray, "n"], mode: str = "exact"
) -> Float64[np.ndarray, "n"]:
    """Of the ids that came next: differences and exponentials in binary32, sums in binary64.

    ``mode``: "exact" takes the exponentials of the C library, as the release's tool does; "fast" takes NumPy's.
    """
    z = logits - logits.max(axis=1, keepdims=True)
    exp = libm.exp if mode == "exact" else np.exp
    total = np.add.accumulate(exp(z).astype(np.float64), axis=1)[:, -1]
    return -(z[np.arange(len(targets)), targets].astype(np.float64) - np.array([math.log(t) for t in total]))


def estimate(values: Sequence[float] | Float64[np.ndarray, "n"]) -> Estimate:
    """The tool's: the spread of the mean from the sum of squares, 0 where it would be negative.

    Raises InputError where the perplexity is beyond binary64.
    """
    count = len(values)
    total = squares = 0.0
    for value in values:
        total += value
        squares += value * value
    mean = total / count
    variance = squares / count - mean * mean
    spread = math.sqrt(variance / (count - 1)) if variance > 0 and count > 1 else 0.0
    if mean > LARGEST:
        raise InputError(f"the perplexity is e to {mean:.1f}, more than a number holds: no model of such a text")
    perplexity = math.exp(mean)
    return Estimate(perplexity, spread * perplexity, mean, count)
