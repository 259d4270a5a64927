"""What reads numbers, answered otherwise: another sign, other bits, another order, another block, a sum carried on."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from typing import Any

from hifi_ref.formats.layout import Layout
from hifi_ref.known_bugs.derived.calls import PRODUCTS, Change
from hifi_ref.known_bugs.derived.functions import Function, Numbers
from hifi_ref.known_bugs.derived.orders import orders
from hifi_ref.known_bugs.derived.words import thing

# Axes before those of one block
BLOCKS = {"decode": 1, "dot": 2}
# Functions that take bytes apart into numbers
PARTED = ("fields", "unpack", "unpack_scales")
# Of a longer field a dot product, which is tried with the decoder's bugs too, has these orders alone.
SHORT, SIMPLE = 16, ("reversed", "pairs", "halves", "first half")
_NONE = Numbers(0, ())
EQUALS = "Takes the last of equals, not the first"
TABLES = ("take", "take_step")
SUMS = ("int_dot", "scaled_sum", "int_sixteenths", "sums_of_mins", "sum_in_order")


def call(name: str, *arguments: Any) -> ast.Call:
    """A call of wrong_reading.py; what is no syntax yet is a constant."""
    function = f"__import__('hifi_ref.known_bugs.derived.wrong_reading', fromlist=['*']).{name}"
    nodes = [one if isinstance(one, ast.AST) else ast.Constant(one) for one in arguments]
    return ast.Call(ast.parse(function, mode="eval").body, nodes, [])


def changes(node: ast.Call, function: Function, operation: str) -> Iterator[Change]:
    name = _name(node)
    if name in ("spread", "split_nibbles", "spread_stream"):
        yield from _codes(node, name)
    if name in ("f32", "i32") and 1 < (width := function.numbers.get(_value(node.args[0]), _NONE).bits) <= 8:
        says = f"Takes {thing(node.args[0])}, of {width} bits, for two's complement numbers"
        yield Change("offset of codes", says, call("twos_complement", node.args[0], width))
        if operation in BLOCKS:
            says = f"Subtracts {2 ** (width - 1)} from {thing(node.args[0])}, as in formats that have an offset"
            yield Change("offset of codes", says, call("centred", node.args[0], width))
    if name in PARTED and operation in BLOCKS:
        yield from _parts(node, name, function, BLOCKS[operation])
    if name in TABLES and operation in BLOCKS:
        for more, which in ((1, "next"), (-1, "one before")):
            index = ast.BinOp(node.args[1], ast.Add(), ast.Constant(more))
            says = f"Takes the {which} of a table: its index is off by one"
            yield Change("offset", says, ast.Call(node.func, [node.args[0], index, *node.args[2:]], node.keywords))
    if operation == "dot" and name in SUMS:
        axis = -1 if name == "int_dot" else 1
        says = f"Goes on with the sum of the {'sub-block' if axis < 0 else 'block'} before, which is not set to 0"
        yield Change("carried over", says, call("carried", node, axis))
    if operation == "encode":
        yield from _choices(node, name)
        if name in PRODUCTS:
            yield from _inverse(node, function.tree)


def of_layout(node: ast.Call, layout: Layout, operation: str) -> Iterator[Change]:
    """Fields of unpack in another order, and of another block."""
    assert isinstance(node.func, ast.Attribute)
    given = node.func.value, *node.args
    for field in layout.fields:
        for order, (says, _) in orders(field.count, beyond=True).items() if field.count >= 4 else ():
            if operation == "decode" or field.count <= SHORT or order in SIMPLE:
                says = f"Reads the field {field.name} {says}"
                yield Change("order of a field", says, call("unpacked_in_order", *given, field.name, order))
        if layout.block_size > 1:
            for which, says in (
                ("first", "the row's first block for all"),
                ("even", "the first of two blocks for both"),
            ):
                says = f"Reads the field {field.name} of {says}"
                yield Change("stride", says, call("unpacked_of_blocks", *given, which, field.name))
    if layout.block_size > 1:
        says = "Takes each two neighbouring blocks for each other"
        yield Change("stride", says, call("unpacked_of_blocks", *given, "other", *layout.names))


def of_operator(node: ast.AST, parent: ast.AST, operation: str) -> Iterator[Change]:
    if isinstance(node, ast.IfExp) and "is_jax" not in ast.unparse(node.test):
        says = f"Takes the other of two: `{ast.unparse(node.orelse)}` for `{ast.unparse(node.body)}`, or that for this"
        yield Change("condition", says, ast.IfExp(node.test, node.orelse, node.body))
    if isinstance(node, ast.Slice) and node.upper and not (node.lower or node.step or _constant(node.upper) == 1):
        says = f"Takes the last {ast.unparse(node.upper)} for the first"
        yield Change("offset", says, ast.Slice(ast.UnaryOp(ast.USub(), node.upper), None))
    if operation == "encode":
        yield from _of_search(node)
    if not isinstance(node, ast.BinOp):
        return
    shift = node.left if isinstance(node.op, ast.BitAnd) else node
    masked = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitAnd)
    if isinstance(shift, ast.BinOp) and isinstance(shift.op, ast.RShift) and not masked and operation in BLOCKS:
        says = "Shifts a number as one with a sign, whose highest bit comes in from above"
        yield Change("offset of codes", says, call("shifted_signed", shift.left, shift.right))
    if isinstance(node.op, ast.RShift) and operation in BLOCKS:
        yield from _shifted(node)
    if isinstance(node.op, ast.BitXor):
        yield Change("sign codes", f"Leaves out turning bits over by `{ast.unparse(node.right)}`", node.left)
    if isinstance(node.op, ast.Mult) and operation != "encode":
        says = "Keeps more than 8 bits of a product that is to wrap around"
        yield Change("wrap", says, call("unwrapped", node.left, node.right))
        if isinstance(node.right, ast.Name) and node.right.id == "sums":
            says = "Goes on with the sum of the sub-block before, which is not set to 0"
            yield Change("carried over", says, ast.BinOp(node.left, node.op, call("carried", node.right, -1)))
    if isinstance(node.op, ast.Add | ast.Sub) and _constant(node.right) == 1 and "**" not in ast.unparse(node.left):
        says = f"Has 2 in the place of 1, which is to be {'added' if isinstance(node.op, ast.Add) else 'subtracted'}"
        two = ast.parse(ast.unparse(node.right).replace("1)", "2)") if isinstance(node.right, ast.Call) else "2")
        yield Change("offset of codes", says, ast.BinOp(node.left, node.op, two.body[0].value))  # type: ignore[attr-defined]
    if isinstance(node.op, ast.BitAnd) and operation == "encode" and not _is_plain(node.right):
        yield Change("condition", f"Leaves out the condition `{ast.unparse(node.left)}`", node.right)


def _of_search(node: ast.AST) -> Iterator[Change]:
    """Steps of trials, and what counts as nothing."""
    if isinstance(node, ast.List):
        values = _whole_numbers(node)
        if {-1, 1} <= set(values) and 0 not in values:
            at = values.index(1)
            other = ast.List([ast.Constant(i) for i in (*values[:at], 0, *values[at:])], ast.Load())
            yield Change("condition", "Does not leave out the trial of step 0", other)
    if isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]).endswith("NOTHING"):
        comparison: ast.cmpop = ast.LtE() if isinstance(node.ops[0], ast.Lt) else ast.Gt()
        says = f"Takes 0 alone for nothing, not all below `{ast.unparse(node.comparators[0])}`"
        yield Change("condition", says, ast.Compare(node.left, [comparison], [ast.Constant(0)]))


def _whole_numbers(node: ast.List) -> list[int]:
    """What a list of numbers and ranges holds; nothing where it holds other things."""
    try:
        values = eval(compile(ast.Expression(node), "", "eval"), {"range": range})  # noqa: S307 - the definition's own text
    except (NameError, AttributeError, TypeError):
        return []
    return values if all(isinstance(one, int) for one in values) else []


def _shifted(node: ast.BinOp) -> Iterator[Change]:
    """Bits that lie a step apart, and the whole part of a fraction."""
    by, given = node.right, node.left
    if isinstance(by, ast.Call) and _name(by) == "arange" and len(by.args) == 3 and (step := _constant(by.args[2])):
        for other in (step + 1, step - 1):
            steps = ast.BinOp(ast.BinOp(by, ast.FloorDiv(), by.args[2]), ast.Mult(), ast.Constant(other))
            yield Change("bits", f"Takes bits that are {other} apart, not {step}", ast.BinOp(given, node.op, steps))
    if isinstance(given, ast.BinOp) and isinstance(given.op, ast.Mult) and (bits := _constant(by)):
        if (factor := _constant(given.right)) and factor > 1:
            divisor = -(-(2**bits) // factor)
            says = f"Divides by {divisor} instead of multiplying by {factor} and shifting by {bits} bits"
            whole = ast.BinOp(given.left, ast.FloorDiv(), ast.Constant(divisor))
            yield Change("ternary digits", says, whole)


def _codes(node: ast.Call, name: str) -> Iterator[Change]:
    width: Any = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else 4
    above = "Leaves out a mask: codes keep the bits above them"
    more = "Keeps one bit too many of each code"
    if name == "spread_stream" and width > 1:
        rest = [*node.args, *(keyword.value for keyword in node.keywords)]
        yield Change("bits", above, call("widened_stream", *rest, 0))
        yield Change("bits", more, call("widened_stream", *rest, 1))
    if name != "spread_stream":
        yield Change("bits", above, call("unmasked", node.args[0], width))
        yield Change("bits", more, call("widened", node.args[0], width))
    for order, (says, _) in orders(8 // width).items() if width <= 2 else ():
        other = call("of_bytes_in_order", node, order, 8 // width, name == "spread_stream")
        yield Change("bit order", f"Takes the {8 // width} codes of each byte {says}", other)
    if width > 1:
        says = f"Takes codes of {width} bits for two's complement numbers, as where a signed byte is shifted"
        yield Change("offset of codes", says, call("twos_complement", node, width))
        says = f"Subtracts {2 ** (width - 1)} from codes of {width} bits, as in formats that have an offset"
        yield Change("offset of codes", says, call("centred", node, width))
        yield Change("bits", f"Loses the highest bit of codes of {width} bits", call("narrowed", node, width))


def _parts(node: ast.Call, name: str, function: Function, axes: int) -> Iterator[Change]:
    """Each part of what a function takes a block apart into, in another order."""
    if ast.unparse(node.func).startswith(("q8_k", "LAYOUT")):
        return
    names = _targets(function.tree).get(node)
    for part, one in enumerate(names or [f"{name}()"]):
        shape = function.numbers.get(one, _NONE).shape[axes:]
        n = functools.reduce(lambda a, b: a * b, shape, 1)
        word = thing(ast.Name(one)) if names else "the scales"
        for order, (says, _) in orders(n).items() if n >= 4 else ():
            other = call("in_order", node, order, axes, part if names else None)
            yield Change("order of numbers", f"Reads {word} {says}", other)


def _choices(node: ast.Call, name: str) -> Iterator[Change]:
    if name in ("argmin", "argmax"):
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in ("lib", "np"):
            given = [node.func.value, *given]
        other = "last_least" if name == "argmin" else "last_most"
        yield Change("comparison", EQUALS, call(other, *given))
    if name == "where" and len(node.args) == 3 and not (_is_plain(node.args[2]) or _is_turned(node.args[2])):
        condition, met, otherwise = node.args
        yield Change("choice", f"Leaves out the condition `{ast.unparse(condition)}`, as if it were met", met)
        # What stands in for a divisor is not used
        if _constant(met) != 1:
            yield Change("choice", f"Leaves out what is to be where `{ast.unparse(condition)}`", otherwise)
    if name == "extreme":
        yield Change("comparison", EQUALS, call("last_extreme", *node.args, *(k.value for k in node.keywords)))
    if ast.unparse(node.func) == "np.minimum.reduceat":
        yield Change("comparison", EQUALS, call("last_of_run", *node.args))
    if name == "any":
        yield Change("condition", "Leaves out a condition, as if it were always met", call("always", node))


def _inverse(node: ast.Call, tree: ast.FunctionDef) -> Iterator[Change]:
    """A product with an inverse as a division by what it is the inverse of."""
    x, inverse = node.args
    name, index = (inverse.value, inverse.slice) if isinstance(inverse, ast.Subscript) else (inverse, None)
    if isinstance(name, ast.Name) and (d := _inverses(tree).get(name.id)):
        by = d if index is None else ast.Subscript(d, index, ast.Load())
        says = f"Divides by {thing(d)} instead of multiplying by its inverse"
        yield Change("reciprocal", says, call("divided", x, by))
        yield Change("reciprocal", f"{says}, also where that is 0", call("divided_by_any", x, by))


@functools.cache
def _inverses(tree: ast.FunctionDef) -> dict[str, ast.expr]:
    """Names of inverses -> what they are the inverses of."""
    return {
        one.targets[0].id: one.value.args[0]
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
        if isinstance(one.value, ast.Call) and _name(one.value) == "reciprocal_or_zero"
    }


@functools.cache
def _targets(tree: ast.FunctionDef) -> dict[ast.AST, list[str]]:
    """Calls whose parts are assigned -> the names."""
    return {
        one.value: [name.id if isinstance(name, ast.Name) else "" for name in one.targets[0].elts]
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Tuple)
    }


def _name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _value(node: ast.AST) -> str:
    """What Function.numbers calls a value: a name, or a function that is called."""
    return f"{_name(node)}()" if isinstance(node, ast.Call) else ast.unparse(node)


def _is_plain(node: ast.expr) -> bool:
    """A number, also as np.int8(8)."""
    return _constant(node) is not None


def _is_turned(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert)


def _constant(node: ast.expr) -> Any:
    """Its value; None for what is none."""
    inner = node.args[0] if isinstance(node, ast.Call) and len(node.args) == 1 else node
    return inner.value if isinstance(inner, ast.Constant) else None
