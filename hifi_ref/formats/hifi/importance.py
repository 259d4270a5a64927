"""How important a block or a tensor is, from its row of importance, and how many outliers that gives it.

Reference: ggml_hifi_compute_block_importance, ggml_hifi_compute_block_outlier_count,
ggml_hifi_compute_tensor_importance (HIFI fork, 1de093b32). They compute in binary64, first to last.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import clean_thread, div, mul

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int32

    from hifi_ref.exact import Array, Operand


def of_block(w: Float32[Array, "blocks 256"]) -> Float32[Array, "blocks"]:
    """0.2 to 0.9, from the spread of the importance within each block and from its peak."""
    if _by_callback(w):
        return clean_thread.call(of_block, w.shape[:-1], np.float32, w)
    with _binary64(w), exact.unwatched():
        mean, spread, peak = _statistics(w)
        lib = exact.library(w)
        some = mean >= 1e-10
        of = lib.where(some, mean, 1.0)
        variation, height = _div(spread, of, w), _div(_div(peak, of, w), np.float64(10), w)
        share = (_mul(np.float64(0.6), variation, w) + _mul(np.float64(0.4), height, w)) / 2
        share = lib.where(some, share, 0.0).astype(np.float32)
    return lib.where(some, _between(share), np.float32(0.3))


def of_tensor(w: Float32[Array, "tensors k"]) -> Float32[Array, "tensors"]:
    """0.2 to 0.9, from the spread of each tensor's importance."""
    if _by_callback(w):
        return clean_thread.call(of_tensor, w.shape[:-1], np.float32, w)
    with _binary64(w), exact.unwatched():
        mean, spread, _ = _statistics(w)
        lib = exact.library(w)
        some = mean >= 1e-10
        share = _div(_div(spread, lib.where(some, mean, 1.0), w), np.float64(3), w).astype(np.float32)
    return lib.where(some, _between(share), np.float32(0.5))


def outlier_count(importance: Float32[Array, "blocks"], count: int, model_params: float) -> Int32[Array, "blocks"]:
    """1 to 8: ``count`` for a block of middling importance, half as many for none, up to half as many more."""
    lib = exact.library(importance)
    f = np.float32
    low, high, less = f(0.3), f(0.7), f(0.4)
    scale = lib.where(
        importance > high,
        f(1) + div(mul(importance - high, f(0.5)), f(1.0) - high),
        lib.where(importance < low, f(0.5) + mul(div(importance, low), f(0.5)), f(1)),
    )
    if np.float32(model_params) >= 7:
        scale = lib.where(importance < less, mul(scale, f(0.8)), scale)
    return lib.clip(exact.i32(exact.round_half_away(mul(scale, f(count)))), 1, 8)


def _between(share: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    f = np.float32
    # Added to 0.2, a faint share is lost either way
    with exact.unwatched():
        return exact.library(share).clip(f(0.2) + mul(share, f(0.7)), f(0.2), f(0.9))


# BINARY64 IN BOTH LANES


def _by_callback(w: Array) -> bool:
    """Where the back end has no binary64, NumPy has."""
    return exact.is_jax(w) and exact.is_by_hand("binary64 sums")


def _binary64(w: Array) -> Any:
    return sys.modules["jax"].enable_x64(True) if exact.is_jax(w) else nullcontext()


def _sealed(value: Any, w: Array) -> Float64[Array, "..."]:
    """As exact.mul seals a product: a zero that no compiler knows, here from an element of w."""
    if not exact.is_jax(w):
        return value
    lax = sys.modules["jax"].lax
    zero = exact.hidden_zero(w[..., 0]).astype(np.uint64)
    zero = zero.reshape(*zero.shape, *[1] * (np.ndim(value) - zero.ndim))
    return lax.bitcast_convert_type(lax.bitcast_convert_type(value, np.uint64) ^ zero, np.float64)


def _mul(a: Operand, b: Operand, w: Array) -> Float64[Array, "..."]:
    return _sealed(a * b, w)


def _div(a: Float64[Array, "..."], b: Operand, w: Array) -> Float64[Array, "..."]:
    b = exact.library(w).broadcast_to(exact.library(w).asarray(b, np.float64), a.shape)
    return _sealed(a / _sealed(b, w), w)


def _sum(terms: Float64[Array, "*n k"]) -> Float64[Array, "*n"]:
    """First to last along the last axis."""
    if not exact.is_jax(terms):
        return np.add.accumulate(terms, axis=-1)[..., -1] + 0.0
    turned = exact.library(terms).moveaxis(terms, -1, 0)
    return exact.fold(len(turned), lambda i, total: total + turned[i], turned[0] * 0, unroll=16)


def _statistics(w: Float32[Array, "*n k"]) -> tuple[Float64[Array, "*n"], ...]:
    """Mean, standard deviation and largest value, binary64."""
    wide, count = w.astype(np.float64), np.float64(w.shape[-1])
    mean = _div(_sum(wide), count, w)
    variance = _div(_sum(_mul(wide, wide, w)), count, w) - _mul(mean, mean, w)
    lib = exact.library(w)
    return mean, lib.sqrt(lib.maximum(variance, 0.0)), lib.maximum(wide.max(axis=-1), 0.0)
