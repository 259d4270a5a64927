"""`python -m golden.ties [FORMAT.OPERATION ...]` says which ties of the definition's roundings the vectors hold.

A site is a call or an operator of the definition that rounds: a product, sum, quotient or root, a conversion, a
rounding to whole numbers or the cutting off of what is behind them; of a sum of many it is every sum on the way. While
the vectors run, every site is watched for values on a tie, just below and just above it, of both signs. Just beside
means within a 128th of the distance of two results, and for conversions and whole numbers within two last bits.
Quotients and roots are never on a tie.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from golden import judge
from hifi_ref import exact
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.known_bugs.derived import functions, places
from hifi_ref.known_bugs.derived.exchange import compiled, exchanged

SIDES = ("below", "on", "above")
SIGNS = ("+", "-")
Tie = tuple[str, str]  # one of SIDES or "rounds", one of SIGNS
JUST = 2.0**-7
F32 = np.float32


class Site(NamedTuple):
    """Where the definition rounds: module.function: text; a second one of the same text has a number behind it."""

    name: str
    rounding: str  # a key of ROUNDINGS


# Site -> the ties met there; filled while the definition is watched.
_met: dict[Site, set[Tie]] = {}


def watched(name: str, rounding: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose operands are looked at: whether its result was a tie."""
    met = _met[Site(name, rounding)]

    def watch(*operands: Any) -> Any:
        result = function(*operands)
        # Indices and shapes are no numbers of the format
        if any(getattr(a, "dtype", None) == F32 for a in operands):
            met.update(ties_of(rounding, *operands))
        return result

    return watch


def ties_of(rounding: str, *operands: Any) -> set[Tie]:
    """The ties that these operands meet, in size: below one is nearer to 0; and of which signs something is rounded."""
    with np.errstate(all="ignore"):
        value, tie, just = (np.asarray(a, np.longdouble) for a in ROUNDINGS[rounding](*operands))
        beside = abs(value - tie) <= just
        sides = {"below": abs(value) < abs(tie), "on": value == tie, "above": abs(value) > abs(tie)}
        signs = {"+": value > 0, "-": value < 0}
        inexact = value != np.rint(value) if ROUNDINGS[rounding] in (_whole, _cut) else ~np.isnan(tie)
        met = {(s, sign) for s in SIDES for sign in SIGNS if (sides[s] & signs[sign] & beside).any()}
        return met | {("rounds", sign) for sign in SIGNS if (inexact & signs[sign]).any()}


# VALUE, THE NEAREST TIE, HOW FAR FROM IT IS JUST BESIDE


def _of_binary32(value: Any) -> tuple[Any, Any, Any]:
    """An exact value that is to be a binary32. Where it is one there is no tie."""
    nearest = np.asarray(value).astype(F32)
    far = np.where(value >= nearest, F32(np.inf), F32(-np.inf)).astype(F32)
    other = np.nextafter(nearest, far).astype(np.longdouble)
    near = nearest.astype(np.longdouble)
    rounds = np.isfinite(near) & np.isfinite(other) & (value != near)
    return value, np.where(rounds, (near + other) / 2, np.nan), abs(near - other) * JUST


def _long(x: Any) -> Any:
    return np.asarray(x, np.longdouble)


def _product(a: Any, b: Any, *_: Any) -> tuple[Any, Any, Any]:
    return _of_binary32(_long(a) * _long(b))


def _sum_of_product(a: Any, b: Any, c: Any) -> tuple[Any, Any, Any]:
    return _of_binary32(_long(np.multiply(a, b, dtype=F32)) + _long(c))


def _sums(terms: Any, axis: int) -> tuple[Any, Any, Any]:
    """Every sum on the way, first to last."""
    terms = np.moveaxis(np.asarray(terms, F32), axis, 0)
    before = np.concatenate([np.zeros_like(terms[:1]), np.add.accumulate(terms, axis=0)[:-1]])
    return _of_binary32(_long(before) + _long(terms))


def _row_sums(terms: Any) -> tuple[Any, Any, Any]:
    return _sums(np.reshape(terms, (len(terms), -1)), axis=1)


