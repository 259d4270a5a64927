"""How an operation runs with changes: at one site or several, or in one call of a function alone."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, TypeAlias

import numpy as np

from hifi_ref.known_bugs.derived import functions, stages
from hifi_ref.known_bugs.derived.calls import Change
from hifi_ref.known_bugs.derived.exchange import Place, compiled, exchanged, keep
from hifi_ref.known_bugs.derived.functions import Function

# Where a change is made
Site: TypeAlias = "tuple[Function, Place, Change]"


def at_sites(format: str, operation: str, sites: Sequence[Site]) -> Callable:
    def changed(function: Function) -> list[tuple[Place, Callable[[Any], ast.AST]]]:
        return [(place, _giving(change)) for of, place, change in sites if of is function]

    @functools.cache
    def code() -> dict[Any, CodeType]:
        return {of.function: compiled(of, changed(of)) for of, _, _ in sites}

    return _run_with(format, operation, frozenset(function.name for function, _, _ in sites), code)


def _run_with(format: str, operation: str, names: frozenset[str], code: Callable[[], dict[Any, CodeType]]) -> Callable:
    def run(first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
        codes: dict[Any, CodeType] = {**stages.codes(format, operation, names), **code()}
        with exchanged(codes), np.errstate(all="ignore"):
            return np.asarray(functions.run(format, operation, first, second))

    return run


def _giving(change: Change) -> Callable[[Any], ast.AST]:
    return lambda _: change.node


def in_one_call(format: str, site: Site, caller: Function, at: Place) -> Callable:
    """``at`` calls the function of the site, changed there."""
    function, place, change = site

    @functools.cache
    def code() -> dict[Any, CodeType]:
        number = keep(function.function, compiled(function, [(place, _giving(change))]))
        text = f"__import__('hifi_ref.known_bugs.derived.exchange', fromlist=['*']).other({number})"
        call = ast.Call(ast.parse(text, mode="eval").body, at.node.args, at.node.keywords)
        return {caller.function: compiled(caller, [(at, lambda _: call)])}

    return _run_with(format, "encode", frozenset((function.name, caller.name)), code)
