"""What a derived bug does not touch is not computed anew: answers of the long searches, kept by what they were given.

A search takes most of an encoder's time, and most bugs stand before or behind it. While a bug runs, the functions of
STAGES that do not reach the bug's function answer from what was kept.
"""

from __future__ import annotations

import ast
import functools
from collections import OrderedDict
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from hifi_ref import exact
from hifi_ref.known_bugs.derived.functions import functions_of

STAGES = (
    "split_search.best_places", "scale_and_min_search._least_error_with_min",
    "single_steps.least_weighted_square_error_from_zero", "scale_search.least_weighted_square_error",
    "single_steps.improve_by_single_steps", "step_search._scale_of_least_error", "grid_search.fit",
)  # fmt: skip
# Numbers that may be kept of one answer, and answers of each stage
LARGEST, KEPT = 1 << 16, 64

_right: dict[str, FunctionType] = {}
_found: dict[str, OrderedDict[Any, Any]] = {stage: OrderedDict() for stage in STAGES}


@functools.lru_cache(maxsize=4096)
def codes(format: str, operation: str, changed: frozenset[str]) -> Mapping[FunctionType, CodeType]:
    """Codes that answer from what was kept, for the stages that reach none of the functions that are changed."""
    known = {one.name: one for one in functions_of(format, operation)}
    right: dict[str, Any] = {name: one.function for name, one in known.items()}
    return {
        right[stage]: _answering(stage, right[stage])
        for stage in STAGES
        if stage in known and not changed & _reached(format, operation, stage)
    }


@functools.lru_cache(maxsize=1024)
def _reached(format: str, operation: str, stage: str) -> frozenset[str]:
    """The functions that one calls, by their names in its text, and those that these call."""
    known = {one.name: one for one in functions_of(format, operation)}
    called = {name: _names(one.tree) for name, one in known.items()}
    found, new = {stage}, {stage}
    while new:
        text = set().union(*(called[name] for name in new))
        new = {name for name in known if name not in found and name.rpartition(".")[2] in text}
        found |= new
    return frozenset(found)


def _names(tree: ast.AST) -> set[str]:
    nodes = list(ast.walk(tree))
    return {one.id for one in nodes if isinstance(one, ast.Name)} | {
        one.attr for one in nodes if isinstance(one, ast.Attribute)
    }


def _answering(stage: str, right: FunctionType) -> CodeType:
    copy = FunctionType(right.__code__, right.__globals__, right.__name__, right.__defaults__, right.__closure__)
    _right.setdefault(stage, copy)
    where = f"__import__({__name__!r}, fromlist=['*'])"
    text = f"def {right.__name__}(*given, **named): return {where}.answer({stage!r}, given, named)"
    module = compile(text, right.__code__.co_filename, "exec")
    return next(one for one in module.co_consts if isinstance(one, CodeType))


def answer(stage: str, given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    key = _key((*given, *named.items())) if exact.fusing_now() is None else None
    if key is None:
        return _right[stage](*given, **named)
    kept = _found[stage]
    if key not in kept:
        kept[key] = _right[stage](*given, **named)
        if len(kept) > KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return _copied(kept[key])


def _key(value: Any) -> Any:
    """Equal for equal arguments; None for what has no bytes."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes()) if value.size <= LARGEST else None
    if isinstance(value, tuple):
        parts = [_key(one) for one in value]
        return None if None in parts else (type(value).__name__, *parts)
    of = getattr(value, "__self__", None)
    if isinstance(of, np.ndarray):
        return _key(of)
    return (type(value).__name__, value) if isinstance(value, bool | int | float | str) else None


def _copied(value: Any) -> Any:
    if isinstance(value, tuple):
        parts = [_copied(one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value.copy() if isinstance(value, np.ndarray) else value
