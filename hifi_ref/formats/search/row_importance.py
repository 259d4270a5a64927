"""Importance relative to a mean square, and the searches over blocks of a row that are weighed by it.

Sources: quantize_row_q4_0_impl to quantize_row_q5_1_impl, quantize_row_q*_K_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, fold, is_faint, mul, wall
from hifi_ref.formats.search.scale_and_min_search import FitWithMin, least_error_with_min
from hifi_ref.formats.search.scale_search import Fit, least_exponents, least_weighted_square_error

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32


def importance(
    x: Float32[Array, "n subs"], qw: Float32[Array, "n subs"], mean_square: Float32[Array, "subs"]
) -> tuple[Float32[Array, "n subs"], Bool[Array, "subs"]]:
    """The weight of each squared error, qw * sqrt(mean_square + x^2), and where it did not underflow.

    mean_square belongs to the row or super-block, so that large weights count more, but not without bound.
    """
    root = exact.sqrt(mean_square + mul(x, x))
    w = wall(mul(root, qw))

    some = exact.bits(mean_square) != 0

    def add(i, lost):
        return lost | (is_faint(w[i]) & (exact.bits(qw[i]) != 0) & some)

    lost = fold(x.shape[0], add, some & False, unroll=8)
    return w, ~lost & squares_clear(x)


def squares_clear(x: Float32[Array, "n subs"]) -> Bool[Array, "subs"]:
    """Whether all squares are zero or at least 2^-100, and so their mean over a row of 2^20 at least 2^-120."""
    (ex,) = least_exponents(x.shape[0], x.__getitem__)
    return ex >= -50


def least_error_in_rows(x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"], top: int) -> Fit:
    """least_weighted_square_error for blocks of a row, with importance relative to the row's mean square.

    Codes come as [rows, blocks, n].
    """
    columns, w, shape, clear = _columns_of_rows(x, qw)
    fit = least_weighted_square_error(columns, w.__getitem__, top)
    return Fit(fit.scale.reshape(shape), fit.codes.T.reshape(x.shape), (fit.clear & clear).reshape(shape))


def least_error_with_min_in_rows(
    x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"], top: int
) -> FitWithMin:
    """least_error_with_min for blocks of a row, 37 trials; see least_error_in_rows."""
    columns, w, shape, clear = _columns_of_rows(x, qw)
    fit = least_error_with_min(columns, w.__getitem__, top, -0.9, 0.05, 36)
    clear = (fit.clear & clear).reshape(shape)
    return FitWithMin(fit.scale.reshape(shape), fit.min.reshape(shape), fit.codes.T.reshape(x.shape), clear)


def _columns_of_rows(x, qw):
    lib = exact.library(x)
    rows, blocks, n = x.shape
    row = exact.columns(x, blocks * n)
    squares = exact.sum_in_order(mul(row, row))
    mean_square = div(squares, np.float32(blocks * n))
    (ex,) = least_exponents(row.shape[0], row.__getitem__)
    columns = exact.columns(x, n)
    qw = exact.columns(lib.broadcast_to(qw, x.shape), n)
    w, clear = importance(columns, qw, lib.repeat(mean_square, blocks))
    return columns, w, (rows, blocks), clear & lib.repeat(ex >= -50, blocks)
