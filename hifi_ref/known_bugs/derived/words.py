"""What a site is about, in the field's words: by the name that its value is given."""

from __future__ import annotations

import ast
import functools

WORDS = {
    "d": "the scale", "dw": "the scale", "da": "the scale of the activations", "dmin": "the scale of the mins",
    "m": "the min", "first": "the first four bytes",
    "second": "the second four bytes",
    "third": "the third four bytes", "qs": "the codes", "codes": "the codes", "code": "the codes",
    "quants": "the codes",
    "qh": "the high bits of the codes", "ql": "the low bits of the codes", "hmask": "the high bits of the codes",
    "high": "the high bits", "low": "the low bits", "scales": "the sub-blocks' scales", "mins": "the sub-blocks' mins",
    "scale": "the scale", "minimum": "the min", "inverse": "the inverse of the scale", "share": "the mins' share",
    "partial": "the integer sum", "sums": "the integer sums", "total": "the sum", "terms": "a block's term",
    "peak": "the extreme weight", "largest": "the largest magnitude", "index": "the row numbers of the grid",
    "signs": "the signs", "flips": "the signs", "minus": "the signs", "mean_square": "the mean square",
    "w": "the importance", "qw": "the importance", "best": "the best error", "better": "the choice between trials",
    "error": "the error of a trial", "diff": "the error of a weight", "qx": "the sum of w x q",
    "q2": "the sum of w q^2",
    "xl": "the sum of w x l", "l2": "the sum of w l^2", "det": "the determinant", "shifted": "the codes",
    "s": "the stored sum", "shift": "the shift of the grid", "delta": "the shift of the grid", "e": "the exponent",
    "distance": "the distance to a step", "nearest": "the codes", "packed": "the packed scales", "rms": "the rms",
    "nibbles": "the scales", "top": "the top bits", "products": "the products of codes", "scaled": "the scaled sums",
    "new": "the new code", "steps": "the trial scales", "parts": "the trial scales",
    "sub_scales": "the sub-blocks' scales", "bsums": "the sums of the activations", "rest_xl": "the sum without one",
    "rest_l2": "the sum of squares without one", "cost": "the cost of a sign", "sumx": "the sum of x",
}  # fmt: skip
# What a whole function is about, where nothing inside it says more.
FUNCTIONS = {
    "k_scales": "the packed 6-bit scales and mins", "split_five_bits": "the fifth bits of the codes",
    "join_five_bits": "the fifth bits of the codes", "split_codes": "the high bits of the codes",
    "_split_codes": "the high bits of the codes", "unpack_scales": "the scales", "_digits": "the digits of the codes",
}  # fmt: skip


def thing(node: ast.AST) -> str:
    """The word for a value by its name, such as "the scale of the activations (da)"; or its text."""
    text = ast.unparse(node)
    name = text.split("[")[0].split("(")[-1].split(".")[-1]
    return f"{WORDS[name]} ({text})" if name in WORDS else f"`{text}`"


def subject(module: str, tree: ast.FunctionDef, node: ast.AST) -> str:
    """ ", in the codes", or nothing: the innermost assignment or function that the node stands in, if it has a word."""
    found = _subjects(tree).get(node) or FUNCTIONS.get(module, FUNCTIONS.get(tree.name, ""))
    return f", in {found}" if found else ""


@functools.cache
def _subjects(tree: ast.FunctionDef) -> dict[ast.AST, str]:
    """What each node below a function is about, by the assignments and functions inside it; else an empty text."""
    found: dict[ast.AST, str] = {}

    def go(node: ast.AST, word: str) -> None:
        if isinstance(node, ast.Assign):
            names = [one.id for one in ast.walk(node.targets[0]) if isinstance(one, ast.Name)]
            known = [WORDS[name] for name in names if name in WORDS]
            word = " and ".join(dict.fromkeys(known[:2])) or word
        elif isinstance(node, ast.FunctionDef) and node is not tree:
            word = WORDS.get(node.name, word)
        found[node] = word
        for child in ast.iter_child_nodes(node):
            go(child, word)

    go(tree, "")
    return found
