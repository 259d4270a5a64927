"""Operations that a back end of jax gets wrong, and that are therefore taken from it while jax traces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What by_hand says of the functions that are being traced.
_by_hand: ContextVar[frozenset[str]] = ContextVar("by_hand", default=frozenset())


@contextmanager
def by_hand(operations: Iterable[str]) -> Iterator[None]:
    """Within it, jax functions that are traced leave these operations to no back end.

    "division", "square root" and "conversion", from and to binary16, are done in whole numbers (long_arithmetic);
    "binary64 sums" by NumPy, which is called back.
    """
    token = _by_hand.set(frozenset(operations))
    try:
        yield
    finally:
        _by_hand.reset(token)


def is_by_hand(operation: str) -> bool:
    """Whether by_hand names this operation."""
    return operation in _by_hand.get()
