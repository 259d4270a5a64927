"""Wrong quantities of encoders, for quantities.py: mean squares, inverses, largest ones, sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref import exact


def of_first_sub_block(columns: np.ndarray, n: int) -> np.ndarray:
    """Sub-blocks as columns: each is the first ``len(columns)`` of its super-block; of 256, that of the first one."""
    per_block = 256 // len(columns)
    at = np.arange(columns.shape[1])
    if n == 256:
        return columns[:, at % per_block]
    if n != len(columns):
        raise ValueError("sub-blocks of another size")
    return columns[:, at - at % per_block]


def mean_square_of(way: str, x: np.ndarray, times: int) -> np.ndarray:
    """Of x[rows, blocks, n], for each block; of sub-blocks where the caller repeats it."""
    rows, blocks, n = x.shape
    taken = {
        "row": np.broadcast_to(x.reshape(rows, 1, -1), (rows, blocks, blocks * n)),
        "first block": np.broadcast_to(x[:, :1], x.shape),
        "first 16": x[..., :16],
        "first 32": x[..., :32],
        "sum": x,
        "block": x,
    }[way]
    flat = taken.reshape(rows * blocks, -1).T
    total = exact.sum_in_order(np.multiply(flat, flat, dtype=np.float32)) * np.float32(times)
    return total if way == "sum" else exact.div(total, np.float32(len(flat)))


def importance_of(way: str, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of sub-blocks of 16 as columns, from the importance row."""
    columns, qw = (exact.columns(np.broadcast_to(a, x.shape), 16) for a in (x, weights))
    squares = np.multiply(columns, columns, dtype=np.float32)
    if way == "first":
        return of_first_sub_block(qw, 16)
    if way in ("square", "magnitude"):
        return qw * (squares if way == "square" else abs(columns))
    mean_square = np.repeat(mean_square_of("block", x, 2 if way == "doubled root" else 1), 16)
    if way == "own root":
        mean_square = exact.div(exact.sum_in_order(squares), np.float32(16))
    return qw * np.sqrt(mean_square + squares)


def reversed_reciprocal(a: Any, b: Any) -> np.ndarray:
    return np.divide(np.float32(1), np.divide(b, a, dtype=np.float32), dtype=np.float32)


def reciprocal(inverse: Any) -> np.ndarray:
    return np.divide(np.float32(1), inverse, dtype=np.float32)


def divided_by_reciprocal(x: Any, inverse: Any) -> np.ndarray:
    d = exact.reciprocal_or_zero(inverse)
    return np.where(d != 0, np.divide(x, np.where(d != 0, d, np.float32(1)), dtype=np.float32), np.float32(0))


def times64(x: Any, literal: float) -> np.ndarray:
    """x * literal in binary64."""
    return (np.asarray(x, np.float64) * literal).astype(np.float32)


def carried_largest(found: np.ndarray) -> np.ndarray:
    """The largest so far, of all blocks before."""
    flat = found.reshape(-1)
    if flat.size < 2:
        raise ValueError("a single block")
    at = np.arange(flat.size)
    best = np.maximum.accumulate(np.where(abs(flat) == np.maximum.accumulate(abs(flat)), at, 0))
    return flat[best].reshape(found.shape)


def carried_sum(terms: np.ndarray) -> np.ndarray:
    """Sums over the leading axis, each going on where the one before ended."""
    flat = np.asarray(terms, np.float32).reshape(len(terms), -1).T.reshape(-1)
    return np.cumsum(flat, dtype=np.float32)[len(terms) - 1 :: len(terms)].reshape(terms.shape[1:])
