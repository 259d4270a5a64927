"""Operators, comparisons and numbers changed: bits, offsets, signs and bounds of the definition that are off by one."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from typing import Any

from hifi_ref.known_bugs.derived.calls import PRODUCTS, Change, call
from hifi_ref.known_bugs.derived.words import thing

OTHER_COMPARISON: dict[type, type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
SIGNS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def changes(node: ast.AST, in_index: bool) -> Iterator[Change]:
    """in_index: the node belongs to an index or a slice, where no numbers with a fraction are."""
    if isinstance(node, ast.BinOp):
        yield from _of_bits(node)
        if not in_index:
            yield from _of_numbers(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER_COMPARISON:
        other = OTHER_COMPARISON[type(node.ops[0])]
        says = f"Compares with {SIGNS[other]} instead of {SIGNS[type(node.ops[0])]}"
        yield Change("comparison", says, ast.Compare(node.left, [other()], node.comparators))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield Change("sign", "Leaves out a minus sign", node.operand)


def _of_bits(node: ast.BinOp) -> Iterator[Change]:
    if isinstance(node.op, ast.BitOr):
        yield Change("bits", f"Leaves out `{ast.unparse(node.right)}`", node.left)
        yield Change("bits", f"Leaves out `{ast.unparse(node.left)}`", node.right)
    if isinstance(node.op, ast.RShift):
        yield Change("bits", "Leaves out a shift to the right", node.left)
        if isinstance(node.right, ast.Constant) or ast.unparse(node.right) == "np.uint8(4)":
            mask = ast.BinOp(node.left, ast.BitAnd(), ast.parse("np.uint8(15)", mode="eval").body)
            yield Change("bits", "Takes the low nibble for the bits above", mask)
    if isinstance(node.op, ast.BitAnd):
        yield Change("bits", f"Leaves out the mask `{ast.unparse(node.right)}`", node.left)
    if isinstance(node.op, ast.FloorDiv | ast.Mod):
        other = ast.Mod() if isinstance(node.op, ast.FloorDiv) else ast.FloorDiv()
        says = "Takes the rest for the quotient" if isinstance(other, ast.Mod) else "Takes the quotient for the rest"
        yield Change("offset", says, ast.BinOp(node.left, other, node.right))


def _of_numbers(node: ast.BinOp) -> Iterator[Change]:
    a, b = node.left, node.right
    if isinstance(node.op, ast.Mult):
        yield Change("truncated arithmetic", "Cuts a product off towards zero", call("product_cut", a, b))
        yield Change("half precision", "Keeps a product in binary16", call("product_half", a, b))
        for left_out, kept in ((b, a), (a, b)):
            yield Change("factor", f"Leaves out {thing(left_out)}", kept)
        yield Change("integer overflow", "Keeps a product of integers in 16 bits", call("wrapped16", node))
    if not isinstance(node.op, ast.Add | ast.Sub):
        return
    adds = isinstance(node.op, ast.Add)
    other: ast.operator = ast.Sub() if adds else ast.Add()
    yield Change("sign", "Subtracts instead of adding" if adds else "Adds instead of subtracting",
                 ast.BinOp(a, other, b))  # fmt: skip
    yield Change("offset of codes" if _is_number(b) else "term",
                 f"Leaves out {'adding' if adds else 'subtracting'} {thing(b)}", a)  # fmt: skip
    if adds:
        yield Change("term", f"Leaves out adding {thing(a)}", b)
    negative = b if adds else ast.UnaryOp(ast.USub(), b)
    yield Change("truncated arithmetic", "Cuts a sum off towards zero", call("sum_cut", a, negative))
    yield Change("half precision", "Keeps a sum in binary16", call("sum_half", a, negative))
    yield Change("integer overflow", "Keeps an integer sum in 16 bits", call("wrapped16", node))
    yield Change("integer overflow", "Saturates an integer sum to 16 bits", call("saturated16", node))
    fuses = "Fuses a product and a sum into one rounding"
    if factors := _factors(a):
        signs = [] if adds else [ast.Constant(1), ast.Constant(-1)]
        yield Change("fused multiply-add", fuses, call("fused", *factors, b, *signs))
    if factors := _factors(b):
        signs = [] if adds else [ast.Constant(-1)]
        yield Change("fused multiply-add", fuses, call("fused", *factors, a, *signs))


def of_name(node: ast.Name, siblings: dict[str, list[str]]) -> Iterator[Change]:
    """siblings: names that are assigned together, such as the parts of a block."""
    for other in siblings.get(node.id, []):
        wrong = ast.Name(other, ast.Load())
        yield Change("field", f"Takes {thing(wrong)} for {thing(node)}", wrong)


def _is_number(node: ast.AST) -> bool:
    """A constant, also as np.int8(8)."""
    return isinstance(node.args[0] if isinstance(node, ast.Call) and len(node.args) == 1 else node, ast.Constant)


def _factors(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [node.left, node.right]
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        return node.args if name in PRODUCTS else []
    return []


def of_constant(node: ast.Constant, role: str) -> Iterator[Change]:
    """role: "index", "shift", "mask", or "number"."""
    value: Any = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if role == "mask":
        yield Change("bits", f"Keeps the bits of {value >> 1:#x}, not of {value:#x}", ast.Constant(value >> 1))
        yield Change("bits", f"Keeps the bits of {value << 1 | 1:#x}, not of {value:#x}", ast.Constant(value << 1 | 1))
        return
    kind, says = {
        "index": ("offset", "Takes {} for an offset of {}"),
        "shift": ("bits", "Shifts by {} bits, not by {}"),
        "number": ("constant", "Has {} in the place of {}"),
    }[role]
    for other in _near(value, role):
        yield Change(kind, says.format(other, value), ast.Constant(other))


def _near(value: float, role: str) -> list[float]:
    if role != "number":
        return [value + 1, *([value - 1] if value else [])]
    if isinstance(value, int) or value == int(value):
        # 0 and 1 begin sums and stand where nothing is
        return [value + 1, value - 1, value * 2] if 1 < abs(value) < 2**24 else []
    if math.frexp(value)[0] == 0.5 and value != 0.5:
        return [value * 2, value / 2]
    return [value - 0.5, value + 0.5] if value * 2 == int(value * 2) else [value * 1.125]
