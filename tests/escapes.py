"""Products and quotients that escape the watch over underflow: found in what jax traces (see hifi_ref/exact/watch.py).

Of each float it is known that, unless it is zero, its magnitude is at least 2^least, and that it is a multiple of
2^grain. Inputs are given with what the lane's own watch leaves of them; a product or quotient that is compared with
FAINT, as ``exact.mul`` and ``exact.div`` do, is at least 2^-103. One that is not is **faint**, perhaps, where it cannot
be shown from its factors to be a multiple of 2^-126. It is an error where a faint value meets arithmetic, or a
comparison, that would see the difference between it and a zero. What rounds it to a whole number does not see it, nor
does an addition to a constant.

Arithmetic inside ``exact.unwatched`` is believed; ``believed`` tells where it stands, so that a test can hold that
list to be the one that has been read.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax._src import source_info_util
from jax.extend.core import ClosedJaxpr, Literal

from hifi_ref import exact
from hifi_ref.exact.bit_patterns import ALIEN_NAN
from tests import jaxprs
from tests.jaxprs import union

FLOATS = {
    "float16": (-24, -24), "bfloat16": (-133, -133), "float32": (-149, -149), "complex64": (-149, -149),
    "float64": (-1074, -1074),
}  # fmt: skip
# Nothing but zeros, infinities and NaN
NOTHING = 1 << 20
MOVES = {
    "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "rev", "copy", "copy_p", "slice", "split",
    "optimization_barrier", "real", "imag", "neg", "reduce_max", "reduce_min", "gather", "dynamic_slice", "abs",
    "stop_gradient", "reduce_or", "reduce_and", "name",
}  # fmt: skip
JOINS = {"concatenate", "stack", "complex", "max", "min", "pad", "dynamic_update_slice", "scatter", "clamp"}
WHOLE = {"round", "floor", "ceil", "sign", "trunc"}
COMPARISONS = {"lt", "le", "gt", "ge", "eq", "ne"}
# What these make of a code, by its bits: at least 2^-10, and a multiple of it
NARROW = ("widen_ue4m3_half", "hifi/e4m3.py")
# These round by their bits: exact/rounding.py, and what narrows to the floats of few bits
ROUNDING = ("exact/rounding.py", "exact/conversions.py", "exact/long_arithmetic.py", "exact/watch.py")


class Value(NamedTuple):
    """``away``: a constant, every element of which is at least 2^-60. ``pattern``: an integer that is a float's bits;
    ``signs``: one that is 0 or 2^31; ``hidden``: a zero that no compiler knows.
    """

    least: int = NOTHING
    grain: int = NOTHING
    faint: bool = False
    away: bool = False
    pattern: bool = False
    signs: bool = False
    hidden: bool = False

    def __or__(self, other: Value) -> Value:
        return Value(
            min(self.least, other.least), min(self.grain, other.grain), self.faint or other.faint,
            self.away and other.away, self.pattern and other.pattern, self.signs and other.signs,
            self.hidden and other.hidden,
        )  # fmt: skip


INTEGER = Value(0, 0)
WATCHED = Value(-103, -126)


class Context(NamedTuple):
    """What holds in a jaxpr: how small its watched variables may be, and whether it is believed."""

    floors: dict[Any, int]
    believed: bool


def find(traced: ClosedJaxpr, inputs: Value = WATCHED) -> tuple[list[str], set[str]]:
    """Errors, one line each with its place; and the places of the products that are believed, as file:function."""
    places: set[str] = set()

    def one(eqn: Any, aval: Any, operands: list[Value], context: Context, found: list[str]) -> Value:
        return _one(eqn, aval, operands, context, found, places)

    rules = jaxprs.Rules(_constant, one, _widened, _context, frozenset({"trunc"}))
    given = [inputs if str(v.aval.dtype) == "float32" else _anything(v.aval) for v in traced.jaxpr.invars]
    return jaxprs.find(traced, rules, given), places


def _widened(a: Value, b: Value, v: Any) -> Value:
    both = a | b
    whole = _anything(v.aval)
    # Magnitudes that shrink from turn to turn may go on to do so
    return both._replace(least=whole.least, grain=whole.grain) if both.grain < a.grain < NOTHING else both


def _context(jaxpr: Any, outer: Context | None, eqn: Any) -> Context:
    """Variables that are compared with FAINT, or their bits with those of a floor: found before the walk."""
    made_by = {v: e for e in jaxpr.eqns for v in e.outvars}
    floors: dict[Any, int] = {}
    for e in jaxpr.eqns:
        if e.primitive.name != "lt" or not isinstance(e.invars[1], Literal):
            continue
        value, bound = e.invars[0], np.asarray(e.invars[1].val)
        if bound.dtype == np.float32 and bound in (exact.FAINT, exact.SMALLEST_NORMAL):
            source = made_by.get(value)
            result = source.invars[0] if source is not None and source.primitive.name == "abs" else value
            floors[result] = round(math.log2(bound))
        for floor in (exact.FAINT, exact.FLOOR):
            if bound.dtype == np.uint32 and bound == exact.bits(floor):
                value_of_bits = made_by[made_by[value].invars[0]].invars[0]
                floors[value_of_bits] = round(math.log2(floor))
    believed = (outer is not None and outer.believed) or (eqn is not None and _stands_unwatched(eqn))
    return Context(floors, believed)


def _stands_unwatched(eqn: Any) -> bool:
    return "unwatched" in str(eqn.source_info.name_stack)


def _place(eqn: Any) -> tuple[str, str]:
    frame = source_info_util.user_frame(eqn.source_info.traceback)
    return (frame.file_name, frame.function_name) if frame else ("", "")


# ONE OPERATION


def _one(eqn: Any, aval: Any, operands: list[Value], context: Context, found: list[str], places: set[str]) -> Value:
    result = _result(eqn, aval, operands, context, found, places)
    floor = context.floors.get(eqn.outvars[0])
    if floor is not None and str(aval.dtype) == "float32":
        return result._replace(least=max(result.least, floor), grain=max(result.grain, floor - 23), faint=False)
    return result


def _result(eqn: Any, aval: Any, operands: list[Value], context: Context, found: list[str], places: set[str]) -> Value:
    name, is_float = eqn.params.get("name", eqn.primitive.name), str(aval.dtype) in FLOATS
    operands = [_floored(v, value, context) for v, value in zip(eqn.invars, operands, strict=True)]
    anything = _anything(aval)
    if is_float and str(aval.dtype) == "float64":
        # Far from what binary64 flushes
        return Value(-600, -650)
    if is_float and any(part in f"{f.file_name}:{f.function_name}" for part in NARROW for f in _frames(eqn)):
        return Value(-10, -10)
    if any(part in _place(eqn)[0] for part in ROUNDING) and name not in ("mul", "bitcast_convert_type", "xor", "eq"):
        return _one_moved(name, anything, operands)
    if name in ("mul", "div", "integer_pow", "square") and is_float:
        if any(v.faint for v in operands):
            found.append(f"{name} of what escaped the watch")
        if context.believed or _stands_unwatched(eqn):
            if eqn.outvars[0] not in context.floors:
                file, function = _caller(eqn)
                places.add(f"{file.rsplit('hifi_ref/', 1)[-1]}:{function}")
            return WATCHED
        return _product(eqn, operands if len(operands) == 2 else operands * 2, name == "div", context)
    if name == "sqrt" and is_float:
        least = operands[0].least // 2
        return Value(least, least - 23)
    if name in ("add", "sub", "add_any") and is_float:
        if eqn.invars[0] is eqn.invars[1]:
            # A wall's body, which never runs
            return operands[0]
        return _sum(operands, found, name)
    if name in COMPARISONS:
        a, b = operands
        alien = any(isinstance(v, Literal) and np.asarray(v.val) == ALIEN_NAN for v in eqn.invars)
        if (a.faint and not b.away or b.faint and not a.away) and not alien:
            found.append(f"{name} of what escaped the watch")
        return anything._replace(hidden=name == "eq" and alien)
    if name in WHOLE and is_float:
        return Value(0, 0)
    return (
        _one_moved(name, anything, operands) if name != "bitcast_convert_type" else _recast(is_float, operands[0], aval)
    )


def _frames(eqn: Any) -> list[Any]:
    return list(source_info_util.user_frames(eqn.source_info.traceback))


def _caller(eqn: Any) -> tuple[str, str]:
    """The search that a product stands in, not the arithmetic that makes it."""
    for frame in _frames(eqn):
        if "/exact/" not in frame.file_name:
            return frame.file_name, frame.function_name
    return _place(eqn)


def _floored(v: Any, value: Value, context: Context) -> Value:
    floor = None if isinstance(v, Literal) else context.floors.get(v)
    if floor is None:
        return value
    return value._replace(least=max(value.least, floor), grain=max(value.grain, floor - 23), faint=False)


def _product(eqn: Any, operands: list[Value], is_quotient: bool, context: Context) -> Value:
    a, b = operands
    if eqn.outvars[0] in context.floors:
        floor = context.floors[eqn.outvars[0]]
        return Value(floor, floor - 23)
    if is_quotient:
        return Value(-149, -149, faint=True)
    least, grain = a.least + b.least, a.grain + b.grain
    if min(a.least, b.least) >= 0 and max(a.least, b.least) >= NOTHING:
        least = grain = NOTHING
    grain = max(grain, least - 23)
    return Value(least, grain) if grain >= -126 else Value(-149, -149, faint=True)


def _sum(operands: list[Value], found: list[str], name: str) -> Value:
    a, b = operands
    faint = a.faint or b.faint
    if faint and not (a.away or b.away):
        whole = (a if b.faint else b).grain >= 0
        if not whole or (a.faint and b.faint):
            found.append(f"{name} of what escaped the watch")
        # Beside a whole number that is not 0 it is lost, beside 0 it is what it was
        return Value(-149, -149, faint=True)
    if faint:
        return Value(-83, -83)
    grain = min(a.grain, b.grain)
    if grain < -126:
        found.append(f"{name} of what is watched down to 2^-126 only, or not at all")
    return Value(grain, grain)


def _one_moved(name: str, anything: Value, operands: list[Value]) -> Value:
    if name == "select_n":
        return union(operands[1:])
    if name in MOVES:
        return operands[0]
    if name in JOINS:
        return union(operands)
    if name == "convert_element_type":
        return _converted(anything, operands[0])
    if name == "xor":
        hidden, signs = (any(getattr(v, kind) for v in operands) for kind in ("hidden", "signs"))
        if all(v.signs or v.hidden for v in operands):
            return anything._replace(signs=True, hidden=all(v.hidden for v in operands))
        kept = [v for v in operands if not v.hidden and not v.signs]
        return kept[0] if (hidden or signs) and len(kept) == 1 else anything
    if name == "shift_left":
        shift = operands[1]
        return anything._replace(signs=shift.away and shift.least == 31)
    return anything


def _converted(anything: Value, value: Value) -> Value:
    if anything.least >= 0 and anything.least < NOTHING:
        # To a whole number, or from one: a faint value becomes 0
        return anything._replace(hidden=value.hidden, signs=value.signs, pattern=value.pattern)
    if value.least == 0 and value.grain == 0 and not value.pattern:
        return INTEGER
    if anything.least == -24:
        # binary16 holds 0 for what is faint
        return anything
    return value._replace(least=max(value.least, anything.least), grain=max(value.grain, anything.grain))


def _recast(is_float: bool, value: Value, aval: Any) -> Value:
    if not is_float:
        return value._replace(pattern=True) if value.least != 0 or value.grain != 0 else value
    if value.hidden:
        return Value()
    return value._replace(pattern=False) if value.pattern else _anything(aval)


# FACTS


def _anything(aval: Any) -> Value:
    dtype = str(aval.dtype)
    return Value(*FLOATS[dtype]) if dtype in FLOATS else INTEGER


def _constant(value: Any) -> Value:
    value = np.asarray(value)
    if value.dtype.kind != "f":
        signs = value.dtype == np.uint32 and bool(np.isin(value, (0, 1 << 31)).all())
        single = value.size == 1 and value.dtype.kind in "iu" and int(value.ravel()[0]) == 31
        # A shift by 31 is told by least and away
        return Value(31, 0, away=True) if single else INTEGER._replace(signs=signs)
    away = bool((abs(value) >= 2.0**-60).all())
    parts = np.unique(abs(value[np.isfinite(value)].astype(np.float64)))
    parts = parts[parts > 0]
    if not parts.size:
        return Value(away=away)
    mantissas, exponents = np.frexp(parts)
    whole = (mantissas * 2.0**53).astype(np.int64)
    trailing = [(int(w) & -int(w)).bit_length() - 1 for w in whole]
    grain = min(int(e) - 53 + t for e, t in zip(exponents, trailing, strict=True))
    return Value(int(exponents.min()) - 1, grain, away=away)
