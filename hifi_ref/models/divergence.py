"""How far what a model says lies from what its base says: by the rules of llama-perplexity --kl-divergence, or exactly.

"tool": the base's log-probabilities are kept in 16 bits, between its largest logit and 16 below (or its smallest), what
is less likely than e^-16 does not count, and terms are rounded to binary32. "exact": in binary64 throughout.

Reference: log_softmax and kl_divergence of llama-perplexity (llama.cpp v0.5.0).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.models import libm
from hifi_ref.models.measures import Estimate, estimate

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, Int

RULES = ("tool", "exact")
STEPS, RANGE = np.float32(65535), np.float32(16)
# Below so many positions the tool gives no uncertainty.
FEW = 10


class Compared(NamedTuple):
    """Of each position: the negative log-likelihood of the id that came next, by the model and by the base; the
    divergence in nats; whether both find the same id likeliest; and the probabilities of the one that came."""

    nll: Float64[np.ndarray, "n"]
    nll_base: Float64[np.ndarray, "n"]
    divergence: Float64[np.ndarray, "n"]
    same: Bool[np.ndarray, "n"]
    p: Float64[np.ndarray, "n"]
    p_base: Float64[np.ndarray, "n"]


def compared(
    base: Float32[np.ndarray, "n vocab"], logits: Float32[np.ndarray, "n vocab"], targets: Int[np.ndarray, "n"],
    rule: str, mode: str = "exact",
) -> Compared:  # fmt: skip
    """``rule``: of RULES. ``mode``: "exact" takes the C library's exponentials for the tool's rule, "fast" NumPy's."""
    if rule == "tool":
        return _by_tool(base, logits, targets, libm.exp if mode == "exact" else np.exp)
    rows = np.arange(len(targets))
    p, q = _log_softmax(base), _log_softmax(logits)
    divergence = (np.exp(p) * (p - q)).sum(axis=1)
    nll, nll_base = -q[rows, targets], -p[rows, targets]
    return Compared(nll, nll_base, divergence, p.argmax(1) == q.argmax(1), np.exp(-nll), np.exp(-nll_base))


def _by_tool(base, logits, targets, exp) -> Compared:
    rows = np.arange(len(targets))
    p_log = _kept(base, exp)
    top = logits.max(axis=1)
    whole = (top + _log_of_sum(logits, top, exp))[:, None]
    counts = p_log > -RANGE
    terms = np.zeros_like(p_log)
    terms[counts] = exp(p_log[counts]) * ((p_log - logits) + whole)[counts]
    nll, nll_base = whole[:, 0] - logits[rows, targets], -p_log[rows, targets]
    same = logits.argmax(1) == p_log.argmax(1)
    p, p_base = exp(-nll).astype(np.float64), exp(-nll_base).astype(np.float64)
    total = terms.astype(np.float64).sum(axis=1)
    return Compared(nll.astype(np.float64), nll_base.astype(np.float64), total, same, p, p_base)


def _kept(logits: Float32[np.ndarray, "n vocab"], exp) -> Float32[np.ndarray, "n vocab"]:
    """Log-probabilities as they are read again from what --save-all-logits keeps."""
    top = logits.max(axis=1)
    low = np.maximum(logits.min(axis=1), top - RANGE)
    least = ((low - top) - _log_of_sum(logits, top, exp))[:, None]
    scale = ((top - low) / STEPS)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = (np.float32(1) / scale) * (logits - low[:, None])
    codes = np.where((logits > low[:, None]) & (scale > 0), np.rint(steps), np.float32(0))
    return scale * codes + least


def _log_of_sum(logits, top, exp) -> Float32[np.ndarray, "n"]:
    """Sums first to last in binary64, their logarithms in binary32."""
    total = np.add.accumulate(exp(logits - top[:, None]).astype(np.float64), axis=1)[:, -1]
    return np.log(total).astype(np.float32)


def _log_softmax(logits) -> Float64[np.ndarray, "n vocab"]:
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


class Value(NamedTuple):
    """A mean and its standard error."""

    value: float
    uncertainty: float


class Figures(NamedTuple):
    """``change``: of the perplexity, in per cent of the base's. ``divergence``: the mean, in nats, and ``quantiles`` of
    it from "minimum" to "maximum". ``same_top``, and the change in the right id's probability, as shares of 1."""

    perplexity: Estimate
    base: Estimate
    change: Value
    log_ratio: Value
    divergence: Value
    quantiles: dict[str, float]
    same_top: Value
    rms_change_of_p: Value
    mean_change_of_p: Value
    positions: int


QUANTILES = {
    "minimum": 0.0, "1%": 0.01, "10%": 0.1, "median": 0.5, "90%": 0.9, "99%": 0.99, "99.9%": 0.999, "maximum": 1.0,
}  # fmt: skip


def figures(of: Compared) -> Figures:
    """As the tool prints them; quantiles are linear between neighbours. Raises InputError as ``estimate`` does."""
    count = len(of.nll)
    nll, nll_base, change_of_p = _mean(of.nll), _mean(of.nll_base), of.p - of.p_base
    both = float((of.nll * of.nll_base).mean()) - nll.value * nll_base.value
    covariance = both / (count - 1) if count >= FEW else 0.0
    spread = nll.uncertainty**2 + nll_base.uncertainty**2 - 2 * covariance
    log_ratio = Value(nll.value - nll_base.value, math.sqrt(max(spread, 0.0)))
    ratio = math.exp(log_ratio.value)
    square = _mean(change_of_p**2)
    rms, top = math.sqrt(square.value), float(of.same.mean())
    return Figures(
        estimate(of.nll), estimate(of.nll_base), Value(100 * (ratio - 1), 100 * ratio * log_ratio.uncertainty),
        log_ratio, _mean(of.divergence),
        {name: float(np.quantile(of.divergence, share)) for name, share in QUANTILES.items()},
        Value(top, math.sqrt(top * (1 - top) / max(1, count - 1))),
        Value(rms, 0.5 / rms * square.uncertainty if rms else 0.0), _mean(change_of_p), count,
    )  # fmt: skip


def _mean(values: Float64[np.ndarray, "n"]) -> Value:
    mean = float(values.mean())
    spread = float((values * values).mean()) - mean * mean
    return Value(mean, math.sqrt(spread / (len(values) - 1)) if spread > 0 and len(values) > FEW else 0.0)
