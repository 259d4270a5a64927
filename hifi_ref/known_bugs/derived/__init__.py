"""Wrong implementations derived from the definition itself, site by site.

All that the formats compute passes through calls, operators and numbers of hifi_ref/formats. A **site** is one of them,
in a function that an operation runs; a **derived bug** is the operation with this one site answered otherwise: rounded,
added, compared or read in another way.

>>> from hifi_ref.known_bugs.derived import derived_bugs
>>> print(derived_bugs("Q4_0", "dot")[0].says)

    functions     which functions and lines of the definition an operation runs
    calls         what may stand in the place of a call;   operators   of an operator, a comparison, a number
    reading       of what reads numbers: their sign, bits, order (orders), block, and sums carried on
    quantities    of what an encoder takes: constants, the largest, guards;   importances   what its errors count
    wrong         the wrong functions that stand there; wrong_bytes, wrong_conversions, wrong_reading, wrong_quantities
    exchange      how a function runs with other code, and an operation with it (runners)
    stages        searches that are not run anew for each bug
    words         what a site is about, in the field's words
    equivalent    derived bugs that are none, each with the reason; of encoders that search in equivalent_searches, and
                  of those that search a grid in equivalent_grids
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hifi_ref.known_bugs.derived import calls, functions, operators, quantities, reading, runners
from hifi_ref.known_bugs.derived.calls import Change
from hifi_ref.known_bugs.derived.exchange import Place
from hifi_ref.known_bugs.derived.functions import Function
from hifi_ref.known_bugs.derived.runners import Site
from hifi_ref.known_bugs.derived.words import subject

__all__ = ["Derived", "derived_bugs"]

# Calls whose arguments are shapes, axes and types; of the second kind all but the first.
ABOUT_SHAPES = {"reshape", "moveaxis", "zeros", "full", "astype", "range", "arange", "view", "split", "mark", "is_jax"}
SHAPED_FIRST = {"broadcast_to", "repeat", "columns", "stack", "concatenate", "argsort", "take_along_axis"}
# What is passed by name and is no number of the definition.
ABOUT_RUNNING = {"axis", "unroll", "at_once", "kind", "mode", "dtype", "shape"}


# Encoders and decoders have no integer sums that could fill 16 bits.
ONLY_IN_DOT = ("integer overflow",)
# They name what they are about.
SAID = ("order of a field", "order of numbers", "stride")
# So they do of the fields of a block.
ABOUT_FIELDS = ("field", "offset of codes")
# Statements of a function that C may have as lines of its own, twice.
SHORT = 8
# Numbers that are off by one there need a vector for each of the lines.
NOT_IN_ONE = ("constant", "another constant", "offset")
# They mark blocks for the JAX lane.
MARKING = ("scale_search._overflows", "scale_and_min_search._bounds", "scale_and_min_search.least_exponents")


class Derived(NamedTuple):
    """A wrong implementation of one operation of one format, as known_bugs.Bug, and where it was derived."""

    name: str  # unique: format.operation, function, and what stands there
    kind: str
    format: str
    operation: str
    says: str
    run: Callable
    site: str  # module.function: the text that stands there
    change: str  # the text, and what stands in its place
    spans: bool = False

    @property
    def function(self) -> str:
        """module.function in which it was derived."""
        return self.site.partition(":")[0]


@functools.lru_cache(maxsize=128)
def derived_bugs(format: str, operation: str) -> tuple[Derived, ...]:
    """All of one operation of one format, in the order of the definition's text; some are equivalent to it."""
    found: dict[str, Derived] = {}
    singles = (
        _derived(format, operation, function, place, change)
        for function in functions.functions_of(format, operation)
        if function.name not in MARKING
        for place, change in _changes(function, operation)
    )
    several = (_at_all_sites(format), _in_one_call(format)) if operation == "encode" else ()
    for one in itertools.chain(singles, *several):
        name, number = one.name, 2
        while name in found:
            name, number = f"{one.name} ({number})", number + 1
        found[name] = one._replace(name=name)
    return tuple(found.values())


