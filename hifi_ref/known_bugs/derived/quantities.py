"""What an encoder takes, answered otherwise: another format's constant, another largest, other guards and inverses.

A search begins with some largest weight, tries some scales and leaves alone what is next to nothing. Ports often take
for one of these what a sister format takes. Each change replaces all that stands at a site by another expression over
the names in its scope. importances.py has those of what errors count.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from typing import Any

from hifi_ref.known_bugs.derived import importances
from hifi_ref.known_bugs.derived.calls import PRODUCTS, Change
from hifi_ref.known_bugs.derived.functions import Function
from hifi_ref.known_bugs.derived.importances import WRONG, change, name_of

# Constants of the searches: each may stand in the place of another of its row.
SISTERS = (
    (1.125, 1.1125, 1.0125, 1.033, 0.9875, 1.05, 1.1, 1.25),
    (0.1, 0.2, 0.05, 0.25),
    (1e-15, 1e-12, 1e-8, 1e-7, 1e-6, 1e-10, 1e-20, 1e-30),
    (0.25, 0.5, 2.0),
    (15, 20, 36),
)
FIRST_STEPS = (0.5, 0.9, 1.0, 0.8)
LEAST = (1e-15, 1e-12, 1e-8, 1e-7, 1e-30)
TRIALS = ((-0.5, 0.1, 15), (-1.0, 0.1, 20), (-0.9, 0.05, 36))
AROUND = (6, 9, 15, 5, 7, 8, 10, 14, 16)
AGAIN = {
    "all": "Takes new rows of the grid for all groups", "strays": "Takes new rows for groups off the grid alone",
    "all if strays": "Takes new rows for all groups where one is off the grid",
}  # fmt: skip


def changes(node: ast.AST, parent: ast.AST, field: str, function: Function, role: str) -> Iterator[Change]:
    """Those of one node of an encoder's text."""
    yield from importances.changes(node, parent, field, function)
    if isinstance(node, ast.Constant) and role == "number":
        yield from _of_constant(node, parent)
    elif isinstance(node, ast.Tuple):
        yield from _of_trials(node)
    elif isinstance(node, ast.Name | ast.Attribute):
        yield from _of_name(node, parent, field, function)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "0" and isinstance(node.value, ast.Name):
        if node.value.id == "x":
            yield change("start", "Begins with 0, not with the first", "x[0] * np.float32(0)")
    elif isinstance(node, ast.List):
        yield from _of_steps(node)
    elif isinstance(node, ast.Compare):
        yield from _of_compare(node)
    elif isinstance(node, ast.BinOp):
        yield from _of_operator(node)
    elif isinstance(node, ast.Call):
        yield from _of_steps(node)
        yield from _of_quotient(node, function)
        yield from _of_extremes(node)
        yield from _of_product(node)
        yield from _of_loop(node)


# CONSTANTS


