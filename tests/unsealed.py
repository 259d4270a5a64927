"""Products that a compiler could fuse with an addition: found in what jax traces, so for every back end at once.

``find`` walks a jaxpr and follows each array's ``Value``. A product of floats, or a quotient, since a compiler may make
it a product, is **loose** until its bits meet a hidden zero (`exact.hidden_zero`). It is an error where a loose value
comes to an addition or subtraction, and where a loose product with a constant meets another constant, since XLA then
multiplies the constants first. A product is not loose where it is exact: fused or not, the sum is then the same. That
is proven from significant bits: those of a 16-bit float are 11, those of a code its width, those of a product the sum.
Sums, running sums and matrix products of floats by a compiler's own operation are errors too: their order is not ours.

What is not known about a primitive is assumed to be the worst.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr

from hifi_ref.exact.bit_patterns import ALIEN_NAN
from tests import jaxprs
from tests.jaxprs import union

MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "complex64": 24, "float64": 53, "complex128": 53}
# They hand on their first operand's elements, or those of all of them.
MOVES = {
    "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "rev", "copy", "copy_p", "slice", "split",
    "optimization_barrier", "real", "imag", "neg", "reduce_max", "reduce_min", "gather", "dynamic_slice", "abs",
    "round", "stop_gradient",
}  # fmt: skip
JOINS = {
    "concatenate",
    "stack",
    "complex",
    "max",
    "min",
    "pad",
    "dynamic_update_slice",
    "scatter",
    "and",
    "or",
    "clamp",
}
UNORDERED = {"reduce_sum", "cumsum", "dot_general", "reduce_prod", "cumprod", "reduce_window_sum", "scatter_add"}


class Value(NamedTuple):
    """What is known of an array: significant bits of floats, range and trailing zeros of integers.

    ``known``: a constant, at compile time. ``loose``: an inexact product or quotient, or the bits of one; ``scaled``:
    one by a constant. ``hidden``: a zero that no compiler knows.
    """

    bits: int = 0
    low: int = 0
    high: int = 0
    zeros: int = 0
    known: bool = False
    loose: bool = False
    scaled: bool = False
    hidden: bool = False

    def __or__(self, other: Value) -> Value:
        return Value(
            max(self.bits, other.bits), min(self.low, other.low), max(self.high, other.high),
            min(self.zeros, other.zeros), self.known and other.known, self.loose or other.loose,
            self.scaled or other.scaled, self.hidden and other.hidden,
        )  # fmt: skip


def find(traced: ClosedJaxpr) -> list[str]:
    """One line an error, with its place; empty if there is none."""
    rules = jaxprs.Rules(_constant, _known_or_not, _widened)
    return jaxprs.find(traced, rules, [_anything(v.aval) for v in traced.jaxpr.invars])


def _known_or_not(eqn: Any, aval: Any, operands: list[Value], context: None, found: list[str]) -> Value:
    return _one(eqn, aval, operands, found)._replace(known=all(v.known for v in operands))


def _widened(a: Value, b: Value, v: Any) -> Value:
    """Ranges that grow are given up at once."""
    whole = _anything(v.aval)
    both = a | b._replace(low=max(b.low, whole.low), high=min(b.high, whole.high))
    grown = (both.low, both.high, both.zeros) != (a.low, a.high, a.zeros)
    return both._replace(low=whole.low, high=whole.high, zeros=0) if grown else both


# ONE OPERATION


def _one(eqn: Any, aval: Any, operands: list[Value], found: list[str]) -> Value:
    name = eqn.primitive.name
    is_float = str(aval.dtype) in MANTISSA
    anything = _anything(aval)
    if name in UNORDERED and is_float:
        found.append(f"{name} of floats, whose order is the compiler's")
        return anything
    if name in ("add", "sub", "add_any") and is_float:
        # A wall's body adds each value to itself, and never runs.
        if any(v.loose for v in operands) and eqn.invars[0] is not eqn.invars[1]:
            found.append(f"{name} of an unsealed product")
        return anything
    if name in ("mul", "integer_pow", "square") and is_float:
        return _product(anything, operands if name == "mul" else operands * 2, found)
    if name in ("div", "sqrt", "rsqrt", "pow", "exp", "log") and is_float:
        return anything._replace(loose=True)
    if name == "select_n":
        return union(operands[1:])
    if name == "gather" and operands[0].known or name in MOVES:
        return operands[0]
    if name in ("and", "or") or name in JOINS:
        return union(operands)._replace(**_range(name, operands, anything))
    if name == "convert_element_type":
        return _converted(eqn.invars[0].aval, aval, operands[0], anything)
    if name == "bitcast_convert_type":
        value, wide = operands[0], MANTISSA.get(str(eqn.invars[0].aval.dtype))
        if is_float:
            return anything._replace(loose=value.loose, bits=max(1, anything.bits - value.zeros))
        return anything._replace(loose=value.loose, zeros=wide - value.bits if wide else 0)
    if name == "xor":
        hidden = any(v.hidden for v in operands)
        joined = union(operands)
        return anything._replace(loose=joined.loose and not hidden, zeros=0 if not hidden else joined.zeros)
    if name == "eq":
        a, b = sorted(operands, key=lambda v: v.known)
        alien = int(ALIEN_NAN)
        return anything._replace(hidden=b.known and not a.known and b.low == b.high == alien)
    return anything._replace(**_range(name, operands, anything))


def _product(anything: Value, operands: list[Value], found: list[str]) -> Value:
    a, b = operands
    if a.scaled and b.known and b.bits > 1 or b.scaled and a.known and a.bits > 1:
        found.append("product of an unsealed product by a constant with a constant")
    # By a power of two, only the exponent changes
    bits = max(a.bits, b.bits) if min(a.bits, b.bits) == 1 else a.bits + b.bits
    if bits <= anything.bits:
        return anything._replace(bits=bits, loose=a.loose or b.loose, scaled=a.scaled or b.scaled)
    return anything._replace(loose=True, scaled=a.known or b.known)


def _converted(before: Any, aval: Any, value: Value, anything: Value) -> Value:
    source, target = str(before.dtype), str(aval.dtype)
    if target in MANTISSA:
        if source in MANTISSA:
            # Rounded to fewer bits it is no product any more.
            loose = value.loose and MANTISSA[target] >= MANTISSA[source]
            return anything._replace(bits=min(anything.bits, value.bits), loose=loose)
        return anything._replace(bits=min(anything.bits, _width(value)))
    if source in MANTISSA:
        return anything
    fits = anything.low <= value.low and value.high <= anything.high
    return value._replace(loose=False) if fits else anything._replace(hidden=value.hidden)


def _range(name: str, operands: list[Value], anything: Value) -> dict[str, int]:
    """Of an integer result: its range and how many of its lowest bits are zeros; the whole type's where not known."""
    if anything.bits:
        return {}
    span = {"low": anything.low, "high": anything.high, "zeros": 0}
    if not operands:
        return span
    a, b = operands[0], operands[-1]
    corners = None
    if name == "and":
        tops = [v.high for v in (a, b) if v.low >= 0]
        return {"low": 0 if tops else anything.low, "high": min(tops, default=anything.high),
                "zeros": max(a.zeros, b.zeros)}  # fmt: skip
    if name == "or" and min(a.low, b.low) >= 0:
        return {"low": 0, "high": (1 << max(a.high, b.high).bit_length()) - 1, "zeros": min(a.zeros, b.zeros)}
    if name in ("shift_right_logical", "shift_right_arithmetic") and b.low >= 0 and (a.low >= 0 or "arith" in name):
        return span | {"low": a.low >> b.low if a.low < 0 else 0, "high": max(0, a.high) >> b.low}
    if name == "shift_left" and b.low >= 0:
        span["zeros"] = min(31, a.zeros + b.low)
        if a.low >= 0 and b.high < 64:
            corners = [a.low << b.low, a.high << b.high]
    if name == "add":
        corners = [a.low + b.low, a.high + b.high]
    if name == "sub":
        corners = [a.low - b.high, a.high - b.low]
    if name == "mul":
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    if name in JOINS or name in ("max", "min"):
        joined = union(operands)
        corners, span["zeros"] = [joined.low, joined.high], joined.zeros
    if name == "clamp":
        corners = [max(a.low, operands[1].low), min(b.high, operands[1].high)]
        corners = [min(corners), max(corners)] if corners[0] <= corners[1] else [a.low, b.high]
    if corners and anything.low <= min(corners) and max(corners) <= anything.high:
        return span | {"low": min(corners), "high": max(corners)}
    return span


