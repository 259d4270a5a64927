"""One text in two lanes: NumPy arrays are computed by NumPy, jax arrays by jax, with the same bits.

What XLA would flush is watched, as exact/watch.py tells: where an input, a product or a quotient came near the range
below 2^-126, NumPy computes the whole result again, inside the caller's ``jax.jit`` through a callback that runs only
then.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import clean_thread

if TYPE_CHECKING:
    from hifi_ref.exact import Array


def run(work: Callable[..., Any], *operands: Any, watching: bool = True, **parameters: Any) -> Any:
    """work(*operands, **parameters): operands are arrays or dicts of arrays, parameters are hashable.

    watching: False for a text to which faint inputs are no harm, or that marks them itself.
    """
    leaves = list(_leaves(operands))
    if not any(map(exact.is_jax, leaves)):
        return _in_numpy(work, operands, parameters)
    given = tuple(sorted(parameters.items()))
    if any(map(exact.is_traced, leaves)):
        return _inside(work, operands, given, watching)
    return _at_top_level(work, operands, given, watching)


def _leaves(tree: Any) -> Any:
    for each in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(each, dict):
            yield from _leaves(each)
        else:
            yield each


def _in_numpy(work: Callable[..., Any], operands: Any, parameters: dict[str, Any]) -> Any:
    if not clean_thread.keeps_subnormals():
        raise RuntimeError("this thread flushes subnormal numbers to zero: results would be wrong")
    # Overflow and NaN are part of the definition, not something to warn of.
    with np.errstate(all="ignore"):
        return work(*operands, **parameters)


def _marked(
    work: Callable[..., Any], watching: bool, given: tuple[Any, ...]
) -> Callable[..., tuple[Any, Array | None]]:
    """(*operands) -> the result, and whether it is to be computed again; None where that never is."""
    import jax

    def marked(*operands: Any) -> tuple[Any, Array | None]:
        with exact.watching() as marks:
            if watching:
                for leaf in jax.tree.leaves(operands):
                    if leaf.dtype == np.float32:
                        exact.watched_input(leaf, exact.FAINT)
            result = work(*operands, **dict(given))
        found: list[Any] = [mark.any() for mark in marks]
        return result, functools.reduce(operator.or_, found) if marks else None

    return marked


@functools.cache
def _compiled(work: Callable[..., Any], watching: bool, given: tuple[Any, ...], platform: str) -> Callable[..., Any]:
    import jax

    from hifi_ref.lanes.canary import corrections, tracing

    return jax.jit(tracing(_marked(work, watching, given), corrections(platform), platform))


def _at_top_level(work: Callable[..., Any], operands: Any, given: tuple[Any, ...], watching: bool) -> Any:
    import jax

    from hifi_ref.lanes.canary import require_exact

    platform = require_exact(next(filter(exact.is_jax, _leaves(operands))))
    result, again = _compiled(work, watching, given, platform)(*operands)
    if again is None or not bool(again):
        return result
    # XLA leaves its own threads alone, but a host thread of the caller's may flush: the clean one never does.
    in_numpy = jax.tree.map(np.asarray, operands)
    done = clean_thread.start().submit(_in_numpy, work, in_numpy, dict(given)).result()
    return jax.tree.map(jax.numpy.asarray, done)


def _inside(work: Callable[..., Any], operands: Any, given: tuple[Any, ...], watching: bool) -> Any:
    import jax

    from hifi_ref.lanes.canary import require_exact, tracing_anywhere
    from hifi_ref.lanes.jax_lane import opaque

    first = next(filter(exact.is_traced, _leaves(operands)))
    require_exact(first)
    operands = opaque(*jax.tree.map(jax.numpy.asarray, operands))
    result, again = tracing_anywhere(_marked(work, watching, given), first)(*operands)
    if again is None:
        return result
    thread = clean_thread.start()

    def in_numpy(*operands: Any) -> Any:
        operands = jax.tree.map(np.asarray, operands)
        done = thread.submit(_in_numpy, work, operands, dict(given)).result()
        return jax.tree.map(_filled, done, shapes)

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), result)
    return jax.lax.cond(
        again,
        lambda result, operands: jax.pure_callback(in_numpy, shapes, *operands),
        lambda result, operands: result,
        result,
        operands,
    )


def _filled(made: np.ndarray, like: Any) -> np.ndarray:
    """An array of values' own length in the length that jax has for it, filled up with -1."""
    more = [(0, wanted - length) for length, wanted in zip(made.shape, like.shape, strict=True)]
    return np.pad(made.astype(like.dtype), more, constant_values=-1)