def _narrowed_sum(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The sum that float_dot keeps in binary64."""
    return _of_binary32(np.add.accumulate(np.multiply(x, y, dtype=F32).astype(np.float64), axis=1)[:, -1])


def _quotient(a: Any, b: Any) -> tuple[Any, Any, Any]:
    return _of_binary32(_long(a) / _long(b))


def _whole(x: Any, *_: Any) -> tuple[Any, Any, Any]:
    return x, np.copysign(np.floor(abs(_long(x))) + 0.5, _long(x)), 2 * np.spacing(abs(np.asarray(x, F32)))


def _cut(x: Any) -> tuple[Any, Any, Any]:
    return x, np.rint(_long(x)), 2 * np.spacing(abs(np.asarray(x, F32)))


def _binary16(x: Any) -> tuple[Any, Any, Any]:
    return _of_narrow(x, exact.widen_f16(exact.narrow_f16(np.asarray(x, F32))), np.float16)


def _bfloat16(x: Any) -> tuple[Any, Any, Any]:
    low = exact.bits(np.asarray(x, F32)) & np.uint32(0xFFFF0000)
    tie = np.where(exact.from_bits(low) == x, np.nan, _long(exact.from_bits(low | np.uint32(0x8000))))
    return x, tie, 2 * np.spacing(abs(np.asarray(x, F32)))


def _of_narrow(x: Any, nearest: Any, kind: type) -> tuple[Any, Any, Any]:
    x = np.asarray(x, F32)
    near = np.asarray(nearest).astype(kind)
    other = np.nextafter(near, np.where(x >= nearest, np.inf, -np.inf).astype(kind))
    rounds = np.isfinite(near) & np.isfinite(other) & (x != near)
    return x, np.where(rounds, (_long(near) + _long(other)) / 2, np.nan), 2 * np.spacing(abs(x))


ROUNDINGS: dict[str, Callable[..., tuple[Any, Any, Any]]] = {
    "mul": _product, "product": _product, "score": _product, "madd": _sum_of_product,
    "Mult": _product, "Add": lambda a, b: _of_binary32(_long(a) + _long(b)),
    "Sub": lambda a, b: _of_binary32(_long(a) - _long(b)),
    "div": _quotient, "ratio": _quotient, "reciprocal_or_zero": lambda d: _quotient(1, d),
    "sqrt": lambda x: _of_binary32(np.sqrt(_long(x))),
    "nearest_int": _whole, "rounded_code": _whole, "round_half_away": _whole, "truncate": _cut,
    "narrow_f16": _binary16, "round_f16": _binary16, "narrow_bf16": _bfloat16,
    "sum_in_order": lambda terms: _sums(terms, axis=0), "sum_of_rows": _row_sums,
    "float_dot": _narrowed_sum, "products of float_dot": _product,
}  # fmt: skip
OPERATORS = {"Mult": "mul", "Add": "add", "Sub": "sub"}
NEVER_ON = ("div", "ratio", "reciprocal_or_zero", "sqrt")


# SITES


def _roundings(node: ast.AST) -> list[str]:
    """How an expression rounds, keys of ROUNDINGS; none where it does not."""
    name = ""
    if isinstance(node, ast.BinOp):
        name = type(node.op).__name__
    elif isinstance(node, ast.Call) and not node.keywords:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return [key for key in (name, f"products of {name}") if key in ROUNDINGS]


def watching(format: str, operation: str) -> dict[FunctionType, CodeType]:
    """The functions of an operation -> their codes, in which every site is watched."""
    _met.clear()
    codes = {}
    for function in functions.functions_of(format, operation):
        names: set[str] = set()
        changes = []
        for place, _ in places(function):
            for rounding in _roundings(place.node):
                text, number = f"{function.name}: {ast.unparse(place.node)}", 2
                name = text
                while name in names:
                    name, number = f"{text} ({number})", number + 1
                names.add(name)
                _met[Site(name, rounding)] = set()
                changes.append((place, functools.partial(_watched, name, rounding)))
        if changes:
            # From the innermost out: what is outside is made of what was put inside
            codes[function.function] = compiled(function, changes[::-1])
    return codes


def _watched(name: str, rounding: str, node: Any) -> ast.Call:
    if isinstance(node, ast.BinOp):
        function = ast.parse(f"__import__('operator').{OPERATORS[rounding]}", mode="eval").body
        operands = [node.left, node.right]
    else:
        function, operands = node.func, node.args
    watch = ast.parse("__import__('golden.ties', fromlist=['*']).watched", mode="eval").body
    return ast.Call(ast.Call(watch, [ast.Constant(name), ast.Constant(rounding), function], []), operands, [])


def met(format: str, operation: str, given: Iterable[tuple[np.ndarray, ...]]) -> dict[Site, set[Tie]]:
    """The ties at each site that is reached with binary32 numbers, while the operation runs on what is given."""
    found: dict[Site, set[Tie]] = {}
    for one in met_by_each(format, operation, given):
        for site, ties in one.items():
            found.setdefault(site, set()).update(ties)
    return found


def met_by_each(format: str, operation: str, given: Iterable[tuple[np.ndarray, ...]]) -> list[dict[Site, set[Tie]]]:
    """met, of each of those that are given by itself."""
    found = []
    with exchanged(watching(format, operation)), np.errstate(all="ignore"):
        for operands in given:
            for ties in _met.values():
                ties.clear()
            functions.run(format, operation, *operands)
            found.append({site: set(ties) for site, ties in _met.items()})
    return found


def of_vectors(format: str, operation: str) -> dict[Site, set[Tie]]:
    content = judge.load(format, operation)
    return met(format, operation, given(content, judge.batches(content)))


def given(content: dict[str, Any], batches: Iterable[list[dict[str, Any]]]) -> list[tuple[np.ndarray, ...]]:
    """What each batch of tests gives to the operation."""
    asked: list[tuple[np.ndarray, ...]] = []

    def ask(*operands: np.ndarray) -> np.ndarray:
        asked.append(operands)
        return operands[0]

    for tests in batches:
        judge.observed(content, tests, ask)
    return asked


def main(cells: list[str]) -> int:
    """Prints a line for each operation of each format, and below it what is missing."""
    for cell in cells or [f"{f.name}.{op}" for f in LLAMA_CPP.values() for op in judge.GIVEN if getattr(f, op)]:
        found = of_vectors(*cell.split("."))
        rounds = {site: ties for site, ties in found.items() if possible(site, ties)}
        whole = [site for site, ties in rounds.items() if not possible(site, ties) - ties]
        print(f"{cell:<15} {len(found):>4} sites {len(rounds):>4} round {len(whole):>4} with all ties", flush=True)
        for site, ties in rounds.items():
            if missing := sorted(possible(site, ties) - ties):
                print(f"    {site.name[:100]}: no {', '.join(map(' '.join, missing))}")
    return 0


def possible(site: Site, met: set[Tie]) -> set[Tie]:
    """The ties of a site, of the signs of which it was seen to round; none where it never was."""
    sides = [side for side in SIDES if side != "on" or site.rounding not in NEVER_ON]
    return {(side, sign) for side in sides for sign in SIGNS if ("rounds", sign) in met}


if __name__ == "__main__":
    # The sites call this module by its name.
    from golden import ties

    sys.exit(ties.main(sys.argv[1:]))
