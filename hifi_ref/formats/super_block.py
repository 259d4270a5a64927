"""What super-blocks of 256 weights share: fitting the sub-blocks of K formats, and the float order of dot products.

Reference: quantize_row_q*_K_ref and _impl (ggml-quants.c), ggml_vec_dot_q*_K_q8_K_generic and
ggml_vec_dot_iq*_q8_K_generic (ggml-cpu/quants.c), llama.cpp v0.5.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32, fold, mul, nearest_int, product, ratio
from hifi_ref.formats import q8_k
from hifi_ref.formats.search import row_importance, scale_and_min_search, single_steps

if TYPE_CHECKING:
    from jaxtyping import Float32, Int, Int8, Int16, Int32, Integer, UInt8

    from hifi_ref.exact import Array


# FITTING


class SuperFit(NamedTuple):
    """A super-block with mins: the f16 scales of its scales and mins, its packed sub-block scales, all codes."""

    d: Float32[Array, "rows blocks"]
    dmin: Float32[Array, "rows blocks"]
    scales: UInt8[Array, "rows blocks bytes"]
    codes: Int32[Array, "rows blocks subs n"]


def fit_with_mins(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"] | None,
    sub: int,
    top: int,
    scale_top: int,
    pack: Callable[[Array, Array], Array],
    unpack: Callable[[Array], tuple[Array, Array]],
    trials: tuple[float, float, int],
    thorough: bool = False,
) -> SuperFit:
    """Sub-blocks of ``sub`` weights with codes 0..top, each with a scale and a min in 0..scale_top.

    Without importance, sub-blocks of 16 (Q2_K) weigh absolute errors by |x|, those of 32 squared errors by rms + |x|.
    With it, every squared error counts qw * sqrt(mean square + x^2), the mean square doubled for sub-blocks of 32.
    ``thorough``: the searches of an encoding with importance also where there is none, rms + |x| standing for it, the
    rms that of the super-block, its mean square doubled.
    """
    lib = exact.library(x)
    rows, blocks, _ = x.shape
    subs = 256 // sub
    columns = exact.columns(x, sub)

    # SUB-BLOCKS
    if weights is None and not thorough:
        (squares,) = exact.running_sums(sub, lambda i: (mul(columns[i], columns[i], "mean square"),), at_once=True)
        rms = exact.sqrt(div(squares, np.float32(sub)))

        def weight(i: Any) -> Array:
            return abs(columns[i]) if sub == 16 else rms + abs(columns[i])

        fit = scale_and_min_search.least_error_with_min(columns, weight, top, *trials, absolute=sub == 16)
    else:
        mean_square = super_block_mean_square(x, times=1 if sub == 16 else 2)
        if weights is None:
            w = exact.wall(lib.repeat(exact.sqrt(mean_square), subs) + abs(columns))
        else:
            w = importance_columns(x, weights, sub, mean_square)
        fit = scale_and_min_search.least_error_with_min(columns, w.__getitem__, top, -0.9, 0.05, 36)
    sub_scales, sub_mins = fit.scale.reshape(-1, subs).T, fit.min.reshape(-1, subs).T

    # SCALES OF THE SCALES
    if weights is None and not thorough:
        d, scales = _share_of_largest(sub_scales, scale_top)
        dmin, mins = _share_of_largest(sub_mins, scale_top)
    else:
        sw = exact.sum_in_order(w).reshape(-1, subs).T
        # One search for the scales and the mins, side by side
        both = single_steps.least_weighted_square_error_from_zero(
            lib.stack([sub_scales, sub_mins], axis=2).reshape(subs, -1),
            lib.stack([sw, sw], axis=2).reshape(subs, -1),
            scale_top,
        )
        d, dmin = both.scale.reshape(-1, 2).T
        scales, mins = both.codes[:, 0::2], both.codes[:, 1::2]
    packed = pack(scales.T, mins.T)

    # CODES anew, for the scales that are stored
    d, dmin = exact.round_f16(d), exact.round_f16(dmin)
    stored_scales, stored_mins = unpack(packed)
    scale = (d[:, None] * f32(stored_scales)).reshape(-1)
    minimum = exact.wall((dmin[:, None] * f32(stored_mins)).reshape(-1))
    codes = codes_for_scale(columns + minimum, scale, 0, top, otherwise=fit.codes, shape=(rows, blocks, subs, sub))

    return SuperFit(
        d.reshape(rows, blocks),
        dmin.reshape(rows, blocks),
        packed.reshape(rows, blocks, -1),
        codes,
    )


def _share_of_largest(values: Float32[Array, "subs n"], top: int) -> tuple[Float32[Array, "n"], Int32[Array, "subs n"]]:
    """largest / top, and each value's share of the largest in units of 1 / top. Where none is above 0, zeros."""
    lib = exact.library(values)
    largest = lib.maximum(lib.max(values, axis=0), np.float32(0))
    some = largest > 0
    inverse = lib.where(some, div(np.float32(top), lib.where(some, largest, np.float32(1))), np.float32(0))
    return div(largest, np.float32(top)), nearest_int(product(values, inverse))


