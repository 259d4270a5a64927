"""LLM.int8(): a signed byte a value and a float32 a row; products in whole numbers, columns of outliers apart.

    array           dtype   holds
    codes           i8      [rows, columns]
    row_stats       f32     [rows]: the largest magnitude of each row
    outlier_cols    i64     the columns in which a magnitude reaches the threshold, in order; none for threshold 0

    w[i, j] = (codes[i, j] * row_stats[i]) * (1 / 127), and 0 in outlier_cols

Weights and activations are stored alike. A value is multiplied by the reciprocal of its row's largest magnitude times
127, three roundings, and rounded to nearest even; a row of zeros has codes 0. With a threshold, values that reach it
leave before the largest is taken, and where there is more than one row all of their columns become 0.

The product takes activations, stores them so, and gives (sum * (row_stats_a * row_stats_w)) * constant with sums of
whole numbers. The columns of outliers are multiplied in float32 by decoded weights and added after; the original adds
them by its BLAS, in an order of its own.

What the original does otherwise than it means to: on CPUs the constant is 6.200124e-05 where 1 / 127^2 is
6.200012e-05, so that all products are 1.8e-5 of themselves too large. CUDA's (rule="cuda", read and not run) is right.

Reference: bitsandbytes/backends/default/ops.py, csrc/kernels.cu, bitsandbytes/autograd/_functions.py (bitsandbytes
0.50.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.neighbours.int_sums import int_matmul
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

CONSTANTS = {"cpu": np.float32(6.200124e-05), "cuda": np.float32(6.200012e-05)}


def encode(x: Float32[Array, "rows row"], threshold: float, rule: str) -> dict[str, Array]:
    lib = exact.library(x)
    is_outlier = lib.abs(x) >= np.float32(threshold) if threshold > 0 else lib.zeros(x.shape, bool)
    columns = is_outlier.any(axis=0)
    # SCALES
    rest = lib.where(is_outlier, np.float32(0), x)
    row_stats = lib.abs(rest).max(axis=1)
    scale = exact.mul(exact.div(np.float32(1), row_stats), np.float32(127))
    # CODES: what is no number becomes 0
    whole = lib.round(exact.product(rest, scale[:, None]))
    whole = lib.where(lib.isfinite(whole), whole, np.float32(0))
    if len(x) > 1:
        whole = lib.where(columns, np.float32(0), whole)
    return {"codes": whole.astype(np.int8), "row_stats": row_stats, "outlier_cols": _numbers(columns)}


def _numbers(columns: Any) -> Any:
    """Those that are true; in jax as many as there are columns, filled up with -1."""
    lib = exact.library(columns)
    if exact.is_jax(columns):
        return lib.nonzero(columns, size=columns.shape[0], fill_value=-1)[0]
    return np.flatnonzero(columns).astype(np.int64)


def decode(stored: Stored, shape: Shape, **_: Any) -> Float32[Array, "rows row"]:
    return exact.mul(exact.mul(stored["row_stats"][:, None], exact.f32(stored["codes"])), np.float32(1 / 127))


def matmul(stored: Stored, a: Float32[Array, "n row"], threshold: float, rule: str) -> Float32[Array, "n out"]:
    lib, wide = exact.library(a), exact.f32(a)
    ours = encode(wide, threshold, rule)
    # INTEGER SUMS
    sums = int_matmul(ours["codes"], stored["codes"])
    # FLOAT
    result = _scaled(exact.f32(sums), ours["row_stats"][:, None], stored["row_stats"][None], rule).astype(a.dtype)
    if not threshold:
        return result
    columns = (lib.abs(wide) >= np.float32(threshold)).any(axis=0)
    w = decode(stored, stored["codes"].shape).astype(a.dtype)
    products = exact.product(lib.where(columns, wide, np.float32(0))[:, None], exact.f32(w)[None])
    more = exact.sum_in_order(lib.moveaxis(products, -1, 0))
    return (exact.f32(result) + more).astype(a.dtype)


def _scaled(sums: Float32[Array, "n out"], a: Float32[Array, "n 1"], w: Float32[Array, "1 out"], rule: str
            ) -> Float32[Array, "n out"]:  # fmt: skip
    by_both = exact.mul(exact.mul(sums, a), w) if rule == "cuda" else exact.mul(sums, exact.mul(a, w))
    return exact.mul(by_both, CONSTANTS[rule])


def _shapes(shape: Shape, **_: Any) -> dict[str, Shape]:
    if len(shape) != 2:
        raise ValueError(f"weights or activations have two axes, not the {len(shape)} of {tuple(shape)}")
    return {"codes": shape, "row_stats": shape[:1], "outlier_cols": shape[1:]}


SCHEMES = (
    Scheme(
        name="bitsandbytes.llm-int8",
        stored={
            "codes": StoredArray("int8", "[rows, columns]"),
            "row_stats": StoredArray("float32", "[rows]: largest magnitudes"),
            "outlier_cols": StoredArray("int64", "columns in which a magnitude reaches the threshold", ragged=True),
        },
        parameters={
            "threshold": Parameter(0.0, "magnitudes that leave; 0: none"),
            "rule": Parameter("cpu", "whose constant", ("cpu", "cuda")),
        },
        source="bitsandbytes: bitsandbytes/backends/default/ops.py, csrc/kernels.cu",
        version="0.50.2",
        shapes=_shapes,
        encode=encode,
        decode=decode,
        bits=lambda **_: 8.0,
        matmul=matmul,
    ),
)