def _of_constant(node: ast.Constant, parent: ast.AST) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    others = [
        other for row in SISTERS if any(type(one) is type(value) and one == value for one in row) for other in row
    ]
    if isinstance(parent, ast.UnaryOp) and value in FIRST_STEPS and isinstance(value, float):
        others += FIRST_STEPS
    if isinstance(value, int) and value >= 16 and value % 2 == 0 and isinstance(parent, ast.Call):
        others.append(value // 2)
    for other in dict.fromkeys(others):
        if other != value:
            yield Change("another constant", f"Has {other} in the place of {value}", ast.Constant(other))


def _of_trials(node: ast.Tuple) -> Iterator[Change]:
    """First step, step and number of steps of a search, as in other formats."""
    try:
        given = ast.literal_eval(node)
    except ValueError:
        return
    for other in TRIALS if given in TRIALS else ():
        if other != given:
            says = f"Tries the steps {other} (first, step, steps) of another format's search, not {given}"
            yield change("scale", says, repr(other))


def _of_steps(node: ast.List | ast.Call) -> Iterator[Change]:
    """As many trials on each side: of a list of steps without 0, or of a range."""
    text = ast.unparse(node)
    found = re.fullmatch(r"\[\*range\(-(\d+), 0\), \*range\(1, \d+\)\]", text)
    ranged = re.fullmatch(r"np\.arange\(-(\d+), \d+, (dtype=np\.float32)\)", text)
    for most in (4, 5, 6, 7, 8, 9, 10) if found or ranged else ():
        if f"-{most}," not in text:
            other = f"np.arange(-{most}, {most + 1}, dtype=np.float32)" if ranged else None
            other = other or f"[*range(-{most}, 0), *range(1, {most + 1})]"
            yield change("another constant", f"Tries {most} steps on each side", other)
    if text == "[-4, -3, -2, -1, 1, 2, 3, 4]":
        for most in (2, 3, 5, 6, 9):
            other = f"[*range(-{most}, 0), *range(1, {most + 1})]"
            yield change("another constant", f"Tries {most} steps on each side", other)


def _of_name(node: ast.Name | ast.Attribute, parent: ast.AST, field: str, function: Function) -> Iterator[Change]:
    name = node.id if isinstance(node, ast.Name) else node.attr
    if name == "NOTHING":
        for least in LEAST[1:]:
            says = f"Takes all below {least} for nothing, not all below {ast.unparse(node)}"
            yield change("condition", says, f"np.float32({least})")
    if isinstance(node, ast.Attribute):
        if ast.unparse(node) == "np.finfo(np.float32).min":
            yield change("start", "Begins with 0, not below all numbers", "np.float32(0)")
        return
    if name == "SEARCH":
        yield from _of_search(vars(sys.modules[function.function.__module__])["SEARCH"])
    stored = isinstance(parent, ast.keyword | ast.Tuple) or "round_f16" in ast.unparse(parent)
    if name == "d" and not stored:
        yield change("narrowed first", "Goes on with the scale as it is stored, an f16", "exact.round_f16(d)")
    if name in ("m", "minimum", "scale") and isinstance(parent, ast.BinOp | ast.Subscript):
        yield change("narrowed first", f"Goes on with {name} as a binary16", f"exact.round_f16({name})")
    if name == "inverse" and isinstance(parent, ast.Call) and name_of(parent) == "product":
        text = "exact.reciprocal_or_zero(exact.round_f16(exact.reciprocal_or_zero(inverse)))"
        yield change("narrowed first", "Takes the inverse of the scale as it is stored, an f16", text)


def _of_search(own: Any) -> Iterator[Change]:
    """Steps, numbers of trials and what is found again, as in other searches of a grid."""
    for step in SISTERS[1]:
        if step != own.step:
            yield change("another constant", f"Tries scales {step} apart", f"SEARCH._replace(step={step})")
    for around in AROUND:
        if around != own.around:
            says = f"Tries {2 * around + 1} scales, {around} on each side"
            yield change("another constant", says, f"SEARCH._replace(around={around})")
    for again, says in AGAIN.items():
        if again != own.again:
            yield change("condition", says, f"SEARCH._replace(again={again!r})")


# CONDITIONS


def _of_compare(node: ast.Compare) -> Iterator[Change]:
    left, text = node.left, ast.unparse(node.left)
    number = node.comparators[0]
    if isinstance(node.ops[0], ast.Lt | ast.Gt):
        other: ast.cmpop = ast.Gt() if isinstance(node.ops[0], ast.Lt) else ast.Lt()
        reversed_one = ast.Compare(left, [other], node.comparators)
        yield Change("reversed comparison", "Compares the other way round", reversed_one)
    if not (isinstance(node.ops[0], ast.Eq | ast.NotEq) and getattr(number, "value", None) == 0):
        return
    magnitude = re.match(r"exact\.bits\((.*)\) & ", text)
    if magnitude or text in ("peak", "largest"):
        sign = "<" if isinstance(node.ops[0], ast.Eq) else ">="
        value = magnitude.group(1) if magnitude else text
        for least in LEAST:
            says = f"Takes all below {least} for nothing, not 0 alone"
            yield change("condition", says, f"abs({value}) {sign} np.float32({least})")


def _of_operator(node: ast.BinOp) -> Iterator[Change]:
    if isinstance(node.op, ast.BitOr) and isinstance(node.left, ast.Call) and name_of(node.left) == "any":
        says = f"Asks each for itself, not whether any is so: `{ast.unparse(node.left)}`"
        any_of = node.left.func
        assert isinstance(any_of, ast.Attribute)
        yield Change("condition", says, any_of.value)


# SCALES


def _of_quotient(node: ast.Call, function: Function) -> Iterator[Change]:
    name = name_of(node)
    if name == "div" and len(node.args) == 2:
        a, b = map(ast.unparse, node.args)
        # A mean is no scale that has an inverse
        if a != "np.float32(1)" and "sum_in_order" not in a:
            yield change("inverse", "Takes the reciprocal of the reverse quotient, as of an inverse",
                         f"{WRONG}reversed_reciprocal({a}, {b})")  # fmt: skip
        inverse = _assigned(function.tree, "inverse")
        if inverse is not None and node.lineno > inverse.lineno:
            if b == "inverse":
                quotient = next((one for one in ast.walk(inverse) if name_of(one) == "div"), None)
                if isinstance(quotient, ast.Call):
                    c, p = map(ast.unparse, quotient.args)
                    yield change("inverse", "Divides, where the inverse is to be inverted", f"{name}({p}, {c})")
            elif "inverse" not in a:
                yield change("inverse", "Takes the reciprocal of the inverse, also where that is 0",
                              f"{WRONG}reciprocal(inverse)")  # fmt: skip
    if name == "product" and len(node.args) == 2 and ast.unparse(node.args[1]) == "inverse":
        x = ast.unparse(node.args[0])
        yield change("inverse", "Divides by the reciprocal of the inverse instead of multiplying by the inverse",
                      f"{WRONG}divided_by_reciprocal({x}, inverse)")  # fmt: skip


def _assigned(tree: ast.FunctionDef, name: str) -> ast.Assign | None:
    for one in tree.body:
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name:
            return one
    return None


def _of_extremes(node: ast.Call) -> Iterator[Change]:
    name, text = name_of(node), ast.unparse(node)
    if name == "extreme":
        given = ast.unparse(node.args[0])
        axis = ast.unparse(node.keywords[0].value) if node.keywords else "0"
        yield change("scale", "Takes the largest number, not the one of largest magnitude", f"{given}.max(axis={axis})")
        yield change(
            "scale", "Takes the smallest number, not the one of largest magnitude", f"{given}.min(axis={axis})"
        )
        yield change("scale", "Loses the sign of the one of largest magnitude", f"abs({text})")
    if name == "largest" and node.args:
        given = ast.unparse(node.args[0])
        yield change("scale", "Takes the largest number, not the largest magnitude", f"{given}.max(axis=-1)")
        yield change("scale", "Takes the magnitude of the smallest number, not the largest one",
                      f"abs({given}.min(axis=-1))")  # fmt: skip
    if name == "max" and node.keywords:
        yield change("scale", "Takes the smallest for the largest", re.sub(r"\bmax\(", "min(", text, count=1))
        if "abs(" not in text:
            for start, number in (("0", "np.float32(0)"), ("the smallest normal number", "exact.SMALLEST_NORMAL")):
                says = f"Begins the search for the largest with {start}: wrong where all are negative"
                yield change("start", says, f"np.maximum({text}, {number})")
            magnitude = f"np.max(abs({ast.unparse(node.args[0])}), axis=0)" if node.args else ""
            if isinstance(node.func, ast.Attribute) and not node.args:
                magnitude = f"abs({ast.unparse(node.func.value)}).max(axis=-1)"
            yield change("scale", "Takes the largest magnitude, not the largest number", magnitude)
    if name == "first_smallest":
        yield change("start", "Begins the search for the smallest with 0", f"np.minimum({text}, np.float32(0))")
    if name in ("largest", "max", "extreme", "super_block_mean_square"):
        yield change("carried over", "Goes on with the largest of the block before, which is not set to 0" if
                      name != "super_block_mean_square" else "Adds the squares of the blocks before as well",
                      f"{WRONG}carried_largest({text})" if name != "super_block_mean_square"
                      else f"np.cumsum({text}, dtype=np.float32)")  # fmt: skip


def _of_product(node: ast.Call) -> Iterator[Change]:
    """With a literal in binary64."""
    if name_of(node) not in PRODUCTS or len(node.args) != 2:
        return
    for literal, other in (node.args, node.args[::-1]):
        number = re.fullmatch(r"np\.float32\(([\d.]+)\)", ast.unparse(literal))
        if number and (float(number.group(1)) * 2**20) % 1:
            yield change("another constant", f"Has the literal {number.group(1)} in binary64",
                          f"{WRONG}times64({ast.unparse(other)}, {number.group(1)})")  # fmt: skip


# LOOPS AND CLAMPS


def _of_loop(node: ast.Call) -> Iterator[Change]:
    name = name_of(node)
    rest = [*map(ast.unparse, node.args[1:]), *map(ast.unparse, node.keywords)]
    first = ast.unparse(node.args[0]) if node.args else ""
    if name == "fold":
        yield change("offset", "Ends a loop halfway", f"fold(({first}) // 2, {', '.join(rest)})")
    if name == "running_sums":
        called = ast.unparse(node.func)
        for count, says in ((f"({first}) - 1", "Leaves the last out of a sum"), (f"({first}) // 2", "Adds a half")):
            yield change("offset", says, f"{called}({count}, {', '.join(rest)})")
    if name == "sum_in_order":
        for part, says in (("[:-1]", "Leaves the last out of a sum"), ("[1:]", "Leaves the first out of a sum")):
            yield change("offset", says, f"exact.sum_in_order(({first}){part})")
        yield change("carried over", "Goes on with the sum of the block before, which is not set to 0",
                      f"{WRONG}carried_sum({first})")  # fmt: skip
    if name in ("rounded_code", "clip") and len(node.args) == 3:
        low, high = rest
        called = ast.unparse(node.func)
        yield change("range of codes", "Does not keep codes from being too small",
                      f"{called}({first}, -(2**22), {high})")  # fmt: skip
        yield change("range of codes", "Does not keep codes from being too large", f"{called}({first}, {low}, 2**22)")
        yield change("range of codes", "Keeps codes above the smallest", f"{called}({first}, ({low}) + 1, {high})")
        yield change("range of codes", "Keeps codes below the largest", f"{called}({first}, {low}, ({high}) - 1)")