def super_block_mean_square(x: Float32[Array, "rows blocks 256"], times: int) -> Float32[Array, "n"]:
    """The mean of x^2 in each super-block, first to last, some times over: multiplied first, since it can overflow."""
    whole = exact.columns(x, 256)
    (total,) = exact.running_sums(256, lambda i: (mul(whole[i], whole[i], "mean square"),), at_once=True)
    return div(mul(total, np.float32(times)), np.float32(256))


def importance_columns(
    x: Float32[Array, "rows blocks 256"],
    weights: Float32[Array, "blocks 256"],
    sub: int,
    mean_square: Float32[Array, "n"],
) -> Float32[Array, "sub subs"]:
    """row_importance.importance for every sub-block of x, elements on the leading axis."""
    lib = exact.library(x)
    qw = exact.columns(lib.broadcast_to(weights, x.shape), sub)
    return row_importance.importance(exact.columns(x, sub), qw, lib.repeat(mean_square, 256 // sub))


def codes_for_scale(
    x: Float32[Array, "n subs"],
    scale: Float32[Array, "subs"],
    low: int,
    high: int,
    otherwise: Int32[Array, "n subs"],
    shape: tuple[int, ...],
) -> Int32[Array, "..."]:
    """x / scale to the nearest integer in low..high, minus low; ``otherwise`` where the scale is 0. In weight order."""
    lib = exact.library(x)
    scale = exact.wall(scale)
    nearest = nearest_int(ratio(x, lib.where(scale != 0, scale, np.float32(1))))
    codes = lib.where(scale != 0, lib.clip(nearest, low, high) - low, otherwise)
    return exact.i32(exact.rows(codes.astype(np.uint8)).reshape(shape))


# DOT


def int_sixteenths(
    scales: Integer[Array, "rows blocks subs"],
    codes: Callable[[int], Array],
    qa: Int8[Array, "blocks 256"],
) -> Int32[Array, "rows blocks 16"]:
    """The sums of scale * code * q over the positions that are equal modulo 16, exact.

    codes(s) gives those of sub-block s, int8 or uint8[rows, blocks, 32 or 16], at most 63 in size.
    """
    subs = scales.shape[-1]
    n = 256 // subs
    total: Array | None = None
    for s in range(subs):
        # 16 bits hold a sub-block's share: at most 2 * 31 * 128, or 63 * 128.
        products = exact.i16(codes(s)) * exact.i16(qa[:, n * s : n * s + n])
        share = products if n == 16 else products[..., :16] + products[..., 16:]
        scaled = exact.i32(scales[..., s, None]) * exact.i32(share)
        total = scaled if total is None else total + scaled
    assert total is not None
    return total


def dot_symmetric(
    d: Float32[Array, "rows blocks"],
    scales: Integer[Array, "rows blocks subs"],
    codes: Callable[[int], Array],
    a: UInt8[Array, "blocks 292"],
    corrections: Float32[Array, "rows blocks n"] | None = None,
) -> Float32[Array, "rows"]:
    """Eight running sums over the super-blocks, one for each position modulo 8; then these eight, first to last.

    The final sum begins with the corrections, where there are any.
    """
    nothing = exact.zeros_to_add_to(d[:, 0])
    start = nothing if corrections is None else exact.sum_of_rows(corrections.reshape(len(d), -1))
    return _add_eighths(start, d, scales, codes, a)


def dot_with_mins(
    d: Float32[Array, "rows blocks"],
    dmin: Float32[Array, "rows blocks"],
    scales: UInt8[Array, "rows blocks subs"],
    mins: UInt8[Array, "rows blocks subs"],
    codes: Callable[[int], Array],
    a: UInt8[Array, "blocks 292"],
    corrections: Float32[Array, "rows blocks n"] | None = None,
) -> Float32[Array, "rows"]:
    """As dot_symmetric, but the final sum begins with minus the mins' share, subtracted super-block by super-block.

    The corrections of a super-block follow its mins' share.
    """
    da, _, bsums = q8_k.unpack(a)
    share = product(dmin * da, f32(sums_of_mins(mins, bsums)))
    return _add_eighths(exact.sum_of_rows(followed_by(-share, corrections)), d, scales, codes, a)


def followed_by(
    terms: Float32[Array, "rows blocks"], corrections: Float32[Array, "rows blocks n"] | None
) -> Float32[Array, "rows terms"]:
    """Each block's term, and after it the block's corrections."""
    if corrections is None:
        return terms
    both = exact.library(terms).concatenate([terms[..., None], corrections], axis=-1)
    return both.reshape(len(terms), -1)


def _add_eighths(
    start: Float32[Array, "rows"],
    d: Float32[Array, "rows blocks"],
    scales: Integer[Array, "rows blocks subs"],
    codes: Callable[[int], Array],
    a: UInt8[Array, "blocks 292"],
) -> Float32[Array, "rows"]:
    da, qa, _ = q8_k.unpack(a)
    sums, scale = int_sixteenths(scales, codes, qa), d * da

    def add(i: Any, total: Array) -> Array:
        return total + product(scale[:, i, None], f32(sums[:, i, :8] + sums[:, i, 8:]))

    zeros = exact.library(d).broadcast_to(exact.zeros_to_add_to(d[:, :1]), (len(d), 8))
    eighths = fold(d.shape[1], add, zeros, unroll=8)
    return fold(8, lambda i, total: total + eighths[:, i], start, unroll=8)


def sums_of_mins(mins: UInt8[Array, "rows blocks subs"], bsums: Int16[Array, "blocks 16"]) -> Int[Array, "rows blocks"]:
    """sum of min * (sum of the activations it applies to), exact in int32."""
    pairs = exact.i32(bsums).reshape(bsums.shape[0], mins.shape[-1], -1).sum(axis=-1)
    return (exact.i32(mins) * pairs).sum(axis=-1)


def dot_with_q8_k(
    d: Float32[Array, "rows blocks"],
    scales: Int32[Array, "rows blocks subs"],
    codes: Int8[Array, "rows blocks subs n"],
    a: UInt8[Array, "blocks 292"],
) -> Float32[Array, "rows"]:
    """Block after block, (d * d_a) * the integer sum of scale * code * q."""
    da, qa, _ = q8_k.unpack(a)
    total = scaled_sum(scales, codes, qa)
    return exact.sum_of_rows(product(d * da, f32(total)))


def scaled_sum(
    scales: Int32[Array, "rows blocks subs"],
    codes: Int8[Array, "rows blocks subs n"],
    qa: Int8[Array, "blocks 256"],
) -> Int32[Array, "rows blocks"]:
    """sum over sub-blocks of scale * (sum of code * q), exact in int32."""
    rows, blocks, subs, n = codes.shape
    flat = codes.reshape(rows, blocks * subs, n)
    sums = exact.int_dot(flat, qa.reshape(blocks * subs, n)).reshape(rows, blocks, subs)
    return (exact.i32(scales) * sums).sum(axis=-1, dtype=np.int32)
