"""Binary32 arithmetic that no compiler may rewrite: one text, two lanes.

Every function takes arrays of either library and answers in the same one: ``numpy.ndarray`` in, NumPy out (the
definition: each operation rounds once, subnormals are kept, nothing is fused); ``jax.Array`` in, JAX out (the
acceleration: the same bits, or a mask that says where they are not guaranteed). This module never imports jax.

Three things an optimising compiler does to exact arithmetic, and what stands against each:

* It fuses ``a*b + c`` into one rounding. ``mul`` **seals** its product: the bits are XORed with a zero before they
  meet an add. The zero is ``operand == one particular NaN``: false for every value that arithmetic produces, and
  harmless where true (the product is then a NaN anyway), but no compiler can prove it false, at top level or inside a
  caller's ``jax.jit``.
* It turns ``a / b`` into ``a * (1/b)`` where b is a constant or a broadcast. ``div`` seals the divisor per element, and
  the quotient, so that chains such as ``(a/b)/c`` stay two divisions. GPUs and TPUs divide and take roots with an error
  of a unit or two: there ``by_hand`` puts whole-number arithmetic in their place.
* It flushes subnormals to zero (XLA:CPU and TPU do). No seal helps; ``is_faint`` and ``least_magnitude`` let an
  encoder prove that its arithmetic stayed clear of the range below 2^-126, and blocks that did not go to NumPy.

Profiles: ``madd`` rounds twice ("strict"), as llama.cpp's x86-64 release does. Every ``a*b + c`` of the formats is
written with it or with ``mul``, so that a fused profile has one seam.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or jax.Array; the formats annotate shapes with jaxtyping

SMALLEST_NORMAL = np.float32(2.0**-126)
# A quiet NaN with a payload that neither hardware nor a compiler's constant folding ever makes.
_ALIEN_NAN = np.uint32(0x7FABCDEF)


# LANES


def is_jax(x: Array) -> bool:
    """True for a jax.Array, traced or concrete."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def is_traced(x: Array) -> bool:
    """True for a jax.Array whose values are not known yet, inside jit or another transformation."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.core.Tracer)


def library(x: Array) -> Any:
    """The array library that x belongs to: the module ``numpy`` or ``jax.numpy``."""
    if is_jax(x):
        return sys.modules["jax"].numpy
    return np


def fold(n: int, body: Callable[[Any, Any], Any], init: Any, unroll: int = 1) -> Any:
    """body(n-1, ... body(1, body(0, init))): the one loop, in order, in both lanes.

    init is an array or a tuple of arrays; body must keep shapes and dtypes. In the JAX lane this is a compiled loop
    whose carried values are materialised at each turn, ``unroll`` steps apart.
    """
    leaves = init if isinstance(init, tuple) else (init,)
    if any(is_jax(leaf) for leaf in leaves):
        return sys.modules["jax"].lax.fori_loop(0, n, body, init, unroll=min(unroll, n))
    for i in range(n):
        init = body(i, init)
    return init


# BITS


def bits(x: Array) -> Array:
    """float32 -> its uint32 bit pattern."""
    if is_jax(x):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(x, jax.numpy.uint32)
    return np.asarray(x, np.float32).view(np.uint32)


def from_bits(u: Array) -> Array:
    """uint32 bit pattern -> float32."""
    if is_jax(u):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(u, jax.numpy.float32)
    return np.asarray(u, np.uint32).view(np.float32)


def f32(x: Array) -> Array:
    """Integers (exact below 2^24) or float16 widened to float32."""
    return x.astype(np.float32)


def i32(x: Array) -> Array:
    return x.astype(np.int32)


def _hidden_zero(witness: Array) -> Array:
    return (bits(witness) == _ALIEN_NAN).astype(np.uint32)


def _seal(value: Array, witness: Array) -> Array:
    return from_bits(bits(value) ^ _hidden_zero(witness))


def _witness(a: Any, b: Any) -> Array:
    """The operand that hides the zero: one that is being traced, since that of a constant is no secret."""
    if is_traced(a):
        return a
    return b if is_traced(b) or not is_jax(a) else a


# ARITHMETIC


def mul(a: Array, b: Array) -> Array:
    """a*b, rounded once, and never part of a fused multiply-add. Put the less predictable operand first."""
    if is_jax(a) or is_jax(b):
        return _seal(a * b, _witness(a, b))
    return a * b


def sealed_by(x: Array) -> Callable[[Array, Array], Array]:
    """A ``mul`` for loops: every product is sealed with one hidden zero, taken from finite x once, not per operand."""
    if not is_jax(x):
        return np.multiply
    zero = _hidden_zero(x)
    return lambda a, b: from_bits(bits(a * b) ^ zero)


def mul_int(d: Array, q: Array) -> Array:
    """d*q for any float32 d and integers abs(q) <= 128, exact down to subnormal d and results in both lanes."""
    if not (is_jax(d) or is_jax(q)):
        return d * f32(q)
    lib = library(d)
    u = bits(d)
    # Below 2^-125 d is a multiple of 2^-149: multiply integers, round once as a float, and move the exponent back.
    units = i32(lib.where((u >> 23) & 0xFF == 0, u & 0x007FFFFF, u & 0x007FFFFF | 0x00800000)) * abs(i32(q))
    as_float = bits(f32(units))
    small = lib.where(units < 2**24, units.astype(np.uint32), as_float - np.uint32(149 << 23))
    negative = (u >> 31 != 0) ^ (q < 0)
    small = small | lib.where(negative, np.uint32(0x80000000), np.uint32(0))
    return lib.where(u & 0x7FFFFFFF < np.uint32(2 << 23), from_bits(small), d * f32(q))


def madd(a: Array, b: Array, c: Array) -> Array:
    """a*b + c in the strict profile: the product rounds, then the sum."""
    return mul(a, b) + c


# The operations, "division" and "square root", that what is being traced does in whole numbers (long_arithmetic).
_by_hand: ContextVar[frozenset[str]] = ContextVar("by_hand", default=frozenset())


@contextmanager
def by_hand(operations: Iterable[str]) -> Iterator[None]:
    """Within it, jax functions that are traced do "division" or "square root" in whole numbers."""
    token = _by_hand.set(frozenset(operations))
    try:
        yield
    finally:
        _by_hand.reset(token)


def div(a: Array, b: Array) -> Array:
    """a/b, correctly rounded. a or b may be a Python number, not both."""
    if (is_jax(a) or is_jax(b)) and "division" in _by_hand.get():
        from hifi_ref import long_arithmetic

        lib = library(_witness(a, b))
        return long_arithmetic.div(*lib.broadcast_arrays(lib.asarray(a, np.float32), lib.asarray(b, np.float32)))
    if is_jax(a) or is_jax(b):
        if is_traced(b) and not is_traced(a) and np.ndim(a):
            # A table of constants hides no zero, and that of a broadcast is known once for many quotients.
            a, b = sys.modules["jax"].lax.optimization_barrier((library(b).asarray(a, np.float32), b))
        witness = _witness(a, b)
        numpy_like = library(witness)
        zero = _hidden_zero(witness)
        shape = np.broadcast_shapes(np.shape(a), np.shape(b))
        divisor = from_bits(bits(numpy_like.asarray(b, np.float32)) ^ numpy_like.broadcast_to(zero, shape))
        return from_bits(bits(a / divisor) ^ zero)
    return np.divide(a, b, dtype=np.float32)


def sqrt(x: Array) -> Array:
    """Square root, correctly rounded; sealed so that 1/sqrt(x) stays two operations."""
    if is_jax(x) and "square root" in _by_hand.get():
        from hifi_ref import long_arithmetic

        return long_arithmetic.sqrt(x)
    if is_jax(x):
        return _seal(library(x).sqrt(x), x)
    return np.sqrt(x)


def zeros_to_add_to(x: Array) -> Array:
    """float32 zeros shaped as x, to begin a sum with. XLA drops an addition to a zero it knows, though 0 + -0 is +0."""
    return from_bits(_hidden_zero(x)) if is_jax(x) else np.zeros(x.shape, np.float32)


def sum_in_order(terms: Array, unroll: int = 8) -> Array:
    """((0 + terms[0]) + terms[1]) + ...: float32 sum over axis 0, first to last, as a C loop adds."""
    return fold(terms.shape[0], lambda i, total: total + terms[i], zeros_to_add_to(terms[0]), unroll)


def sum_of_rows(terms: Array) -> Array:
    """[rows, n] -> [rows]: ((0 + terms[:, 0]) + terms[:, 1]) + ...: the terms of a dot product, block after block."""
    return fold(terms.shape[1], lambda i, total: total + terms[:, i], zeros_to_add_to(terms[:, 0]), unroll=8)


def reciprocal_or_zero(d: Array) -> Array:
    """1/d, and 0 where d is 0."""
    lib = library(d)
    return lib.where(d != 0, div(np.float32(1), lib.where(d != 0, d, np.float32(1))), np.float32(0))


def i16(x: Array) -> Array:
    return x.astype(np.int16)


def int_dot(q: Array, p: Array) -> Array:
    """Exact sums of products of codes: [rows, blocks, *parts, k] with [blocks, *parts, k] -> int32[rows, blocks].

    Each product must fit 16 bits and each sum stay below 2^24; parts may be any axes, or none.
    """
    if is_jax(q) or is_jax(p):
        # One contiguous axis is what XLA reduces well, and 16-bit products are the cheapest.
        products = (i32(i16(q[:, :, *part]) * i16(p[:, *part])) for part in np.ndindex(q.shape[2:-1]))
        return sum(products).sum(axis=-1, dtype=np.int32)
    rows, blocks = q.shape[:2]
    # Integers below 2^24 add exactly in binary32, in any order.
    return i32(np.einsum("rbk,bk->rb", f32(q.reshape(rows, blocks, -1)), f32(p.reshape(blocks, -1))))


def float_dot(x: Array, y: Array) -> Array:
    """[rows, n] with [n] -> float32[rows]: float32 products, added first to last in binary64, the sum rounded once."""
    rows, n = x.shape
    if is_jax(x) or is_jax(y):
        jax = sys.modules["jax"]
        products = wall(mul(x, y).T)
        # Binary64 exists only inside this context, whatever jax_enable_x64 says outside of it.
        with jax.enable_x64(True):

            def add(i, total):
                return total + products[i].astype(np.float64)

            return fold(n, add, zeros_to_add_to(products[0]).astype(np.float64), unroll=16).astype(np.float32)
    total = np.zeros(rows, np.float32)
    for i in range(0, rows, 16):
        products = (x[i : i + 16] * y).astype(np.float64)
        # Adding 0 last is adding to 0 first: only a sum of nothing but -0 shows it.
        total[i : i + 16] = np.add.accumulate(products, axis=1)[:, -1] + 0.0
    return total


def repeat(most: int, body: Callable[[Any], Any], state: Any, going_on: Callable[[Any], Any]) -> Any:
    """body(body(... state)), at most ``most`` times, while going_on(state). It must be the identity from then on."""
    if is_jax(going_on(state)):
        jax = sys.modules["jax"]

        def more(counted: Any) -> Any:
            return (counted[0] < most) & going_on(counted[1])

        return jax.lax.while_loop(more, lambda counted: (counted[0] + 1, body(counted[1])), (np.int32(0), state))[1]
    for _ in range(most):
        if not going_on(state):
            break
        state = body(state)
    return state


def with_row(x: Array, i: Any, row: Array) -> Array:
    """x with row i replaced; a NumPy array is changed in place."""
    if is_jax(x):
        return x.at[i].set(row)
    x[i] = row
    return x


def where_needed(needed: Array, work: Callable[..., Any], given: tuple[Any, ...], state: tuple[Any, ...]) -> Any:
    """work(*given, *state) in those lanes (last axis) where it is needed, state elsewhere.

    The JAX lane gathers the lanes in batches of a fixed size, an eighth of them all, until none is left.
    """
    if not is_jax(needed):
        lanes = np.flatnonzero(needed)
        for v, done in zip(state, work(*(v[..., lanes] for v in (*given, *state))), strict=True):
            v[..., lanes] = done
        return state
    jax = sys.modules["jax"]
    room = -(-needed.size // 8)

    def batch(left_and_state: Any) -> Any:
        left, state = left_and_state
        (lanes,) = jax.numpy.nonzero(left, size=room, fill_value=left.size)
        done = work(*(v.at[..., lanes].get(mode="clip") for v in (*given, *state)))
        state = tuple(v.at[..., lanes].set(d, mode="drop") for v, d in zip(state, done, strict=True))
        return left.at[lanes].set(False, mode="drop"), state

    return jax.lax.while_loop(lambda left_and_state: left_and_state[0].any(), batch, (needed, state))[1]


def pair(a: Array, b: Array) -> Any:
    """Two float32 arrays as one loop-carried value; take them apart with unpair.

    XLA:CPU computes every carried array in a loop of its own, and computes what they share again in each. In the JAX
    lane a pair is one complex64 array, so that both come out of one loop; adding pairs is two float32 additions.
    """
    if is_jax(a):
        return sys.modules["jax"].lax.complex(a, b)
    return np.stack([a, b])


def unpair(p: Any) -> tuple[Array, Array]:
    """The two arrays of a pair."""
    if is_jax(p):
        lax = sys.modules["jax"].lax
        return lax.real(p), lax.imag(p)
    return p[0], p[1]


def wall(*values: Array) -> Any:
    """The values, computed once: XLA must not compute them again inside each of their consumers.

    A loop whose number of turns is a zero that no compiler knows leaves its operands as they are, but in memory.
    """
    if not is_jax(values[0]):
        return values if len(values) > 1 else values[0]
    jax = sys.modules["jax"]
    first = values[0].reshape(-1)[0]
    turns = _hidden_zero(first.real.astype(np.float32))

    def more(state: Any) -> Any:
        return state[0] < turns

    def body(state: Any) -> Any:
        return (state[0] + np.uint32(1), *(~v if v.dtype == bool else v + v for v in state[1:]))

    held = jax.lax.while_loop(more, body, (jax.numpy.uint32(0), *values))[1:]
    return held if len(held) > 1 else held[0]


def in_pieces(work: Callable[..., Any], size: int, x: Array, weights: Array | None) -> Any:
    """work(x, weights) on [rows, blocks, n] and [blocks, n]; on a CPU the JAX lane takes ``size`` blocks at a time.

    The arrays of a search then stay in the second-level cache. work answers arrays that begin with [rows, blocks].
    """
    if not is_jax(x):
        return work(x, weights)
    jax = sys.modules["jax"]
    rows, blocks, n = x.shape
    count = rows * blocks
    size = max(1, min(size if jax.default_backend() == "cpu" else count, count))
    given = [x.reshape(count, n)]
    if weights is not None:
        given.append(jax.numpy.broadcast_to(weights, x.shape).reshape(count, n))
    missing = -count % size
    pieces = [jax.numpy.pad(a, [(0, missing), (0, 0)]).reshape(-1, 1, size, n) for a in given]
    done = jax.lax.map(lambda piece: work(piece[0], piece[1][0] if len(piece) > 1 else None), pieces)
    return tuple(a.reshape(-1, *a.shape[3:])[:count].reshape(rows, blocks, *a.shape[3:]) for a in done)


def columns(x: Array, n: int) -> Array:
    """[..., k * n] -> [n, groups]: element i of every run of n weights in row i, in memory, not as a strided view."""
    turned = x.reshape(-1, n).T
    return wall(turned) if is_jax(x) else np.ascontiguousarray(turned)


def rows(x: Array) -> Array:
    """The inverse of columns: [n, groups] -> [groups, n], in memory."""
    return wall(wall(x).T) if is_jax(x) else np.ascontiguousarray(x.T)


def running_sums(n: int, terms: Callable[[Any], tuple[Array, ...]], unroll: int = 8) -> tuple[Array, ...]:
    """Several ordered float32 sums at once: the j-th is ((0 + terms(0)[j]) + terms(1)[j]) + ... + terms(n-1)[j].

    They are carried as pairs, so put next to each other those that share most.
    """
    lib = library(terms(0)[0])
    zeros = tuple(zeros_to_add_to(first) for first in terms(0))

    def paired(values: tuple[Array, ...]) -> tuple[Any, ...]:
        rest = values[len(values) // 2 * 2 :]
        return (*(pair(values[j], values[j + 1]) for j in range(0, len(values) - 1, 2)), *rest)

    if not is_jax(zeros[0]):
        return fold(n, lambda i, total: tuple(t + v for t, v in zip(total, terms(i), strict=True)), zeros)
    totals = fold(
        n, lambda i, total: tuple(t + v for t, v in zip(total, paired(terms(i)), strict=True)), paired(zeros), unroll
    )
    return tuple(part for t in totals for part in (unpair(t) if lib.iscomplexobj(t) else (t,)))


# ROUNDING


def nearest_int(x: Array) -> Array:
    """int32 nearest to x, halves to even, by adding 1.5 * 2^23 and reading the low 23 bits.

    Right for abs(x) <= 2^22 - 1. Beyond it the answer is what those bits hold, as in C: infinities give -2^22, NaN 0.
    Source: nearest_int (ggml-quants.c).
    """
    return i32(bits(x + np.float32(12582912.0)) & np.uint32(0x007FFFFF)) - np.int32(0x00400000)


def rounded_code(x: Array, low: int, high: int) -> Array:
    """nearest_int(x) clamped to low..high, as float32.

    The JAX lane rounds and clamps in float, which is cheaper and the same for abs(x) <= 2^22 - 1; where larger values
    or NaN can occur the caller must not count the block as clear.
    """
    if not is_jax(x):
        return f32(np.clip(nearest_int(x), low, high))
    lib = library(x)
    whole = lib.round(x)
    whole = lib.where(np.float32(low) > whole, np.float32(low), whole)
    return lib.where(np.float32(high) < whole, np.float32(high), whole)


def round_half_away(x: Array) -> Array:
    """float32 integer nearest to x, halves away from zero: C's roundf, right also for 0.49999997."""
    numpy_like = library(x)
    whole = numpy_like.trunc(x)
    away = numpy_like.copysign(np.float32(1), x)
    return numpy_like.where(abs(x - whole) >= np.float32(0.5), whole + away, whole)


