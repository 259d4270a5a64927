"""As which build the arithmetic computes: strictly, or as one that fuses multiply-adds (see profiles.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool


class UnknownBlocks(ValueError):
    """Of these weights it is not known what the build writes: in its source that depends on more than them.

    ``known``: of which sub-blocks it is, of those that were encoded together.
    """

    def __init__(self, says: str, known: Bool[np.ndarray, "subs"] | None = None) -> None:
        super().__init__(says)
        self.known = known


class Fusing(NamedTuple):
    """How a build that fuses computes: which sites it rounds before it adds, and where it differs beyond that.

    ``arm64``: its processor's conversions to integers saturate, where those of x86-64 give -2^31, and its own NaN is
    positive. ``unguarded``: its source is from before b6133, and divides a sum by another that may be 0 or no number.
    """

    rounded: frozenset[str]
    arm64: bool = False
    unguarded: bool = False


_fusing: ContextVar[Fusing | None] = ContextVar("fusing", default=None)


@contextmanager
def fusing(build: Fusing | None) -> Iterator[None]:
    """Within it, on this thread, NumPy arrays are computed with as that build does; None: strictly."""
    token = _fusing.set(build)
    try:
        yield
    finally:
        _fusing.reset(token)


fusing_now = _fusing.get


def is_arm64() -> bool:
    build = fusing_now()
    return build is not None and build.arm64


def is_unguarded() -> bool:
    build = fusing_now()
    return build is not None and build.unguarded
