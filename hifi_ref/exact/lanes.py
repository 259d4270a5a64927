"""Which array library works: the same text serves NumPy and JAX, and neither module imports jax."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    import jax

    Array: TypeAlias = np.ndarray | jax.Array
    # For what answers in the library that it is asked in.
    SameArray = TypeVar("SameArray", np.ndarray, jax.Array)
    # What stands beside an array in arithmetic: another one, or a number.
    Operand: TypeAlias = Array | np.floating | float
else:
    Array = Operand = SameArray = Any


def is_jax(x: Any) -> bool:
    """True for a jax.Array, traced or concrete."""
    # Another thread may be importing jax: as long as it lacks its names, there are no arrays of it.
    array = getattr(sys.modules.get("jax"), "Array", None)
    return array is not None and isinstance(x, array)


def is_traced(x: Any) -> bool:
    """True for a jax.Array whose values are not known yet, inside jit or another transformation."""
    return is_jax(x) and isinstance(x, sys.modules["jax"].core.Tracer)


def library(x: Any) -> Any:
    """The array library that x belongs to: the module ``numpy`` or ``jax.numpy``."""
    if is_jax(x):
        return sys.modules["jax"].numpy
    return np


_platform: ContextVar[str | None] = ContextVar("platform", default=None)


@contextmanager
def made_for(platform: str | None) -> Iterator[None]:
    """Within it, jax functions are traced for that back end; None stands for jax's default one."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def is_for_cpu() -> bool:
    """Whether what is being traced will run on a CPU."""
    return (_platform.get() or sys.modules["jax"].default_backend()) == "cpu"


_faster_texts: ContextVar[Mapping[str, Callable[..., Any]]] = ContextVar("faster_texts")


def has_faster_text(definition: Callable[..., Any]) -> Callable[..., Any]:
    """A function for NumPy arrays, in the place of which the JAX lane runs a text of its own that gives the same."""

    @functools.wraps(definition)
    def either(*arguments: Any, **named: Any) -> Any:
        texts = _faster_texts.get({})
        return texts.get(definition.__name__, definition)(*arguments, **named)

    return either


@contextmanager
def faster_texts(texts: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Within it, these stand in the place of the functions of their names that has_faster_text marks."""
    token = _faster_texts.set(texts)
    try:
        yield
    finally:
        _faster_texts.reset(token)
