"""Calls answered otherwise: what may stand in the place of each exact function, packing function and field access."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

from hifi_ref.formats.layout import Layout
from hifi_ref.known_bugs.derived.words import thing


class Change(NamedTuple):
    """Another node for one that stands there."""

    kind: str  # a key of derived.KINDS
    says: str  # what is done wrong, to be followed by where
    node: ast.AST


def wrong(name: str) -> ast.expr:
    """The function of wrong.py, as an expression that needs no import."""
    return ast.parse(f"__import__('hifi_ref.known_bugs.derived.wrong', fromlist=['*']).{name}", mode="eval").body


def call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(wrong(name), list(arguments), [])


def call_of(name: str, *arguments: ast.expr) -> ast.Call:
    """A call of a right function of exact."""
    return call(f"exact.{name}", *arguments)


# function of exact -> (kind, the function of wrong.py, what it does)
INSTEAD: dict[str, tuple[tuple[str, str, str], ...]] = {
    "nearest_int": (
        ("rounding", "int_half_away", "Rounds ties away from zero, not to even"),
        ("rounding", "int_half_up", "Rounds ties up, not to even"),
        ("rounding", "int_towards_zero", "Cuts off towards zero instead of rounding"),
        ("rounding", "int_down", "Rounds down instead of to nearest"),
        ("rounding", "int_half_added", "Rounds by adding a half and cutting off, as (int)(x + 0.5f)"),
        ("rounding", "int_up", "Rounds up instead of to nearest"),
    ),
    "rounded_code": (
        ("rounding", "code_half_away", "Rounds ties away from zero, not to even"),
        ("rounding", "code_half_up", "Rounds ties up, not to even"),
        ("rounding", "code_towards_zero", "Cuts off towards zero instead of rounding"),
        ("rounding", "code_half_added", "Rounds by adding a half and cutting off, as (int)(x + 0.5f)"),
        ("rounding", "code_down", "Rounds down instead of to nearest"),
    ),
    "round_half_away": (
        ("rounding", "whole_half_even", "Rounds ties to even, not away from zero"),
        ("rounding", "whole_half_up", "Rounds ties up, not away from zero"),
        ("rounding", "whole_half_added", "Rounds by adding a half, away from zero, in binary32 and cutting off"),
        ("rounding", "whole_half_cut", "Rounds by adding a half and cutting off towards zero, as (int)(x + 0.5f)"),
        ("rounding", "whole_down", "Rounds down instead of to nearest"),
        ("rounding", "whole_towards_zero", "Cuts off towards zero instead of rounding"),
    ),
    "truncate": (
        ("rounding", "truncate_half_even", "Rounds to nearest where the rest is to be cut off"),
        ("rounding", "truncate_down", "Rounds down where the rest is to be cut off towards zero"),
        ("rounding", "truncate_up", "Rounds up where the rest is to be cut off"),
    ),
    "as_int8": (("clamp", "int8_saturated", "Saturates to 8 bits instead of keeping the low byte"),),
    "div": (
        ("reciprocal", "by_reciprocal", "Multiplies by the reciprocal instead of dividing"),
        ("truncated arithmetic", "quotient_cut", "Cuts a quotient off towards zero"),
        ("half precision", "quotient_half", "Keeps a quotient in binary16"),
    ),
    "ratio": (
        ("reciprocal", "by_reciprocal", "Multiplies by the reciprocal instead of dividing"),
        ("truncated arithmetic", "quotient_cut", "Cuts a quotient off towards zero"),
        ("half precision", "quotient_half", "Keeps a quotient in binary16"),
    ),
    "reciprocal_or_zero": (
        ("truncated arithmetic", "reciprocal_cut", "Cuts a reciprocal off towards zero"),
        ("reciprocal", "reciprocal_rough", "Takes an approximate reciprocal of 12 bits"),
    ),
    "sqrt": (("truncated arithmetic", "root_cut", "Cuts a square root off towards zero"),),
    "round_f16": (("f16 conversion", "round_f16_cut", "Narrows to binary16 by cutting off"),),
    "narrow_f16": (
        ("f16 conversion", "narrow_f16_cut", "Narrows to binary16 by cutting off"),
        ("f16 conversion", "narrow_f16_flushed", "Loses subnormal binary16 numbers"),
        ("f16 conversion", "narrow_f16_half_away", "Narrows ties to binary16 away from zero"),
    ),
    "widen_f16": (
        ("f16 conversion", "widen_f16_flushed", "Loses subnormal binary16 numbers"),
        ("f16 conversion", "widen_f16_finite", "Takes binary16 infinities and NaN for numbers"),
    ),
    "narrow_bf16": (
        ("bf16 conversion", "narrow_bf16_cut", "Narrows to bfloat16 by cutting off"),
        ("bf16 conversion", "narrow_bf16_half_up", "Narrows ties to bfloat16 away from zero"),
    ),
    "sum_in_order": (
        ("order of additions", "in_reverse", "Adds from last to first"),
        ("order of additions", "in_pairs", "Adds in pairs, not first to last"),
        ("order of additions", "in_lanes", "Adds in eight lanes, not first to last"),
        ("order of additions", "in_binary64", "Adds in binary64 and rounds once"),
        ("half precision", "in_binary16", "Keeps a sum in binary16"),
        ("offset", "only_last", "Keeps the last term alone instead of the sum"),
    ),
    "fold": (
        ("order of additions", "folded_from_last", "Goes through a loop from last to first"),
        ("offset", "folded_without_last", "Leaves out the last turn of a loop"),
        ("offset", "folded_without_first", "Leaves out the first turn of a loop"),
    ),
    "int_dot": (("integer overflow", "int_dot_pairs", "Adds neighbouring products with saturation to 16 bits"),),
}  # fmt: skip
WAYS = {
    "reverse": "Adds from last to first", "pairs": "Adds in pairs, not first to last",
    "lanes": "Adds in eight lanes, not first to last", "binary64": "Adds in binary64 and rounds once",
    "binary16": "Keeps a sum in binary16", "last": "Keeps the last term alone instead of the sum",
}  # fmt: skip
PRODUCTS = ("mul", "score", "product")
# function of packing -> (changes its result: True, or replaces it; the function of wrong.py; what it does)
PACKING: dict[str, tuple[tuple[bool, str, str], ...]] = {
    "spread": (
        (True, "planes_reversed", "Takes the highest bits of a byte for the first plane of codes"),
        (True, "planes_interleaved", "Takes the codes of one byte for neighbours, not those of neighbouring bytes"),
        (True, "run_turned", "Takes the codes of the next byte"),
        (True, "first_plane", "Takes the low bits of a byte for all its codes, such as the low nibble for both"),
        (True, "last_plane", "Takes the high bits of a byte for all its codes, such as the high nibble for both"),
    ),
    "gather": (
        (False, "gathered_reversed", "Writes the first plane of codes to the highest bits of a byte"),
        (False, "gathered_interleaved", "Writes neighbouring codes to one byte, not to neighbouring bytes"),
        (True, "run_turned", "Writes codes to the byte before"),
    ),
    "join_nibbles": (
        (False, "joined_swapped", "Writes the first half of the codes to the high nibbles"),
        (False, "joined_interleaved", "Writes neighbouring codes to one byte, not to neighbouring bytes"),
        (True, "run_turned", "Writes codes to the byte before"),
    ),
    "spread_stream": (
        (True, "stream_reversed", "Reads a stream of bits from the highest bit of each word down"),
        (True, "run_turned", "Takes the next code of a stream of bits"),
    ),
    "gather_stream": (
        (False, "reversed_stream_of", "Writes a stream of bits from the highest bit of each byte down"),
        (True, "run_turned", "Writes codes to the byte before"),
    ),
}
PACKING["split_nibbles"] = PACKING["spread"]


def changes(node: ast.Call, names: dict[str, Any]) -> Iterator[Change]:
    """names: what the function sees as globals."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for kind, other, says in INSTEAD.get(name, ()):
        yield Change(kind, says, ast.Call(wrong(other), node.args, node.keywords))
    if name in PRODUCTS:
        yield from _products(node)
    if name == "madd":
        yield from _added(node)
        yield Change("fused multiply-add", "Fuses a product and a sum into one rounding", call("fused", *node.args))
        cut = ast.BinOp(call("product_cut", *node.args[:2]), ast.Add(), node.args[2])
        yield Change("truncated arithmetic", "Cuts a product off towards zero", cut)
    if name in ("sum_of_rows", "running_sums"):
        for way, says in WAYS.items():
            kind = {"binary16": "half precision", "last": "offset"}.get(way, "order of additions")
            summed = call("rows_by" if name == "sum_of_rows" else "running_by", ast.Constant(way), *node.args)
            yield Change(kind, says, ast.Call(summed.func, summed.args, node.keywords))
    if name == "int_dot" or (name == "sum" and isinstance(node.func, ast.Attribute) and node.keywords):
        yield Change("integer overflow", "Keeps an integer sum in 16 bits", call("wrapped16", node))
        yield Change("integer overflow", "Saturates an integer sum to 16 bits", call("saturated16", node))
    if name in ("sqrt", "round_f16", "abs", "at_most", "minimum", "clip") and node.args:
        yield from _left_out(name, node)
    for changes_result, function, says in PACKING.get(name, ()):
        arguments: list[ast.expr] = [node] if changes_result else node.args
        yield Change("bit order", says, ast.Call(wrong(function), arguments, [] if changes_result else node.keywords))
    if layout := layout_of(node, names):
        yield from _fields(name, node, layout)