# FACTS


def _anything(aval: Any) -> Value:
    dtype = str(aval.dtype)
    if dtype in MANTISSA:
        return Value(bits=MANTISSA[dtype])
    if dtype == "bool":
        return Value(low=0, high=1)
    info = np.iinfo(dtype)
    return Value(low=int(info.min), high=int(info.max))


def _constant(value: Any) -> Value:
    value = np.asarray(value)
    if value.dtype.kind in "fc":
        parts = np.unique(np.stack([value.real, value.imag]) if value.dtype.kind == "c" else value)
        mantissas = np.frexp(parts[np.isfinite(parts)].astype(np.float64))[0]
        whole = [int(abs(m) * 2.0**53) for m in mantissas if m]
        return Value(bits=max((53 - _trailing(w) for w in whole), default=1), known=True)
    if value.size == 0:
        return Value(known=True)
    low, high = int(value.min()), int(value.max())
    return Value(low=low, high=high, zeros=_trailing(math.gcd(*map(int, np.unique(value).ravel()))), known=True)


def _trailing(n: int) -> int:
    """Trailing zero bits; of 0 as many as a word has."""
    return (n & -n).bit_length() - 1 if n else 31


def _width(value: Value) -> int:
    """The significant bits that the integers of a range need at most; 2^k at the end of one needs a single bit."""
    largest = max(abs(value.low), abs(value.high))
    if largest & (largest - 1) == 0:
        largest -= 1
    return max(1, largest.bit_length() - value.zeros)
