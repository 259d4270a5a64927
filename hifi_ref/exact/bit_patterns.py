"""A float32 and its bits; small conversions that are exact; and the zero that no compiler can prove to be one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from hifi_ref.exact.lanes import is_jax

if TYPE_CHECKING:
    from jaxtyping import Float32, Int16, Int32, Shaped, UInt32

    from hifi_ref.exact.lanes import Array

# A quiet NaN with a payload that neither hardware nor a compiler's constant folding ever makes.
ALIEN_NAN = np.uint32(0x7FABCDEF)
SMALLEST_NORMAL = np.float32(2.0**-126)


def bits(x: Float32[Array, "*n"] | np.float32) -> UInt32[Array, "*n"]:
    """float32 -> its uint32 bit pattern."""
    if is_jax(x):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(x, jax.numpy.uint32)
    return np.asarray(x, np.float32).view(np.uint32)


def from_bits(u: UInt32[Array, "*n"] | np.uint32) -> Float32[Array, "*n"]:
    """uint32 bit pattern -> float32."""
    if is_jax(u):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(u, jax.numpy.float32)
    return np.asarray(u, np.uint32).view(np.float32)


def f32(x: Shaped[Array, "*n"]) -> Float32[Array, "*n"]:
    """Integers (exact below 2^24) or float16 widened to float32."""
    return x.astype(np.float32)


def i32(x: Shaped[Array, "*n"]) -> Int32[Array, "*n"]:
    return x.astype(np.int32)


def i16(x: Shaped[Array, "*n"]) -> Int16[Array, "*n"]:
    return x.astype(np.int16)


def exponent(x: Float32[Array, "*n"]) -> Int32[Array, "*n"]:
    """int32 e with 2^e <= abs(x) < 2^(e+1) for normal x; -127 for zero and subnormals, 128 for infinities and NaN."""
    return i32((bits(x) >> np.uint32(23)) & np.uint32(0xFF)) - np.int32(127)


def hidden_zero(witness: Float32[Array, "*n"]) -> UInt32[Array, "*n"]:
    """uint32 zeros shaped as the witness that no compiler can prove to be zero."""
    return (bits(witness) == ALIEN_NAN).astype(np.uint32)


def seal(value: Float32[Array, "..."], witness: Float32[Array, "..."]) -> Float32[Array, "..."]:
    return from_bits(bits(value) ^ hidden_zero(witness))
