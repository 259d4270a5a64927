"""What a way is in which the kernel of a dot product goes wrong, and what all ways are made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hifi_ref.conform.dot_numbers import Numbers


class Way(NamedTuple):
    """added: [rows, blocks, parts] of what is wrongly added, by parts of a block; None where a case cannot tell.

    counted: what is counted otherwise than once, of a way whose factor is to be found; "" for others.
    """

    kind: str
    says: str
    added: Callable[[Numbers], np.ndarray | None]
    counted: str = ""
    # From where each position of a block takes its activation, to be said with those that are wrong
    taken: np.ndarray | None = None


def sums_of(x: np.ndarray, size: int) -> np.ndarray:
    """Sums of runs of so many positions."""
    return x.reshape(*x.shape[:-1], -1, size).sum(axis=-1)


def spread(x: np.ndarray, count: int) -> np.ndarray:
    """Factors of sub-blocks, for so many parts: repeated."""
    return np.repeat(x, count // x.shape[-1], axis=-1)


def powers(first: int, last: int) -> list[int]:
    return [1 << i for i in range(20) if first <= 1 << i <= last]


def sizes(k: Numbers) -> tuple[int, int]:
    """Positions of a block, and of a sub-block."""
    return k.codes.shape[-1], k.codes.shape[-1] // k.scales.shape[-1]