def _added(node: ast.Call) -> Iterator[Change]:
    """What madd adds left out, or subtracted."""
    added, product = node.args[2], call_of("product", *node.args[:2])
    if "float32" in ast.unparse(added):
        yield Change("rounding", f"Cuts off without adding `{ast.unparse(added)}` before", product)
        return
    yield Change("sign of min", f"Leaves out adding {thing(added)}", product)
    yield Change("sign of min", f"Subtracts {thing(added)} instead of adding it", ast.BinOp(product, ast.Sub(), added))


def _products(node: ast.Call) -> Iterator[Change]:
    a, b = node.args
    yield Change("truncated arithmetic", "Cuts a product off towards zero", call("product_cut", a, b))
    yield Change("half precision", "Keeps a product in binary16", call("product_half", a, b))
    if ast.dump(a) == ast.dump(b):
        yield Change("importance", "Leaves out a square", a)
    for left_out, kept in ((b, a), (a, b)):
        yield Change("factor", f"Leaves out {thing(left_out)}", kept)
    for inner, outer, first in ((a, b, True), (b, a, False)):
        if isinstance(inner, ast.Call) and getattr(inner.func, "id", getattr(inner.func, "attr", "")) in PRODUCTS:
            x, y = inner.args
            z = ast.Call(inner.func, [y, outer] if first else [outer, x], [])
            other = ast.Call(node.func, [x, z] if first else [z, y], [])
            yield Change("order of products", "Multiplies in another order", other)


