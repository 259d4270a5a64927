"""What errors of a search count, answered otherwise: another importance, another mean square, that of another place."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hifi_ref.known_bugs.derived.calls import PRODUCTS, Change
from hifi_ref.known_bugs.derived.functions import Function
from hifi_ref.known_bugs.derived.words import thing

# What a squared error may count, over x, qw and mean_square of one sub-block.
IMPORTANCE = {
    "x^2": "mul(x, x)", "|x|": "abs(x)", "1": "x * np.float32(0) + np.float32(1)",
    "the importance times x^2": "mul(mul(x, x), qw)", "the square of the importance": "mul(qw, qw)",
    "the root of the importance": "exact.sqrt(qw)",
    "the importance times (root mean square + |x|)": "mul(exact.sqrt(mean_square) + abs(x), qw)",
    "mean square + x^2, without the importance": "mean_square + mul(x, x)",
    "the importance times the root of (mean square * x^2)": "mul(exact.sqrt(mul(mean_square, mul(x, x))), qw)",
    "the root of what it is to be": "exact.sqrt(mul(exact.sqrt(mean_square + mul(x, x)), qw))",
}  # fmt: skip
MEAN_SQUARES = {
    "row": "of the whole row", "first block": "of the row's first block", "first 16": "of a block's first 16 weights",
    "first 32": "of a block's first 32 weights", "sum": "not divided by the number of weights",
}  # fmt: skip
# What Q6_K's importance may be: wrong_quantities.importance_of
ROOTS = {
    "root": "times the root of (mean square + x^2), as in other formats",
    "doubled root": "times the root of (twice the mean square + x^2), as in other formats",
    "own root": "times the root of (the sub-block's mean square + x^2)",
    "square": "times x^2", "magnitude": "times |x|", "first": "of the super-block's first sub-block",
}  # fmt: skip
WRONG = "__import__('hifi_ref.known_bugs.derived.wrong_quantities', fromlist=['*'])."


def change(kind: str, says: str, text: str) -> Change:
    return Change(kind, says, ast.parse(text, mode="eval").body)


def name_of(node: ast.AST) -> str:
    """Of the function that is called."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def changes(node: ast.AST, parent: ast.AST, field: str, function: Function) -> Iterator[Change]:
    """Those of one node of an encoder's text."""
    if isinstance(node, ast.Name):
        yield from _of_name(node.id, parent, field, function)
    elif isinstance(node, ast.BinOp):
        yield from _of_sum(ast.unparse(node))
    elif isinstance(node, ast.Call):
        yield from _of_importance(node, function)
        yield from _of_mean_square(node, function)
        yield from _of_square(node, function)
        yield from _of_magnitude(node)


def _of_name(name: str, parent: ast.AST, field: str, function: Function) -> Iterator[Change]:
    if name == "mean_square":
        for factor in (2, 0.5, 0.25, 4):
            says = f"Multiplies the mean square by {factor} once more"
            yield change("importance", says, f"mean_square * np.float32({factor})")
    if name in ("w", "weights") and isinstance(parent, ast.Call) and field == "args":
        yield change("importance", "Counts all errors alike there", f"np.ones_like({name})")
        yield change("importance", "Takes the root of the importance there", f"exact.sqrt({name})")
    if name == "columns" and function.name.endswith("_columns_of_rows") and isinstance(parent, ast.Call):
        first = "columns[:, np.arange(columns.shape[1]) // blocks * blocks]"
        yield change("importance", "Takes the weights of the row's first block for the importance", first)
    if name == "qw" and function.name.endswith("row_importance.importance"):
        says = "Takes the importance of the super-block's first sub-block for all"
        yield change("importance", says, f"{WRONG}of_first_sub_block(qw, len(qw))")