def truncate(x: Array) -> Array:
    """(int32)x, towards zero. Outside int32, and for NaN, the answer is -2^31, as x86-64's conversion gives."""
    numpy_like = library(x)
    inside = (x >= np.float32(-(2.0**31))) & (x < np.float32(2.0**31))
    return numpy_like.where(inside, i32(numpy_like.where(inside, x, np.float32(0))), np.int32(-(2**31)))


def as_int8(x: Array) -> Array:
    """(int8_t)x of an int32: the low byte, sign extended."""
    return x.astype(np.int8).astype(np.int32)


def at_most(bound: int, x: Array) -> Array:
    """MIN(bound, x)."""
    return library(x).minimum(x, np.int32(bound))


# CLEAR OF UNDERFLOW


def is_comfortable(x: Array, axis: int = -1) -> Array:
    """True along an axis that is all zero, or holds no subnormal number and a largest magnitude of 2^-90 to 2^90.

    Enough for encoders that only divide by a scale and round: the scale, its inverse and every difference that can
    reach a code are then normal numbers.
    """
    lib = library(x)
    size = bits(x) & np.uint32(0x7FFFFFFF)
    largest = lib.max(size, axis=axis)
    middle = (largest >= bits(np.float32(2.0**-90))) & (largest <= bits(np.float32(2.0**90)))
    subnormal = lib.any((size > 0) & (size < np.uint32(0x00800000)), axis=axis)
    return (largest == 0) | (middle & ~subnormal)


