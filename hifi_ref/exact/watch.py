"""Underflow is watched: products and quotients below 2^-103 mark themselves, and the lane repairs their blocks.

Back ends of jax may flush numbers below 2^-126 to zero, as IEEE-754 does not. This lemma tells where it cannot matter:

    If every input that is not zero, and every product and quotient of operands that are not zero, is at least 2^-103
    in magnitude, then every number is a multiple of 2^-126. So is every sum; one that is not zero is a normal number,
    and there is nothing to flush.

Within ``watching()`` the arithmetic of the JAX lane keeps the account: ``mul`` and ``div`` mark what fell below,
``fold`` and its like carry the marks out of their loops, and ``blocks_marked`` gathers them by block. The NumPy lane
marks nothing: it keeps subnormal numbers. A search marks by ``mark`` what else its text for jax does not answer for,
such as overflow. tests/unsealed.py proves of every format that no product or quotient escapes the watch.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact.bit_patterns import bits
from hifi_ref.exact.fusing import fusing_now
from hifi_ref.exact.lanes import is_jax, library

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32

    from hifi_ref.exact.lanes import Array

# Below it a product or quotient is marked, and an input of an encoder.
FAINT = np.float32(2.0**-103)
# A stored scale below it is marked, so that products of two scales, and what they are then divided by, need no watch.
FLOOR = np.float32(2.0**-45)

_marks: ContextVar[list[Array] | None] = ContextVar("marks", default=None)
_by_itself: ContextVar[bool] = ContextVar("by_itself", default=True)


@contextmanager
def watching() -> Iterator[list[Array]]:
    """Within it arithmetic that jax traces is watched; gives the list of marks, bool arrays of any shape."""
    token = _by_itself.set(True)
    try:
        with gathering() as found:
            yield found
    finally:
        _by_itself.reset(token)


@contextmanager
def gathering() -> Iterator[list[Array]]:
    """Within it marks go to a list of their own, as those of a loop's body must."""
    found: list[Array] = []
    token = _marks.set(found)
    try:
        yield found
    finally:
        _marks.reset(token)


@contextmanager
def unwatched() -> Iterator[None]:
    """Within it products and quotients do not mark themselves: for text that marks by a proof of its own.

    That proof is of products that round: within ``fusing`` they do.
    """
    if fusing_now() is not None:
        yield
        return
    token = _by_itself.set(False)
    jax = sys.modules.get("jax")
    try:
        # By this name tests/escapes.py knows what is traced here
        with jax.named_scope("unwatched") if jax else nullcontext():
            yield
    finally:
        _by_itself.reset(token)


def is_watching() -> bool:
    return _marks.get() is not None


def mark(where: Bool[Array, "..."]) -> None:
    """What is computed there, by the jax lane, is not to be relied on: the lane repairs its blocks."""
    marks = _marks.get()
    if marks is not None and is_jax(where):
        marks.append(where)


def mark_faint(result: Array, *operands: Any, floor: np.float32 = FAINT) -> None:
    """Mark where a product or quotient is below the floor although none of these operands is zero."""
    if is_watching() and _by_itself.get():
        different = [x for i, x in enumerate(operands) if not any(x is y for y in operands[:i])]
        mark(functools.reduce(operator.and_, [x != 0 for x in different], library(result).abs(result) < floor))


def watched_input(x: Float32[Array, "*n"], floor: np.float32 = FLOOR) -> Float32[Array, "*n"]:
    """x, an input; marked where it is below the floor, but not zero."""
    if is_watching() and is_jax(x):
        # By its bits, since what flushes subnormal results may take such operands for zeros too.
        size = bits(x) & np.uint32(0x7FFFFFFF)
        mark((size != 0) & (size < bits(floor)))
    return x


def any_of(marks: Sequence[Bool[Array, "..."]], shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """The marks of a loop's body as one of this shape; each may have more axes in front, which are or-ed."""
    joined: Any = None
    for found in marks:
        if found.shape[found.ndim - len(shape) :] != shape:
            raise ValueError(f"a mark of shape {found.shape} inside a loop whose values have shape {shape}")
        by_value: Any = found.any(axis=tuple(range(found.ndim - len(shape))))
        joined = by_value if joined is None else joined | by_value
    return joined


def blocks_marked(marks: Sequence[Bool[Array, "..."]], rows: int, blocks: int) -> Bool[Array, "rows blocks"]:
    """From marks over elements, sub-blocks, blocks or rows, or over importance, by block or as a whole.

    Blocks lie on the first two axes, or side by side on the last one, each with as many elements as it has there; or
    the last axis has the rows. Importance is the same for every row: its marks have the axis of blocks alone, or a
    single element. Where a shape can be read in two ways both are taken: a block more is repaired then.
    """
    # What has the same length on the last axis is joined before that axis is taken apart, which costs more
    by_length: dict[int, Any] = {}
    joined: Any = sys.modules["jax"].numpy.zeros((rows, blocks), bool)
    for found in marks:
        if not found.ndim:
            joined = joined | found
            continue
        by_block = found.shape[:2] == (rows, blocks)
        if by_block:
            joined = joined | found.reshape(rows, blocks, -1).any(axis=2)
        of_importance = found.shape in ((blocks,), (1,))
        if of_importance:
            joined = joined | found
        length = found.shape[-1]
        if length % (rows * blocks) == 0 or length == rows:
            last: Any = found.any(axis=tuple(range(found.ndim - 1)))
            by_length[length] = by_length[length] | last if length in by_length else last
        elif not by_block and not of_importance:
            raise ValueError(f"a mark of shape {found.shape} belongs to none of {rows} rows of {blocks} blocks")
    for length, last in by_length.items():
        joined = joined | (last[:, None] if length == rows else last.reshape(rows, blocks, -1).any(axis=2))
    return joined