def _left_out(name: str, node: ast.Call) -> Iterator[Change]:
    says = {
        "sqrt": ("importance", "Leaves out a square root"),
        "round_f16": ("f16 conversion", "Goes on with a scale that was not narrowed to binary16"),
        "abs": ("sign", "Leaves out taking the magnitude"),
        "at_most": ("clamp", "Does not cap a code"),
        "minimum": ("clamp", "Does not cap a code"),
        "clip": ("clamp", "Does not clamp a code"),
    }[name]
    yield Change(*says, node.args[1 if name == "at_most" else 0])


def layout_of(node: ast.Call, names: dict[str, Any]) -> Layout | None:
    """Whose unpack or pack is called; None where it is not a layout's."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in ("pack", "unpack"):
        return None
    try:
        layout = eval(compile(ast.Expression(node.func.value), "", "eval"), names)  # noqa: S307 - the definition's own text
    except NameError:
        return None
    return layout if isinstance(layout, Layout) else None


def _fields(name: str, node: ast.Call, layout: Layout) -> Iterator[Change]:
    assert isinstance(node.func, ast.Attribute)
    if name == "unpack":
        yield from _read_otherwise(node, layout)
        return
    for field in layout.fields:
        other = ast.Call(wrong("packed"), [node.func.value, ast.Constant(field.name)], node.keywords)
        what = "those of the next block" if field.count == 1 else "a place too far on"
        yield Change("field", f"Writes the field {field.name} {what}", other)


def _read_otherwise(node: ast.Call, layout: Layout) -> Iterator[Change]:
    assert isinstance(node.func, ast.Attribute)

    def other(function: str, *arguments: Any) -> ast.Call:
        assert isinstance(node.func, ast.Attribute)
        return call(function, node.func.value, *node.args, *map(ast.Constant, arguments))

    for more in (1, -1):
        says = f"Takes blocks to be a byte {'longer' if more > 0 else 'shorter'} than they are"
        yield Change("stride", says, other("unpacked_in_steps", more))
    for field in layout.fields:
        name, at = field.name, layout.offset(field.name)
        places = {1: "a byte too late", -1: "a byte too early"}
        for other_field in layout.fields:
            far = layout.offset(other_field.name) - at
            # Of a run of numbers some may still lie in the field
            far_says = f"{abs(far)} bytes too {'late' if far > 0 else 'early'}"
            places[far] = f"at the place of {other_field.name}" if field.count == 1 else far_says
        places |= {layout.type_size - field.size - at: "at the end of the block"}
        for shift, where in places.items():
            if shift:
                yield Change("field", f"Reads the field {name} {where}", other("unpacked", name, shift))
        if field.dtype in ("i8", "i16"):
            says = f"Takes the signed numbers of the field {name} for unsigned ones"
            yield Change("offset of codes", says, other("unpacked_unsigned", name))
        if field.dtype == "f32":
            yield Change("field", f"Reads the binary32 field {name} as a binary16", other("unpacked_as_half", name))
        if layout.block_size > 1:
            yield Change("stride", f"Reads the field {name} of another block", other("unpacked_of_neighbour", name))