def is_faint(x: Array) -> Array:
    """abs(x) < 2^-126: zero, or a value that some back ends flush to zero."""
    return ~(abs(x) >= SMALLEST_NORMAL) & (x == x)


def poison(value: Array, faint: Array) -> Array:
    """NaN where an underflow was seen, in the JAX lane: what follows is NaN too, and so marks the block as not clear.

    In the NumPy lane the value as it is: there nothing is lost.
    """
    if is_jax(value):
        return library(value).where(faint, np.float32(np.nan), value)
    return value


def rank(x: Array) -> Array:
    """uint32 that orders nonzero magnitudes, subnormal ones too, and puts zero above all of them."""
    return (bits(x) & np.uint32(0x7FFFFFFF)) - np.uint32(1)


def unrank(r: Array) -> Array:
    """The magnitude of a rank; infinity for that of zero."""
    return from_bits(library(r).minimum(r, np.uint32(0x7F7FFFFF)) + np.uint32(1))


def least_magnitude(x: Array, axis: int) -> Array:
    """The smallest nonzero abs(x) along an axis; infinity where all are zero."""
    return unrank(library(x).min(rank(x), axis=axis))


def exponent(x: Array) -> Array:
    """int32 e with 2^e <= abs(x) < 2^(e+1) for normal x; -127 for zero and subnormals, 128 for infinities and NaN."""
    return i32((bits(x) >> np.uint32(23)) & np.uint32(0xFF)) - np.int32(127)