def _of_sum(text: str) -> Iterator[Change]:
    if text == "rms + abs(columns[i])":
        yield change("importance", "Takes the root of mean square + x^2, not root mean square + |x|",
                      "exact.sqrt(div(squares, np.float32(sub)) + mul(columns[i], columns[i]))")  # fmt: skip
        yield change("importance", "Takes x^2, not root mean square + |x|", "mul(columns[i], columns[i])")
        yield change("importance", "Counts all errors alike", "columns[i] * np.float32(0) + np.float32(1)")


def _of_importance(node: ast.Call, function: Function) -> Iterator[Change]:
    text = ast.unparse(node)
    if name_of(node) == "held" and function.name.endswith("row_importance.importance"):
        for says, other in IMPORTANCE.items():
            yield change("importance", f"Errors count {says}", f"exact.held(lambda: exact.rounded({other}))")
    if text == "exact.columns(lib.broadcast_to(weights, x.shape), 16)" and function.name == "q6_k.encode":
        for way, says in ROOTS.items():
            other = f"{WRONG}importance_of({way!r}, x, weights)"
            yield change("importance", f"Takes the importance {says}", other)


def _of_mean_square(node: ast.Call, function: Function) -> Iterator[Change]:
    text = ast.unparse(node)
    if text == "div(exact.sum_in_order(mul(row, row)), np.float32(blocks * n))":
        other = "div(exact.sum_in_order(mul(row[:n], row[:n])), np.float32(n))"
        yield change("importance", "Takes the mean square of the row's first block for that of the row", other)
    times = {
        "div(total, np.float32(256))": "2 if doubled else 1",
        "exact.rounded(mul(exact.sum_in_order(mul(whole, whole)), np.float32(2 / n)))": "2",
    }.get(text) or (name_of(node) == "super_block_mean_square" and ast.unparse(node.keywords[0].value))
    if times and function.name.rpartition(".")[2] != "super_block_mean_square":
        for way, says in MEAN_SQUARES.items():
            says = f"Takes the mean square {says}"
            yield change("importance", says, f"{WRONG}mean_square_of({way!r}, x, {times})")


def _of_square(node: ast.Call, function: Function) -> Iterator[Change]:
    text = ast.unparse(node)
    if name_of(node) in PRODUCTS and len(node.args) == 2 and ast.dump(node.args[0]) == ast.dump(node.args[1]):
        given = ast.unparse(node.args[0])
        if function.name.endswith("row_importance.importance"):
            for n in (16, 32, 256):
                what = "super-block of the row" if n == 256 else f"sub-block of {n}"
                says = f"Takes the weights of the first {what} for the importance"
                first = f"{WRONG}of_first_sub_block(x, {n})"
                yield change("importance", says, f"mul({first}, {first})")
        yield change("importance", f"Takes the magnitude of {thing(node.args[0])}, not its square", f"abs({given})")
        yield change("importance", f"Takes 1, not the square of {thing(node.args[0])}",
                      f"{given} * np.float32(0) + np.float32(1)")  # fmt: skip
        yield change("importance", f"Takes the root of the magnitude, not the square of {thing(node.args[0])}",
                      f"exact.sqrt(abs({given}))")  # fmt: skip
        if "mean_square" in {one.id for one in ast.walk(function.tree) if isinstance(one, ast.Name)}:
            for share in ("", " * np.float32(0.25)", " * np.float32(0.5)"):
                yield change("importance", f"Adds the mean square{share and ', or a part of it,'} to x^2",
                              f"mean_square{share} + {text}")  # fmt: skip


def _of_magnitude(node: ast.Call) -> Iterator[Change]:
    if name_of(node) == "abs" and node.args:
        a, given = node.args[0], ast.unparse(node.args[0])
        yield change("importance", f"Takes the square of {thing(a)}, not its magnitude", f"mul({given}, {given})")
        yield change("importance", f"Takes 1, not the magnitude of {thing(a)}",
                      f"{given} * np.float32(0) + np.float32(1)")  # fmt: skip
