"""Exact sums of products of bytes."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Int8, Int32

    from hifi_ref.exact import Array

# Products of codes that binary32 adds exactly, in any order.
EXACT = (1 << 24) // (128 * 128)


def int_matmul(a: Int8[Array, "n row"], w: Int8[Array, "out row"]) -> Int32[Array, "n out"]:
    """By float32 GEMMs over pieces of the row whose sums binary32 holds; below 2^31, that is 131,072 products."""
    wide_a, wide_w = exact.f32(a), exact.f32(w)
    pieces = range(0, a.shape[1], EXACT)
    return functools.reduce(
        operator.add, (exact.i32(wide_a[:, i : i + EXACT] @ wide_w[:, i : i + EXACT].T) for i in pieces)
    )
