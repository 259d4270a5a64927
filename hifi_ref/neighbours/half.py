"""Arithmetic in a half precision: each step in float32, then rounded, which is the same.

binary32 has more than twice the digits of binary16 and two, so that a sum, product or quotient rounds alike.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

    from hifi_ref.exact import Array

DTYPES = ("float32", "float16", "bfloat16")


def widen(x: Float[Array, "*n"]) -> Float32[Array, "*n"]:
    """float16, bfloat16 or float32 -> float32, exact."""
    if str(x.dtype) == "float32":
        return x
    bits = _recast(x, np.uint16)
    if str(x.dtype) == "float16":
        return exact.widen_f16(bits)
    # A subnormal number of float32 too
    return exact.watched_input(exact.widen_bf16(bits), exact.FAINT)


def narrow(x: Float32[Array, "*n"], dtype: str) -> Float[Array, "*n"]:
    """float32 -> an array of that dtype, nearest, halves to even."""
    if dtype == "float16":
        return _recast(exact.narrow_f16(x), np.float16)
    return _recast(exact.narrow_bf16(x), ml_dtypes.bfloat16) if dtype == "bfloat16" else x


def rounded(x: Float32[Array, "*n"], dtype: str) -> Float32[Array, "*n"]:
    """The float32 value that dtype keeps of it."""
    if dtype == "float16":
        return exact.round_f16(x)
    return exact.widen_bf16(exact.narrow_bf16(x)) if dtype == "bfloat16" else x


def _recast(x: Any, dtype: Any) -> Any:
    if exact.is_jax(x):
        return sys.modules["jax"].lax.bitcast_convert_type(x, dtype)
    return x.view(dtype)