def _at_all_sites(format: str) -> Iterator[Derived]:
    """Roundings of an encoder, and comparisons of one of its functions, that are wrong at every site of their kind."""
    alike: dict[tuple[str, ...], list[Site]] = {}
    for function in functions.functions_of(format, "encode"):
        for place, change in _changes(function, "encode"):
            node = place.node
            if change.kind == "rounding" and isinstance(node, ast.Call):
                alike.setdefault((change.says, ast.unparse(node.func)), []).append((function, place, change))
            if change.kind == "comparison" and isinstance(node, ast.Compare):
                key = function.name, change.says, ast.unparse(node.left)
                alike.setdefault(key, []).append((function, place, change))
    for sites in alike.values():
        if len(sites) > 1:
            one, where = _derived(format, "encode", *sites[0]), f"at all {len(sites)} sites"
            says = f"{one.says.rstrip('.')}, and wherever else it does so ({len(sites)} sites)."
            run = runners.at_sites(format, "encode", sites)
            yield one._replace(
                name=f"{one.name}, {where}",
                kind=f"every {one.kind}",
                says=says,
                run=run,
                change=f"{one.change}, {where}",
            )


def _in_one_call(format: str) -> Iterator[Derived]:
    """Bugs of a short function that show in one of its calls alone: C has such lines twice."""
    all_of = functions.functions_of(format, "encode")
    for function in all_of:
        calls_of = [
            (caller, place)
            for caller in all_of
            for place, _ in places(caller)
            if isinstance(place.node, ast.Call) and ast.unparse(place.node.func) == function.tree.name
        ]
        if len(calls_of) < 2 or len(function.tree.body) > SHORT:
            continue
        for place, change in _changes(function, "encode"):
            for caller, at in calls_of if change.kind not in NOT_IN_ONE else ():
                one, text = _derived(format, "encode", function, place, change), _short(ast.unparse(at.node))
                says = f"{one.says.rstrip('.')}, in the call {text} alone."
                run = runners.in_one_call(format, (function, place, change), caller, at)
                yield one._replace(
                    name=f"{one.name}, in {text}", kind=f"one {one.kind}", says=says, run=run,
                    change=f"{one.change}, in {text}",
                )  # fmt: skip


def _derived(format: str, operation: str, function: Function, place: Place, change: Change) -> Derived:
    old = _short(ast.unparse(place.node))
    new = _short(re.sub(r"__import__\(.*?\)\.", "", ast.unparse(change.node)))
    site = f"{function.name}: {old}"
    said = change.kind in SAID or (change.kind in ABOUT_FIELDS and "unpack(" in old)
    about = "" if said else subject(function.name.partition(".")[0], function.tree, place.node)
    return Derived(
        f"{format}.{operation} {function.name}: {old} -> {new}", change.kind, format, operation,
        f"{change.says}{about} ({site}).",
        runners.at_sites(format, operation, [(function, place, change)]), site, f"{old} -> {new}",
        change.kind == "stride",
    )  # fmt: skip


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def _changes(function: Function, operation: str) -> Iterator[tuple[Place, Change]]:
    seen = set()
    for place, role in places(function):
        found = _of_node(place, role, function, operation)
        if operation == "encode":
            found = itertools.chain(found, quantities.changes(place.node, place.parent, place.field, function, role))
        for change in found:
            if operation != "dot" and change.kind in ONLY_IN_DOT:
                continue
            text = (id(place.parent), place.field, place.index, ast.dump(change.node))
            if text not in seen:
                seen.add(text)
                yield place, change


def places(function: Function) -> Iterator[tuple[Place, str]]:
    """Every expression that the operation runs, from the outermost in, with what it is about."""
    for place, role in _places(function.tree, "number"):
        node = place.node
        if role in ("shape", "guard") and not isinstance(node, ast.Call):
            continue
        if node.lineno in function.lines or getattr(node, "end_lineno", 0) in function.lines:
            yield place, role