# CONVERSIONS


def widen_f16(h: Array) -> Array:
    """uint16 bits of binary16 -> float32, exact."""
    if is_jax(h):
        jax = sys.modules["jax"]
        return jax.lax.bitcast_convert_type(h, jax.numpy.float16).astype(np.float32)
    return h.view(np.float16).astype(np.float32)


def narrow_f16(x: Array) -> Array:
    """float32 -> uint16 bits of binary16, nearest even, overflow to infinity; any NaN becomes 0x7E00 with its sign."""
    numpy_like = library(x)
    if is_jax(x):
        jax = sys.modules["jax"]
        half = jax.lax.bitcast_convert_type(x.astype(np.float16), jax.numpy.uint16)
    else:
        half = np.asarray(x, np.float32).astype(np.float16).view(np.uint16)
    quiet = (half & np.uint16(0x8000)) | np.uint16(0x7E00)
    return numpy_like.where((half & np.uint16(0x7FFF)) > np.uint16(0x7C00), quiet, half)


def round_f16(x: Array) -> Array:
    """float32 -> the float32 value that binary16 keeps of it."""
    return widen_f16(narrow_f16(x))


def widen_bf16(h: Array) -> Array:
    """uint16 bits of bfloat16 -> float32, exact."""
    return from_bits(h.astype(np.uint32) << np.uint32(16))


