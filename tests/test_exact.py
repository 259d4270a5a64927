"""The arithmetic, operation by operation, against exact rational numbers: hard operands first, then drawn ones.

XLA flushes subnormal numbers to zero, so in the JAX lane a result counts only where nothing on the way to it is one;
where something is, `is_faint` must tell. Everywhere else every bit must be right.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hifi_ref import exact
from reference import release

f4 = np.float32
TINY, LARGEST = 2.0**-126, float(np.finfo(f4).max)


# THE JUDGE


def rounded(exact_value: Fraction) -> float:
    """A rational number to binary32: nearest, ties to even, subnormals kept, overflow to infinity."""
    if not exact_value:
        return 0.0
    size = abs(exact_value)
    unit = Fraction(2) ** (max(_floor_log2(size), -126) - 23)
    value = round(size / unit) * unit
    return math.copysign(float(value) if value <= LARGEST else math.inf, exact_value)


def _floor_log2(x: Fraction) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def in_binary64(ufunc: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The operation in binary64, rounded once more: with 53 bits, more than 2 * 24 + 1, the first rounding is harmless.

    test_two_judges_agree holds it against rational numbers.
    """

    def judge(*operands: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return ufunc(*(o.astype(np.float64) for o in operands)).astype(f4)

    return judge


judge_mul, judge_add, judge_div, judge_sqrt = map(in_binary64, (np.multiply, np.add, np.divide, np.sqrt))


def bit_list(x: Any) -> np.ndarray:
    """Bits, one pattern for all NaN."""
    x = np.asarray(x)
    return np.where(np.isnan(x), np.uint32(0x7FC00000), x.view(np.uint32)) if x.dtype == f4 else x


def is_subnormal(x: np.ndarray) -> np.ndarray:
    """Also 2^-126, which a value that is flushed may round to."""
    return (x != 0) & (abs(x) <= f4(TINY))


# THE OPERANDS


def _neighbours(*values: float) -> np.ndarray:
    x = np.array(values, f4)
    with np.errstate(all="ignore"):
        x = np.concatenate([x, np.nextafter(x, f4(np.inf)), np.nextafter(x, f4(-np.inf))])
    return np.unique(x.view(np.uint32)).view(f4)


POWERS = [2.0**e for e in (-149, -148, -127, -126, -125, -103, -64, -24, -12, -1, 0, 1, 12, 22, 23, 24, 63, 126, 127)]
SIZES = _neighbours(*POWERS, 0.0, 0.1, 1 / 3, 0.5, 1.5, 3, 7, 15, 63, 127, 255, 2.0**-126 * (1 - 2.0**-23), LARGEST)
SIZES = np.concatenate([SIZES, f4([np.inf, np.nan, 1.0000001, 16777215.0, 12582912.0, 4194303.5])])
HARD = np.unique(np.concatenate([SIZES, -SIZES]).view(np.uint32)).view(f4)


def hard_pairs() -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(HARD, HARD)
    return a.reshape(-1), b.reshape(-1)


def halfway_pairs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Products that lie half a unit, or nearly so, from a binary32: 24-bit integers with few and with all bits."""
    few = (1 << rng.integers(0, 24, n)) + (1 << rng.integers(0, 24, n))
    full = (1 << 24) - rng.integers(1, 4096, n)
    odd = rng.integers(1 << 23, 1 << 24, n) | 1
    a = rng.choice(np.stack([few, full, odd]), axis=0).astype(f4) * f4(2.0**-24)
    return a, rng.permutation(a)


@cache
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 2**32, (2, 4000), dtype=np.uint32).view(f4)
    usual = rng.standard_normal((2, 8000)).astype(f4)
    return tuple(
        np.concatenate([*parts]) for parts in zip(hard_pairs(), halfway_pairs(rng, 4000), drawn, usual, strict=True)
    )


# THE LANES


def in_numpy(function: Callable, *operands: np.ndarray) -> Any:
    with np.errstate(all="ignore"):
        return function(*operands)


def eagerly(function: Callable, *operands: np.ndarray) -> Any:
    return function(*map(jnp.asarray, operands))


def compiled(function: Callable, *operands: np.ndarray) -> Any:
    return jax.jit(function)(*operands)


def beside_a_constant(function: Callable, *operands: np.ndarray) -> Any:
    """All but the first operand are constants of the function that is compiled."""
    return jax.jit(lambda first: function(first, *map(jnp.asarray, operands[1:])))(operands[0])


def behind_arithmetic(function: Callable, *operands: np.ndarray) -> Any:
    """Operands and results are part of a larger computation, which invites fusion."""

    def run(*operands: jax.Array) -> Any:
        flipped = [-o if o.dtype == f4 else o for o in operands]
        twice = [-o if o.dtype == f4 else o for o in flipped]
        return jax.tree.map(lambda r: r.reshape(-1)[::-1][::-1].reshape(r.shape), function(*twice))

    return jax.jit(run)(*operands)


JAX = (eagerly, compiled, beside_a_constant, behind_arithmetic)
each_lane = pytest.mark.parametrize("lane", (in_numpy, *JAX), ids=lambda lane: lane.__name__)
each_jax = pytest.mark.parametrize("lane", JAX, ids=lambda lane: lane.__name__)


def check(lane: Callable, function: Callable, operands: tuple, expected: np.ndarray, *on_the_way: np.ndarray) -> None:
    """function(*operands) == expected, bit for bit; and in the JAX lane a faint result where one was flushed."""
    observed = np.asarray(lane(function, *operands))
    same = bit_list(observed) == bit_list(expected)
    if lane is not in_numpy:
        floats = [v for v in (*operands, *on_the_way, expected) if np.asarray(v).dtype == f4]
        flushed = np.any([np.broadcast_to(is_subnormal(v), same.shape) for v in floats], axis=0)
        same |= flushed
    if not same.all():
        at = np.argwhere(~same)[0]
        shown = [np.broadcast_to(o, same.shape)[tuple(at)] for o in operands]
        wrong = f"{observed[tuple(at)]!r}, not {np.asarray(expected)[tuple(at)]!r}"
        pytest.fail(f"{(~same).sum()} of {same.size} are wrong; {shown} gives {wrong}")


# ARITHMETIC


def test_two_judges_agree() -> None:
    a, b = (operand[::3] for operand in pairs())
    a, b = a[np.isfinite(a) & np.isfinite(b) & (b != 0)], b[np.isfinite(a) & np.isfinite(b) & (b != 0)]
    operations = {judge_mul: Fraction.__mul__, judge_add: Fraction.__add__, judge_div: Fraction.__truediv__}
    for judge, operation in operations.items():
        rational = [rounded(operation(Fraction(x), Fraction(y))) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        assert np.array_equal(judge(a, b), f4(rational))
    for root, x in zip(judge_sqrt(abs(a)).tolist(), abs(a).tolist(), strict=True):
        below, above = (Fraction(root) + Fraction(float(np.nextafter(f4(root), f4(to)))) for to in (-1, np.inf))
        assert below**2 <= 4 * Fraction(x) <= above**2 or root == 0 == x
    for x in (0.1, 1 / 3, 2.0**-149, 2.0**-150, 3 * 2.0**-150, LARGEST, 2.0**128 - 2.0**103 - 2.0**80, 1e-40):
        assert rounded(Fraction(x)) == struct.unpack("<f", struct.pack("<f", x))[0]


@each_lane
def test_mul(lane: Callable) -> None:
    a, b = pairs()
    check(lane, exact.mul, (a, b), judge_mul(a, b))


@each_lane
def test_madd_rounds_twice(lane: Callable) -> None:
    a, b = pairs()
    c = np.roll(a, 77)
    product = judge_mul(a, b)
    check(lane, exact.madd, (a, b, c), judge_add(product, c), product)
    # c = -a*b shows a fused product at once: nothing may remain.
    inside = np.isfinite(product)
    a, b, product = a[inside], b[inside], product[inside]
    check(lane, exact.madd, (a, b, -product), judge_add(product, -product), product)


@each_lane
def test_products_of_a_seal_that_was_taken_once(lane: Callable) -> None:
    a, b = pairs()
    product = judge_mul(a, b)
    check(lane, lambda a, b, c: exact.sealed_by(a)[1](a, b) + c, (a, b, b), judge_add(product, b), product)


@each_lane
def test_div(lane: Callable) -> None:
    a, b = pairs()
    check(lane, exact.div, (a, b), judge_div(a, b))


@each_lane
@pytest.mark.parametrize("constant", [63, 127, 3, -8, -127.5, 0.1, 1.0000001])
def test_div_by_a_constant(lane: Callable, constant: float) -> None:
    a = pairs()[0][-9000:]
    b = np.full_like(a, constant)
    check(lane, lambda a: exact.div(a, f4(constant)), (a,), judge_div(a, b))
    check(lane, lambda a: exact.div(f4(constant), a), (a,), judge_div(b, a))
    check(lane, lambda a: exact.div(a, float(f4(constant))), (a,), judge_div(a, b))


@each_lane
def test_div_by_a_broadcast(lane: Callable) -> None:
    a = np.random.default_rng(2).standard_normal((64, 64)).astype(f4)
    b = np.random.default_rng(3).standard_normal((64, 1)).astype(f4)
    check(lane, exact.div, (a, b), judge_div(a, np.broadcast_to(b, a.shape)))
    check(lane, lambda a, b: exact.div(a, b[:, 0]), (a, b), judge_div(a, np.broadcast_to(b[:, 0], a.shape)))


@each_lane
def test_div_of_constants_by_a_broadcast(lane: Callable) -> None:
    table = np.linspace(3, 25, 64, dtype=f4)[:, None]
    b = np.random.default_rng(3).standard_normal(64).astype(f4)
    wanted = judge_div(np.broadcast_to(table, (64, 64)), np.broadcast_to(b, (64, 64)))
    check(lane, lambda b: exact.div(table, b), (b,), wanted)
    check(lane, lambda b: exact.div(table, exact.library(b).broadcast_to(b, (64, 64))), (b,), wanted)


@each_lane
def test_chains_of_divisions_stay_divisions(lane: Callable) -> None:
    a, b = pairs()
    c = np.roll(b, 5)
    first = judge_div(a, b)
    check(lane, lambda a, b, c: exact.div(exact.div(a, b), c), (a, b, c), judge_div(first, c), first)
    one = np.ones_like(a)
    inverse = judge_div(one, b)
    check(lane, lambda a, b: exact.mul(a, exact.div(f4(1), b)), (a, b), judge_mul(a, inverse), inverse)
    back = judge_div(one, inverse)
    check(lane, lambda b: exact.div(f4(1), exact.div(f4(1), b)), (b,), back, inverse)


@each_lane
def test_sqrt_and_its_inverse(lane: Callable) -> None:
    x = abs(np.concatenate(pairs()))
    root = judge_sqrt(x)
    check(lane, exact.sqrt, (x,), root)
    check(lane, lambda x: exact.div(f4(1), exact.sqrt(x)), (x,), judge_div(np.ones_like(x), root), root)


@each_lane
def test_reciprocal_or_zero(lane: Callable) -> None:
    x = pairs()[0]
    expected = np.where(x == 0, f4(0), judge_div(np.ones_like(x), x))
    check(lane, exact.reciprocal_or_zero, (x,), expected)


@each_lane
def test_mul_int_keeps_subnormals_in_both_lanes(lane: Callable) -> None:
    d = np.concatenate([HARD, np.random.default_rng(4).integers(0, 2**32, 3000, dtype=np.uint32).view(f4)])
    for q in (0, 1, -1, 2, 3, 7, 12, -12, 31, 127, -127, 128, -128):
        codes = np.full(d.shape, q, np.int32)
        observed = lane(exact.mul_int, d, codes)
        wrong = np.flatnonzero(bit_list(observed) != bit_list(judge_mul(d, codes.astype(f4))))
        assert wrong.size == 0, (q, d[wrong[:3]], np.asarray(observed)[wrong[:3]])


def in_order(terms: np.ndarray) -> np.ndarray:
    total = np.zeros(terms.shape[1:], f4)
    for term in terms:
        total = judge_add(total, term)
    return total


@each_lane
@pytest.mark.parametrize("n", [1, 2, 7, 16, 33])
def test_sums_run_from_first_to_last(lane: Callable, n: int) -> None:
    rng = np.random.default_rng(n)
    terms = (rng.standard_normal((n, 50)) * 10.0 ** rng.integers(-6, 6, (n, 50))).astype(f4)
    squares = judge_mul(terms, terms)
    assert np.array_equal(np.asarray(lane(exact.sum_in_order, terms)), in_order(terms))
    assert np.array_equal(np.asarray(lane(lambda t: exact.sum_in_order(exact.mul(t, t)), terms)), in_order(squares))

    def all_sums(x: Any) -> Any:
        return exact.running_sums(n, lambda i: (x[i], exact.mul(x[i], x[i]), exact.mul(x[i], f4(0.1))))

    expected = (terms, squares, judge_mul(terms, np.full_like(terms, 0.1)))
    for observed, addends in zip(lane(all_sums, terms), expected, strict=True):
        assert np.array_equal(bit_list(observed), bit_list(in_order(addends)))
    zeros = np.full((n, 3), -0.0, f4)
    assert not np.signbit(np.asarray(lane(exact.sum_in_order, zeros))).any()


@each_lane
def test_fold_goes_in_order_and_carries_tuples(lane: Callable) -> None:
    x = np.arange(1, 6, dtype=np.int32)
    assert int(lane(lambda x: exact.fold(5, lambda i, s: s * 10 + x[i], x[0] * 0), x)) == 12345
    first, second = lane(lambda x: exact.fold(3, lambda i, s: (s[1], s[0] + x[i]), (x[0], x[1]), unroll=8), x)
    assert (int(first), int(second)) == (4, 5)


@each_lane
def test_pairs_add_as_two_floats(lane: Callable) -> None:
    a, b = pairs()
    c, d = np.roll(a, 9), np.roll(b, 9)
    both = (judge_add(a, c), judge_add(b, d))

    def add(a: Any, b: Any, c: Any, d: Any) -> Any:
        p, q = exact.pair(a, b), exact.pair(c, d)
        return exact.unpair(p + q) if exact.is_jax(a) else (p[0] + q[0], p[1] + q[1])

    for i in range(2):
        check(lane, lambda *o, i=i: add(*o)[i], (a, b, c, d), both[i])


@each_lane
def test_int_dot(lane: Callable) -> None:
    rng = np.random.default_rng(5)
    q, p = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 4, 2, 32), (4, 2, 32)))
    expected = (q.astype(object) * p.astype(object)).sum(axis=(2, 3))
    assert np.asarray(lane(exact.int_dot, q, p)).tolist() == expected.tolist()


@each_lane
def test_float_dot_adds_in_binary64(lane: Callable) -> None:
    rng = np.random.default_rng(6)
    for n in (1, 7, 8, 100, 1000):
        x = (rng.standard_normal((5, n)) * 10.0 ** rng.integers(-7, 7, (5, n))).astype(f4)
        y = rng.standard_normal(n).astype(f4)
        x[1] = -0.0
        x[2, n // 2 :] = -x[2, : n - n // 2]
        products = judge_mul(x, np.broadcast_to(y, x.shape))
        expected = []
        for row in products.tolist():
            total = 0.0
            for product in row:
                total += product
            expected.append(total)
        observed = lane(exact.float_dot, x, y)
        assert np.array_equal(bit_list(observed), bit_list(np.array(expected).astype(f4))), n


# ROUNDING


def rational_map(x: np.ndarray, function: Callable[[Fraction], int]) -> list[int]:
    return [function(Fraction(float(v))) for v in x]


@cache
def rounding_cases() -> np.ndarray:
    rng = np.random.default_rng(7)
    halves = rng.integers(-(2**21), 2**21, 2000).astype(f4) + f4(0.5)
    special = f4([0.49999997, -0.49999997, 0.5, -0.5, 1.5, 2.5, 8388607.5, 8388608.0, 4194303.5, 4194303.0, 0.0, -0.0])
    x = np.concatenate([HARD, special, halves, np.nextafter(halves, f4(np.inf)), np.nextafter(halves, f4(-np.inf))])
    return np.concatenate([x, (rng.standard_normal(4000) * 10.0 ** rng.integers(-3, 7, 4000)).astype(f4)])


@each_lane
def test_nearest_int(lane: Callable) -> None:
    x = rounding_cases()
    inside = x[abs(x) <= 4194303]
    assert np.asarray(lane(exact.nearest_int, inside)).tolist() == rational_map(inside, round)
    # Beyond: the low 23 bits of x + 1.5 * 2^23, whatever they hold; a NaN's payload is the machine's.
    shifted = judge_add(x, np.full_like(x, 12582912.0))
    words = [struct.unpack("<I", struct.pack("<f", v))[0] for v in shifted[~np.isnan(x)].tolist()]
    expected = [(word & 0x7FFFFF) - 0x400000 for word in words]
    assert np.asarray(lane(exact.nearest_int, x[~np.isnan(x)])).tolist() == expected
    assert np.asarray(lane(exact.nearest_int, f4([np.nan, np.inf, -np.inf]))).tolist() == [0, -(2**22), -(2**22)]


@each_lane
@pytest.mark.parametrize(("low", "high"), [(0, 15), (-32, 31), (0, 3), (-4, 3), (0, 63)])
def test_rounded_code(lane: Callable, low: int, high: int) -> None:
    x = rounding_cases()
    x = x[abs(x) <= 4194303]
    expected = [min(max(k, low), high) for k in rational_map(x, round)]
    observed = np.asarray(lane(lambda x: exact.rounded_code(x, low, high), x))
    assert observed.dtype == f4 and observed.tolist() == expected


@each_lane
def test_round_half_away(lane: Callable) -> None:
    x = rounding_cases()
    x = x[np.isfinite(x)]
    whole = rational_map(x, lambda v: math.copysign(1, v) * math.floor(abs(v) + Fraction(1, 2)))
    expected = np.copysign(np.array(whole, f4), x)
    observed = np.asarray(lane(exact.round_half_away, x))
    assert np.array_equal(bit_list(observed), bit_list(expected))
    assert np.array_equal(np.asarray(lane(exact.round_half_away, f4([np.inf, -np.inf]))), f4([np.inf, -np.inf]))
    assert np.isnan(np.asarray(lane(exact.round_half_away, f4([np.nan, np.nan])))).all()


@each_lane
def test_truncate(lane: Callable) -> None:
    x = np.concatenate([rounding_cases(), f4([2147483520, 2147483648, -2147483648, -2147483904, 1e20])])
    lowest = -(2**31)
    expected = [int(v) if math.isfinite(v) and lowest <= v < 2**31 else lowest for v in x.tolist()]
    observed = np.asarray(lane(exact.truncate, x))
    assert observed.dtype == np.int32 and observed.tolist() == expected


@each_lane
def test_small_integer_helpers(lane: Callable) -> None:
    x = np.array([0, 127, 128, 255, 256, -128, -129, 300, -(2**31), 2**31 - 1], np.int32)
    assert np.asarray(lane(exact.as_int8, x)).tolist() == [((v + 128) & 255) - 128 for v in x.tolist()]
    assert np.asarray(lane(lambda x: exact.at_most(127, x), x)).tolist() == [min(127, v) for v in x.tolist()]
    assert np.asarray(lane(lambda x: exact.f32(exact.i32(x)), x[:5])).tolist() == x[:5].tolist()


@each_lane
def test_exponent_reads_bits(lane: Callable) -> None:
    frexp = [math.frexp(v)[1] - 1 if TINY <= abs(v) < math.inf else -127 if abs(v) < 1 else 128 for v in HARD.tolist()]
    assert np.asarray(lane(exact.exponent, HARD)).tolist() == frexp


@each_lane
def test_walls_and_columns_change_nothing(lane: Callable) -> None:
    x = np.random.default_rng(10).integers(0, 2**32, (6, 64), dtype=np.uint32).view(f4)
    first, second = lane(lambda x: exact.wall(x, x > 1), x)
    assert np.asarray(first).tobytes() == x.tobytes() and np.array_equal(np.asarray(second), x > 1)
    assert np.asarray(lane(exact.wall, x)).tobytes() == x.tobytes()
    assert np.asarray(lane(lambda x: exact.columns(x, 16), x)).tobytes() == x.reshape(-1, 16).T.tobytes()


# CONVERSIONS


def converted(symbol: str, source: np.ndarray, target: type) -> np.ndarray:
    """A conversion function of the release: (const source *, target *, int64 count)."""
    source, out = np.ascontiguousarray(source), np.empty(source.shape, target)
    pointers = (ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(out.ctypes.data))
    getattr(release.base(), symbol)(*pointers, ctypes.c_int64(source.size))
    return out


HALVES = np.arange(65536, dtype=np.uint16)


@each_lane
def test_widen_every_f16(lane: Callable) -> None:
    by_struct = f4([struct.unpack("<e", struct.pack("<H", h))[0] for h in range(65536)])
    assert np.array_equal(bit_list(converted("ggml_fp16_to_fp32_row", HALVES, f4)), bit_list(by_struct))
    assert np.array_equal(bit_list(lane(exact.widen_f16, HALVES)), bit_list(by_struct))


@cache
def around_halves() -> np.ndarray:
    """Every f16, every middle between two of them, and the floats next to both; then random bits."""
    values = HALVES.view(np.float16).astype(f4)
    values = values[np.isfinite(values)]
    following = np.nextafter(HALVES.view(np.float16), np.float16(np.inf)).astype(f4)
    middles = (HALVES.view(np.float16).astype(f4) + following) / 2
    x = np.concatenate([values, middles[np.isfinite(middles)], f4([65520, 65519.996, 65520.004, 1e38]), HARD])
    x = np.concatenate([x, np.nextafter(x, f4(np.inf)), np.nextafter(x, f4(-np.inf))])
    return np.concatenate([x, np.random.default_rng(11).integers(0, 2**32, 100000, dtype=np.uint32).view(f4)])


@each_lane
def test_narrow_f16(lane: Callable) -> None:
    x = around_halves()
    expected = converted("ggml_fp32_to_fp16_row", x, np.uint16)
    observed = np.asarray(lane(exact.narrow_f16, x))
    nan = np.isnan(x)
    assert np.array_equal(observed[~nan], expected[~nan])
    assert (observed[nan] & 0x7FFF == 0x7E00).all() and (expected[nan] & 0x7FFF == 0x7E00).all()
    widened = converted("ggml_fp16_to_fp32_row", expected, f4)
    assert np.array_equal(bit_list(lane(exact.round_f16, x)), bit_list(widened))


@each_lane
def test_bf16(lane: Callable) -> None:
    wide = converted("ggml_bf16_to_fp32_row", HALVES, f4)
    assert np.array_equal(bit_list(lane(exact.widen_bf16, HALVES)), bit_list(wide))
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (HALVES.astype(np.uint32)[:, None] << 16 | low).reshape(-1).view(f4)
    expected = converted("ggml_fp32_to_bf16_row_ref", x, np.uint16)
    observed = np.asarray(lane(exact.narrow_bf16, x))
    assert np.array_equal(observed, expected)
    nan = np.isnan(x)
    assert np.array_equal(observed[~nan], x[~nan].astype(ml_dtypes.bfloat16).view(np.uint16))


@each_lane
def test_every_e8m0_and_ue4m3(lane: Callable) -> None:
    codes = np.arange(256, dtype=np.uint8)
    halves = f4([rounded(Fraction(2) ** (e - 128)) for e in range(256)])
    assert np.array_equal(np.asarray(lane(exact.widen_e8m0_half, codes)), halves.view(np.uint32))
    with np.errstate(over="ignore"):
        wide = (codes & 0x7F).view(ml_dtypes.float8_e4m3fn).astype(f4) / 2
    wide[(codes & 0x7F) == 0] = 0
    expected = np.where(codes == 0x7F, f4(0), wide)
    observed = np.asarray(lane(exact.widen_ue4m3_half, codes))
    plain = codes != 0xFF
    assert np.array_equal(bit_list(observed[plain]), bit_list(expected[plain]))
    # The release's own reading: code 1 of a block, which stands for half a scale, in each sub-block.
    blocks = np.zeros((256, 36), np.uint8)
    blocks[:, 0], blocks[:, 4] = codes, 1
    assert np.array_equal(bit_list(observed), bit_list(release.decode("NVFP4", blocks)[:, 0]))


# DRAWN OPERANDS


ANY = st.floats(width=32)


@cache
def compiled_once(function: Callable) -> Callable:
    return jax.jit(function)


@given(st.lists(st.tuples(ANY, ANY, ANY), min_size=16, max_size=16))
@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_floats(drawn: list[tuple[float, float, float]]) -> None:
    a, b, c = np.array(drawn, f4).T.copy()
    product, quotient, root = judge_mul(a, b), judge_div(a, b), judge_sqrt(abs(a))
    for lane in (in_numpy, lambda function, *operands: compiled_once(function)(*operands)):
        check(lane, exact.mul, (a, b), product)
        check(lane, exact.madd, (a, b, c), judge_add(product, c), product)
        check(lane, exact.div, (a, b), quotient)
        check(lane, exact.sqrt, (abs(a),), root)