def _of_node(place: Place, role: str, function: Function, operation: str) -> Iterator[Change]:
    node = place.node
    if isinstance(node, ast.Call):
        if not function.name.startswith("packing."):
            names = vars(sys.modules[function.function.__module__])
            yield from calls.changes(node, names)
            yield from reading.changes(node, function, operation)
            if (layout := calls.layout_of(node, names)) and ast.unparse(node.func).endswith("unpack"):
                yield from reading.of_layout(node, layout, operation)
    elif isinstance(node, ast.Name):
        yield from operators.of_name(node, _siblings(function.tree))
    elif isinstance(node, ast.Constant):
        yield from operators.of_constant(node, role)
    else:
        yield from operators.changes(node, role == "index")
        yield from reading.of_operator(node, place.parent, operation)


def _siblings(tree: ast.FunctionDef) -> dict[str, list[str]]:
    """Names of the function that one statement assigns together, and scales of both sides -> the others."""
    found: dict[str, list[str]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
            names = [one.id for one in statement.targets[0].elts if isinstance(one, ast.Name) and one.id != "_"]
            found |= {name: [other for other in names if other != name] for name in names}
    for weights in ("d", "dw"):
        if weights in found and "da" in found:
            found["da"], found[weights] = [*found["da"], weights], [*found[weights], "da"]
    return found


def _places(parent: ast.AST, role: str) -> Iterator[tuple[Place, str]]:
    """Every expression below a node with what it is about: a number, an index, a shift or a mask."""
    for field, value in ast.iter_fields(parent):
        if _is_beside_the_point(parent, field):
            continue
        for i, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST):
                continue
            inner = _role(parent, field, role, i)
            if isinstance(node, ast.expr):
                yield Place(parent, field, i), inner
            if inner != "shape" and not _is_for_jax(node):
                yield from _places(node, inner)


def _is_beside_the_point(parent: ast.AST, field: str) -> bool:
    if isinstance(parent, ast.FunctionDef | ast.Lambda) and field in ("args", "returns", "decorator_list"):
        return True
    if isinstance(parent, ast.Expr):
        return isinstance(parent.value, ast.Constant) or ast.unparse(parent.value).startswith(("exact.mark", "mark_"))
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow):
        return True
    if isinstance(parent, ast.Compare) and isinstance(parent.ops[0], ast.Eq | ast.NotEq):
        return field == "comparators"
    return isinstance(parent, ast.Assert | ast.Raise | ast.AnnAssign) and field in ("test", "exc", "annotation")


def _role(parent: ast.AST, field: str, role: str, index: int | None) -> str:
    """What a child is about; "shape" stops: numbers below it are not those of the format."""
    if isinstance(parent, ast.Call):
        name = parent.func.attr if isinstance(parent.func, ast.Attribute) else getattr(parent.func, "id", "")
        if field == "args" and (name in ABOUT_SHAPES or (name in SHAPED_FIRST and index)):
            return "shape"
        # The number that stands in for a divisor which is not used
        if name == "where" and field == "args" and index == 2:
            return "guard"
        return role if role in ("shift", "mask") else "number"
    if isinstance(parent, ast.keyword) and parent.arg in ABOUT_RUNNING:
        return "shape"
    if isinstance(parent, ast.Subscript) and field == "slice":
        return "shape" if isinstance(parent.value, ast.Attribute) and parent.value.attr == "shape" else "index"
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.LShift | ast.RShift) and field == "right":
        return "shift"
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitAnd):
        return "mask"
    return "number" if role in ("mask", "guard") else role


def _is_for_jax(node: ast.AST) -> bool:
    """A choice between the lanes, on one line."""
    return isinstance(node, ast.IfExp) and "is_jax" in ast.unparse(node.test)