def narrow_bf16(x: Array) -> Array:
    """float32 -> uint16 bits of bfloat16, nearest even, NaN made quiet. Source: ggml_compute_fp32_to_bf16."""
    u = bits(x)
    rounded = (u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet = (u >> np.uint32(16)) | np.uint32(64)
    is_nan = (u & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return library(x).where(is_nan, quiet, rounded).astype(np.uint16)


def widen_e8m0_half(e: Array) -> Array:
    """uint8 E8M0 exponent -> float32 bits (uint32) of 2^(e-128), half the scale; 0 and 1 are subnormal numbers.

    Bits, not a float, because a back end that flushes subnormals must not touch it. 255 is not treated as NaN.
    Source: ggml_e8m0_to_fp32_half.
    """
    e = e.astype(np.uint32)
    return library(e).where(e < 2, np.uint32(0x00200000) << e, (e - np.uint32(1)) << np.uint32(23))


def widen_ue4m3_half(e: Array) -> Array:
    """uint8 UE4M3 scale -> float32, halved; bytes 0 and 0x7F give 0, bit 7 is ignored. Source: ggml_ue4m3_to_fp32."""
    numpy_like = library(e)
    wide = e.astype(np.uint32)
    mantissa, biased = wide & np.uint32(7), (wide >> np.uint32(3)) & np.uint32(15)
    normal = from_bits((biased + np.uint32(119)) << np.uint32(23) | mantissa << np.uint32(20))
    subnormal = f32(mantissa) * np.float32(2.0**-10)
    value = numpy_like.where(biased == 0, subnormal, normal)
    return numpy_like.where((e == 0) | (e == 0x7F), np.float32(0), value)
