"""Importance relative to a mean square, and the searches over blocks of a row that are weighed by it.

Sources: quantize_row_q4_0_impl to quantize_row_q5_1_impl, quantize_row_q*_K_impl (ggml-quants.c, v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, mul
from hifi_ref.formats.search.scale_and_min_search import least_error_with_min
from hifi_ref.formats.search.scale_search import least_weighted_square_error

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from hifi_ref.exact import Array


def importance(
    x: Float32[Array, "n subs"], qw: Float32[Array, "n subs"], mean_square: Float32[Array, "subs"]
) -> Float32[Array, "n subs"]:
    """The weight of each squared error, qw * sqrt(mean_square + x^2).

    mean_square belongs to the row or super-block, so that large weights count more, but not without bound.
    """
    return exact.held(lambda: exact.rounded(mul(exact.sqrt(mean_square + mul(x, x, "spread")), qw)))


def least_error_in_rows(
    x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"], top: int
) -> tuple[Float32[Array, "rows blocks"], Int32[Array, "rows blocks n"]]:
    """Scales and codes: least_weighted_square_error per block, importance being relative to the row's mean square."""
    columns, w = _columns_of_rows(x, qw)
    fit = least_weighted_square_error(columns, w.__getitem__, top)
    return fit.scale.reshape(x.shape[:2]), fit.codes.T.reshape(x.shape)


def least_error_with_min_in_rows(
    x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"], top: int
) -> tuple[Float32[Array, "rows blocks"], Float32[Array, "rows blocks"], Int32[Array, "rows blocks n"]]:
    """Scales, mins and codes: least_error_with_min per block, 37 trials; see least_error_in_rows."""
    columns, w = _columns_of_rows(x, qw)
    fit = least_error_with_min(columns, w.__getitem__, top, -0.9, 0.05, 36)
    return fit.scale.reshape(x.shape[:2]), fit.min.reshape(x.shape[:2]), fit.codes.T.reshape(x.shape)


def _columns_of_rows(
    x: Float32[Array, "rows blocks n"], qw: Float32[Array, "blocks n"]
) -> tuple[Float32[Array, "n subs"], Float32[Array, "n subs"]]:
    """The blocks' weights as columns, and their importance."""
    lib = exact.library(x)
    _, blocks, n = x.shape
    row = exact.columns(x, blocks * n)
    mean_square = div(exact.sum_in_order(mul(row, row, "mean square")), np.float32(blocks * n))
    columns = exact.columns(x, n)
    qw = exact.columns(lib.broadcast_to(qw, x.shape), n)
    return columns, importance(columns, qw, lib.repeat(mean_square, blocks))
