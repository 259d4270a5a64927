"""Which functions of the definition an operation runs, which lines of them, and their syntax trees.

Found by running the operation in the NumPy lane with a trace on: every function below formats/ that is called, whoever
calls it. Tables that are made once and kept, and the lanes' own lines, are left out.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from hifi_ref import formats
from hifi_ref.formats import FORMATS
from hifi_ref.formats import hard_inputs as inputs

ROOM = str(Path(formats.__file__).parent)
# Of the layout only how numbers are read and written: fields are changed where they are asked for.
LEFT_OUT = ("Layout.", "Field.")
# Functions whose last argument may be the name of a site.
SITED = ("mul", "product", "madd", "rounded")
FAMILIES = ("gauss", "mixed scales", "overflow", "subnormal", "signed zeros", "sparse", "ties", "positive")


class Numbers(NamedTuple):
    """What a variable held: so many bits, or 0 if not whole numbers from 0 on, and its first shape."""

    bits: int
    shape: tuple[int, ...]


class Function(NamedTuple):
    """One function or method of the definition."""

    name: str  # module.function
    function: FunctionType
    tree: ast.FunctionDef  # without decorators
    lines: frozenset[int]  # those that the operation runs
    numbers: Mapping[str, Numbers]  # arrays by the names of variables, and of functions as "name()"


def run(format: str, operation: str, first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """The operation as known_bugs.Bug.run has it, by the definition's own text, on this thread."""
    f = FORMATS[format]
    if operation == "decode":
        return f.decode(first.reshape(-1, f.type_size)).reshape(-1, f.block_size)
    if operation == "encode":
        assert f.encode is not None
        own = None if second is None else second.reshape(-1, f.block_size)
        return f.encode(first.reshape(len(first), -1, f.block_size), own).reshape(len(first), -1)
    assert f.dot is not None and second is not None
    return f.dot(first.reshape(len(first), -1, f.type_size), second.reshape(-1, inputs.partner_of(f).type_size))


@functools.cache
def functions_of(format: str, operation: str) -> tuple[Function, ...]:
    """In the order of their files and lines."""
    held: dict[tuple[str, str], dict[str, Numbers]] = {}
    lines = _lines_run(format, operation, list(_inputs(format, operation)), held)
    returned = {name: one for of in held.values() for name, one in of.items() if name.endswith("()")}
    found = []
    for of, numbers in lines.items():
        function = _function(*of)
        if function is not None:
            arrays = held.get(of, {}) | returned
            found.append(Function(_named(function), function, _tree(function), frozenset(numbers), arrays))
    return tuple(sorted(found, key=lambda one: (one.function.__module__, one.tree.lineno)))


def names_run(format: str, operation: str, *given: np.ndarray | None) -> frozenset[str]:
    """The names of the functions that the operation runs on what is given."""
    functions = (_function(*of) for of in _lines_run(format, operation, [given]))
    return frozenset(_named(function) for function in functions if function is not None)


def _named(function: FunctionType) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"


def _lines_run(
    format: str,
    operation: str,
    cases: Sequence[tuple[Any, ...]],
    held: dict[tuple[str, str], dict[str, Numbers]] | None = None,
) -> dict[tuple[str, str], set[int]]:
    """(file, qualified name of a function) -> the lines run, also those of the functions inside it.

    held takes what its variables held.
    """  # fmt: skip
    lines: dict[tuple[str, str], set[int]] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Callable | None:
        code: CodeType = frame.f_code
        if not code.co_filename.startswith(ROOM):
            return None
        outermost = code.co_qualname.partition(".<locals>")[0]
        of = code.co_filename, outermost
        lines.setdefault(of, set()).add(frame.f_lineno)
        if event == "return" and held is not None:
            _hold({**frame.f_locals, f"{code.co_name}()": argument}, held.setdefault(of, {}))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with np.errstate(all="ignore"):
            for given in cases:
                run(format, operation, *given)
    finally:
        sys.settrace(before)
    return {of: numbers for of, numbers in lines.items() if not of[1].startswith(LEFT_OUT)}


def _hold(values: Mapping[str, Any], held: dict[str, Numbers]) -> None:
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.size:
            whole = value.dtype.kind in "ui" and int(value.min()) >= 0
            before = held.get(name, Numbers(0, value.shape))
            held[name] = before._replace(bits=max(before.bits, int(value.max()).bit_length() if whole else 0))


def _inputs(format: str, operation: str) -> Iterator[tuple[np.ndarray, ...]]:
    f, rng = FORMATS[format], np.random.default_rng(7)
    if operation == "decode":
        yield (inputs.random_blocks(f, rng, 4),)
    elif operation == "encode":
        n = 2 * max(f.block_size, 32)
        x = np.concatenate([inputs.weights(family, rng, 1, n) for family in FAMILIES])
        for kind in inputs.importance_kinds(f)[:2]:
            yield x, inputs.importance(kind, 3, n)  # type: ignore[misc]
    else:
        g = inputs.partner_of(f)
        unit = max(f.block_size, g.block_size)
        a = inputs.usual_blocks(g, rng, 2 * unit // g.block_size).reshape(-1)
        yield inputs.usual_blocks(f, rng, 4 * unit // f.block_size).reshape(2, -1), a


def _function(file: str, qualified: str) -> FunctionType | None:
    """The function of that name; None for lambdas of a module, properties and what is computed once and kept."""
    found: Any = next(module for module in sys.modules.values() if getattr(module, "__file__", None) == file)
    for part in qualified.split("."):
        found = vars(found).get(part)
        if found is None or hasattr(found, "cache_info"):
            return None
    found = inspect.unwrap(found) if callable(found) else found
    return found if isinstance(found, FunctionType) else None


@functools.cache
def _tree(function: FunctionType) -> ast.FunctionDef:
    code = function.__code__
    module = _parsed(code.co_filename)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if node.name == code.co_name and first == code.co_firstlineno:
                node.decorator_list = []
                return node
    raise LookupError(f"{code.co_filename} has no function {code.co_qualname}")


@functools.cache
def _parsed(file: str) -> ast.Module:
    """Without the names of sites, which say what other builds do (formats/builds.py)."""
    module = ast.parse(Path(file).read_text(encoding="utf-8"))
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).rpartition(".")[2] in SITED:
            if isinstance(node.args[-1], ast.JoinedStr) or isinstance(getattr(node.args[-1], "value", None), str):
                node.args.pop()
    return module
