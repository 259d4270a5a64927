"""Sums in C's order, first to last, and exact sums of products of codes."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.exact import clean_thread, watch
from hifi_ref.exact.arithmetic import product
from hifi_ref.exact.bit_patterns import f32, from_bits, hidden_zero, i16, i32
from hifi_ref.exact.corrections import is_by_hand
from hifi_ref.exact.fusing import fusing_now
from hifi_ref.exact.lanes import is_jax, library
from hifi_ref.exact.loops import fold, pair, unmarked_fold, unpair, wall
from hifi_ref.exact.profiles import rounded

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Integer

    from hifi_ref.exact.lanes import Array

# Up to so many terms NumPy is done sooner with all of them at once than with one element after the other.
FEW = 1 << 13


def zeros_to_add_to(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """float32 zeros shaped as x, to begin a sum with. XLA drops an addition to a zero it knows, though 0 + -0 is +0."""
    return from_bits(hidden_zero(x)) if is_jax(x) else np.zeros(x.shape, np.float32)


def sum_in_order(terms: Float32[Array, "k *n"], unroll: int = 8) -> Float32[Array, "*n"]:
    """((0 + terms[0]) + terms[1]) + ...: float32 sum over axis 0, first to last, as a C loop adds."""
    return fold(terms.shape[0], lambda i, total: total + terms[i], zeros_to_add_to(terms[0]), unroll)


def sum_of_rows(terms: Float32[Array, "rows blocks *n"]) -> Float32[Array, "rows"]:
    """[rows, n] -> [rows]: ((0 + terms[:, 0]) + terms[:, 1]) + ...: the terms of a dot product, block after block.

    [rows, blocks, n] -> [rows]: those of a block one after the other.
    """
    if terms.ndim == 2:
        return fold(terms.shape[1], lambda i, total: total + terms[:, i], zeros_to_add_to(terms[:, 0]), unroll=8)

    def add_block(i: Any, total: Array) -> Array:
        for j in range(terms.shape[2]):
            total = total + terms[:, i, j]
        return total

    return fold(terms.shape[1], add_block, zeros_to_add_to(terms[:, 0, 0]))


def running_sums(
    n: int, terms: Callable[[Any], tuple[Array, ...]], unroll: int = 8, at_once: bool = False
) -> tuple[Array, ...]:
    """Several ordered float32 sums at once: the j-th is ((0 + terms(0)[j]) + terms(1)[j]) + ... + terms(n-1)[j].

    They are carried as pairs, so put next to each other those that share most. In the JAX lane the first sum is NaN
    where a product in the terms is to be marked, so that the mark needs no array of its own in the loop.
    ``at_once``: terms(slice(None)) gives those of all elements, which the NumPy lane asks for where they are few.
    """
    with watch.gathering():
        zeros = tuple(zeros_to_add_to(rounded(first)) for first in terms(0))
    if not is_jax(zeros[0]):
        if at_once and n * zeros[0].size <= FEW and fusing_now() is None:
            whole = terms(slice(None))
            return tuple(_in_order(np.asarray(v), (n, *z.shape)) for v, z in zip(whole, zeros, strict=True))
        return fold(n, lambda i, total: tuple(t + v for t, v in zip(total, terms(i), strict=True)), zeros)
    marked: list[bool] = []

    def paired(values: tuple[Array, ...]) -> tuple[Any, ...]:
        rest = values[len(values) // 2 * 2 :]
        return (*(pair(values[j], values[j + 1]) for j in range(0, len(values) - 1, 2)), *rest)

    def apart(values: tuple[Any, ...]) -> tuple[Array, ...]:
        return tuple(part for v in values for part in (unpair(v) if library(v).iscomplexobj(v) else (v,)))

    def add(i: Any, total: Any) -> Any:
        with watch.gathering() as found:
            first, *rest = (t + v for t, v in zip(apart(total), terms(i), strict=True))
        if found:
            first = library(first).where(watch.any_of(found, first.shape), np.float32(np.nan), first)
            marked[:] = [True]
        return paired((first, *rest))

    sums = apart(unmarked_fold(n, add, paired(zeros), unroll))
    if marked:
        watch.mark(sums[0] != sums[0])
    return sums


def _in_order(terms: Float32[np.ndarray, "..."], shape: tuple[int, ...]) -> Float32[np.ndarray, "*n"]:
    """sum_in_order of NumPy terms of that shape, or one for all that do not differ."""
    terms = terms if terms.shape == shape else np.broadcast_to(terms, shape)
    # Adding 0 last is adding to 0 first: only a sum of nothing but -0 shows it.
    return np.add.accumulate(terms, axis=0)[-1] + np.float32(0)


def int_dot(
    q: Integer[Array, "rows blocks *parts k"], p: Integer[Array, "blocks *parts k"]
) -> Int32[Array, "rows blocks"]:
    """Exact sums of products of codes: [rows, blocks, *parts, k] with [blocks, *parts, k] -> int32[rows, blocks].

    Each product must fit 16 bits and each sum stay below 2^24; parts may be any axes, or none.
    """
    if is_jax(q) or is_jax(p):
        # One contiguous axis is what XLA reduces well, and 16-bit products are the cheapest.
        products = (i32(i16(q[:, :, *part]) * i16(p[:, *part])) for part in np.ndindex(q.shape[2:-1]))
        return functools.reduce(operator.add, products).sum(axis=-1, dtype=np.int32)
    rows, blocks = q.shape[:2]
    # Integers below 2^24 add exactly in binary32, in any order.
    return i32(np.einsum("rbk,bk->rb", f32(q.reshape(rows, blocks, -1)), f32(p.reshape(blocks, -1))))


def float_dot(x: Float32[Array, "rows n"], y: Float32[Array, "n"]) -> Float32[Array, "rows"]:
    """[rows, n] with [n] -> float32[rows]: float32 products, added first to last in binary64, the sum rounded once."""
    rows, n = x.shape
    if (is_jax(x) or is_jax(y)) and is_by_hand("binary64 sums"):
        return clean_thread.call(float_dot, (rows,), np.float32, x, y)
    if is_jax(x) or is_jax(y):
        jax = sys.modules["jax"]
        products = wall(product(x, y).T)
        # Binary64 exists only inside this context, whatever jax_enable_x64 says outside of it.
        with jax.enable_x64(True):

            def add(i: Any, total: Array) -> Array:
                return total + products[i].astype(np.float64)

            return fold(n, add, zeros_to_add_to(products[0]).astype(np.float64), unroll=16).astype(np.float32)
    total = np.zeros(rows, np.float32)
    for i in range(0, rows, 16):
        products = (x[i : i + 16] * y).astype(np.float64)
        # Adding 0 last is adding to 0 first: only a sum of nothing but -0 shows it.
        total[i : i + 16] = np.add.accumulate(products, axis=1)[:, -1] + 0.0
    return total
