"""Wrong answers to a call: what derived bugs put in the place of the exact functions, by name.

Each takes what the right function takes. What is not of the kind that it spoils raises NotApplicableError.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref import exact
from hifi_ref.known_bugs.derived.wrong_bytes import (  # noqa: F401 - looked up here by name
    first_plane,
    gathered_interleaved,
    gathered_reversed,
    joined_interleaved,
    joined_swapped,
    last_plane,
    packed,
    planes_interleaved,
    planes_reversed,
    reversed_stream_of,
    run_turned,
    stream_reversed,
    unpacked,
    unpacked_as_half,
    unpacked_in_steps,
    unpacked_of_neighbour,
    unpacked_unsigned,
)
from hifi_ref.known_bugs.derived.wrong_conversions import (  # noqa: F401 - likewise
    narrow_bf16_cut,
    narrow_bf16_half_up,
    narrow_f16_cut,
    narrow_f16_flushed,
    narrow_f16_half_away,
    round_f16_cut,
    whole_down,
    whole_half_added,
    whole_half_cut,
    whole_half_even,
    whole_half_up,
    whole_towards_zero,
    widen_f16_finite,
    widen_f16_flushed,
)


class NotApplicableError(TypeError):
    """The operands are not what this bug is about, such as whole numbers where it is about rounding."""


def _floats(*values: Any) -> None:
    if not any(isinstance(v, np.ndarray | np.generic) and v.dtype == np.float32 for v in values):
        raise NotApplicableError("not binary32")


def _once(value: Any, towards_zero: bool = False) -> np.ndarray:
    """binary64 -> binary32, to nearest or towards zero."""
    result = np.asarray(value, np.float64).astype(np.float32)
    if towards_zero:
        too_far = abs(result.astype(np.float64)) > abs(value)
        result = np.where(too_far, np.nextafter(result, np.float32(0)), result).astype(np.float32)
    return result


def _half(value: Any) -> np.ndarray:
    return np.asarray(value).astype(np.float16).astype(np.float32)


# PRODUCTS, QUOTIENTS, SUMS


def product_cut(a: Any, b: Any) -> np.ndarray:
    _floats(a, b)
    return _once(np.multiply(a, b, dtype=np.float64), towards_zero=True)


def product_half(a: Any, b: Any) -> np.ndarray:
    _floats(a, b)
    return _half(np.multiply(a, b, dtype=np.float32))


def quotient_cut(a: Any, b: Any) -> np.ndarray:
    return _once(np.divide(a, b, dtype=np.float64), towards_zero=True)


def quotient_half(a: Any, b: Any) -> np.ndarray:
    return _half(np.divide(a, b, dtype=np.float32))


def by_reciprocal(a: Any, b: Any) -> np.ndarray:
    return np.multiply(a, np.divide(np.float32(1), b, dtype=np.float32), dtype=np.float32)


def reciprocal_cut(d: Any) -> np.ndarray:
    return np.where(d != 0, quotient_cut(np.float32(1), np.where(d != 0, d, np.float32(1))), np.float32(0))


def reciprocal_rough(d: Any) -> np.ndarray:
    """12 right bits, as the approximate instructions of processors give."""
    right = exact.reciprocal_or_zero(d)
    return exact.from_bits(exact.bits(right) & np.uint32(0xFFFFF000))


def root_cut(x: Any) -> np.ndarray:
    return _once(np.sqrt(np.asarray(x, np.float64)), towards_zero=True)


def sum_cut(a: Any, b: Any) -> np.ndarray:
    _floats(a, b)
    return _once(np.add(a, b, dtype=np.float64), towards_zero=True)


def sum_half(a: Any, b: Any) -> np.ndarray:
    _floats(a, b)
    return _half(np.add(a, b, dtype=np.float32))


def fused(a: Any, b: Any, c: Any, sign_of_product: int = 1, sign_of_sum: int = 1) -> np.ndarray:
    """a*b + c, rounded once."""
    _floats(a, b, c)
    _floats(c)
    return _once(sign_of_product * np.multiply(a, b, dtype=np.float64) + sign_of_sum * np.asarray(c, np.float64))


# ROUNDINGS


def _as_nearest_int(x: Any, whole: Any) -> np.ndarray:
    """``whole`` as int32; beyond the range of nearest_int, and for NaN, what that gives."""
    inside = abs(x) < np.float32(2.0**22 - 1)
    return np.where(inside, np.where(inside, whole, 0).astype(np.int32), exact.nearest_int(x))


def int_half_away(x: Any) -> np.ndarray:
    return _as_nearest_int(x, exact.round_half_away(x))


def int_half_up(x: Any) -> np.ndarray:
    return _as_nearest_int(x, np.floor(np.asarray(x, np.float64) + 0.5))


def int_towards_zero(x: Any) -> np.ndarray:
    return _as_nearest_int(x, np.trunc(x))


def int_down(x: Any) -> np.ndarray:
    return _as_nearest_int(x, np.floor(x))


def int_half_added(x: Any) -> np.ndarray:
    return _as_nearest_int(x, np.trunc(x + np.float32(0.5)))


def int_up(x: Any) -> np.ndarray:
    return _as_nearest_int(x, np.ceil(x))


def code_down(x: Any, low: int, high: int) -> np.ndarray:
    return exact.f32(np.clip(int_down(x), low, high))


def code_half_away(x: Any, low: int, high: int) -> np.ndarray:
    return exact.f32(np.clip(int_half_away(x), low, high))


def code_half_up(x: Any, low: int, high: int) -> np.ndarray:
    return exact.f32(np.clip(int_half_up(x), low, high))


def code_towards_zero(x: Any, low: int, high: int) -> np.ndarray:
    return exact.f32(np.clip(int_towards_zero(x), low, high))


def code_half_added(x: Any, low: int, high: int) -> np.ndarray:
    return exact.f32(np.clip(int_half_added(x), low, high))


def truncate_half_even(x: Any) -> np.ndarray:
    return exact.truncate(np.rint(x))


def truncate_down(x: Any) -> np.ndarray:
    return exact.truncate(np.floor(x))


def truncate_up(x: Any) -> np.ndarray:
    return exact.truncate(np.ceil(x))


def int8_saturated(x: Any) -> np.ndarray:
    return np.clip(x, -128, 127)


# SUMS OF MANY


def in_reverse(terms: np.ndarray) -> np.ndarray:
    return exact.sum_in_order(terms[::-1])


def in_pairs(terms: np.ndarray) -> np.ndarray:
    while len(terms) > 1:
        odd = terms[len(terms) // 2 * 2 :]
        terms = np.concatenate([terms[0 : len(terms) // 2 * 2 : 2] + terms[1::2], odd])
    return terms[0]


def in_binary64(terms: np.ndarray) -> np.ndarray:
    return np.asarray(terms, np.float64).sum(axis=0).astype(np.float32)


def in_lanes(terms: np.ndarray) -> np.ndarray:
    """Eight running sums, then these in order."""
    return exact.sum_in_order(np.stack([exact.sum_in_order(terms[i::8]) for i in range(min(8, len(terms)))]))


def in_binary16(terms: np.ndarray) -> np.ndarray:
    total = np.zeros(terms.shape[1:], np.float32)
    for term in terms:
        total = _half(total + term)
    return total


def only_last(terms: np.ndarray) -> np.ndarray:
    return terms[-1]


def rows_by(way: str, terms: np.ndarray) -> np.ndarray:
    """sum_of_rows in another of these ways."""
    flat = terms.reshape(len(terms), -1)
    return _ways[way](np.ascontiguousarray(flat.T))


def running_by(way: str, n: int, terms: Any, unroll: int = 8, at_once: bool = False) -> tuple[np.ndarray, ...]:
    """running_sums in another of these ways."""
    parts = [terms(i) for i in range(n)]
    return tuple(_ways[way](np.stack(part)).astype(np.float32) for part in zip(*parts, strict=True))


_ways = {
    "reverse": in_reverse,
    "pairs": in_pairs,
    "binary64": in_binary64,
    "lanes": in_lanes,
    "binary16": in_binary16,
    "last": only_last,
}


def folded_from_last(n: int, body: Any, init: Any, unroll: int = 1) -> Any:
    for i in reversed(range(n)):
        init = body(i, init)
    return init


def folded_without_last(n: int, body: Any, init: Any, unroll: int = 1) -> Any:
    return exact.fold(n - 1, body, init)


def folded_without_first(n: int, body: Any, init: Any, unroll: int = 1) -> Any:
    for i in range(1, n):
        init = body(i, init)
    return init


# WHOLE NUMBERS


def wrapped16(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "i" or value.dtype.itemsize < 4:
        raise NotApplicableError("not sums of 32 bits")
    return value.astype(np.int16).astype(value.dtype)


def saturated16(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "i" or value.dtype.itemsize < 4:
        raise NotApplicableError("not sums of 32 bits")
    return np.clip(value, -(2**15), 2**15 - 1)


def int_dot_pairs(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Neighbouring products are added with saturation to 16 bits, as in the instruction maddubs."""
    rows, blocks = q.shape[:2]
    products = q.reshape(rows, blocks, -1).astype(np.int32) * p.reshape(blocks, -1).astype(np.int32)
    pairs = np.clip(products[..., 0::2] + products[..., 1::2], -(2**15), 2**15 - 1)
    return pairs.sum(axis=-1, dtype=np.int32)
