"""How a derived bug runs: the definition itself, in which one function's code is exchanged meanwhile.

A function of Python looks its code up at each call, in ``__code__``. So a bug is made in three steps: in the syntax
tree of the function one node is put in another's place, the function is compiled, and its code stands in ``__code__``
while the operation runs. Whoever holds the function, under whatever name, calls the wrong text; nothing else of the
definition is copied or changed. One bug runs at a time: a lock sees to that.

While a bug runs no other thread may call the formats: it would meet the bug.
"""

from __future__ import annotations
import __future__

import ast
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from hifi_ref.known_bugs.derived.functions import Function

_lock = threading.Lock()


class Place(NamedTuple):
    """Where a node stands: a field of its parent, and its number if that is a list."""

    parent: ast.AST
    field: str
    index: int | None

    @property
    def node(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def compiled(function: Function, changes: Sequence[tuple[Place, Callable[[Any], ast.AST]]]) -> CodeType:
    """The function's code with other nodes at those places, one after the other made from what stands there."""
    right = []
    for place, other in changes:
        right.append((place, place.node))
        place.put(ast.fix_missing_locations(ast.copy_location(other(place.node), place.node)))
    try:
        module = ast.Module([function.tree], [])
        flags = __future__.annotations.compiler_flag
        code = compile(module, function.function.__code__.co_filename, "exec", flags, dont_inherit=True)
    finally:
        for place, node in reversed(right):
            place.put(node)
    return next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == function.tree.name)


_others: list[FunctionType] = []


def other(number: int) -> FunctionType:
    """A function that was kept by ``keep``."""
    return _others[number]


def keep(right: FunctionType, code: CodeType) -> int:
    """The number of a copy of a function that has this code."""
    _others.append(FunctionType(code, right.__globals__, right.__name__, right.__defaults__, right.__closure__))
    return len(_others) - 1


@contextmanager
def exchanged(codes: Mapping[FunctionType, CodeType]) -> Iterator[None]:
    """Within it the functions have these codes."""
    with _lock:
        right = {function: function.__code__ for function in codes}
        try:
            for function, code in codes.items():
                function.__code__ = code
            yield
        finally:
            for function, code in right.items():
                function.__code__ = code
