"""Every configuration of Hyper-Quantization over some weights, with its bits, sharing what configurations share.

Codes depend on bits, block size and symmetry alone: 128 sets of them serve all configurations. What differs besides is
how scales and mins are rounded, a number or two a block. Codes, scales and mins are those of hifi_ref.neighbours, by
the same text; only the sums of errors are compiled, one kernel a block size. Arrays lie with blocks as columns, so that
a scale meets a whole row.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref.lanes.numpy_lane import each
from hifi_ref.neighbours.hyper import Kind, quantized, read_scale, stored_scale, values
from hifi_ref.sweep.losses import SUMS, Scales, scales

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
# The longest block or super-block: weights come in multiples of it.
SPAN = SIZES[-1]
# Weights a chunk.
CHUNK = 1 << 18
# Configurations a call of the compiled kernel, as many as share an outer block size: their scales bound memory.
BATCH = 48
# Weights a call of the compiled kernel: they stay in a cache.
TILE = 1 << 16
BITS = range(1, 9)
SCALE_TYPES = ("fp16", "bf16", "fp8")


class Choice(NamedTuple):
    """A configuration: ``outer`` is how scales and mins are quantized, None where they are stored as they are."""

    inner: Kind
    outer: Kind | None
    scale_type: str


def choices(double: bool) -> list[Choice]:
    """All that the original can express with block sizes that are powers of two up to SPAN, and super-blocks too."""
    kinds = [Kind(*kind) for kind in itertools.product(BITS, SIZES, (True, False))]
    if not double:
        return [Choice(kind, None, scale_type) for kind in kinds for scale_type in SCALE_TYPES]
    return [
        Choice(inner, outer, scale_type)
        for inner, outer, scale_type in itertools.product(kinds, kinds, SCALE_TYPES)
        if inner.block_size * outer.block_size <= SPAN
    ]


def sums(
    x: Float32[np.ndarray, "n"],
    importance: Float32[np.ndarray, "n"] | None,
    wanted: Mapping[Choice, int],
    done: Callable[[float], object] = lambda share: None,
) -> Float64[np.ndarray, "configurations sums"]:
    """The sums of losses.SUMS for each wanted configuration, in the row that it is mapped to.

    x: finite, at most CHUNK of them, a multiple of SPAN. The result is the same whatever the number of cores. ``done``
    is called with the share of the work that was done since.
    """
    found = np.zeros((len(wanted), len(SUMS)))
    kinds = sorted({choice.inner for choice in wanted}, key=lambda kind: (kind.block_size, kind))
    by_kind = {kind: [choice for choice in wanted if choice.inner == kind] for kind in kinds}
    squares = np.square(x.astype(np.float64))
    of_weights = x.size, float(squares.sum()), 0.0 if importance is None else float(squares @ importance)
    in_blocks = {size: _InBlocks.of(x, importance, size) for size in {kind.block_size for kind in kinds}}

    def part(i: int) -> None:
        kind, own = kinds[i], in_blocks[kinds[i].block_size]
        codes, *numbers = quantized(x.reshape(-1, kind.block_size), kind.bits, kind.symmetric)
        q, stored = np.ascontiguousarray(codes.T), _stored([*map(np.asarray, numbers)], kind, by_kind[kind])
        while batch := list(itertools.islice(stored, BATCH)):
            rows = [wanted[choice] for choice, _ in batch]
            found[rows] = _errors(q, own, [kept for _, kept in batch], of_weights)
            done(len(batch) / len(wanted))

    each(part, range(len(kinds)))
    return found


class _InBlocks(NamedTuple):
    """Weights and perhaps their importance in blocks of one size, blocks as columns."""

    x: Float32[np.ndarray, "block blocks"]
    importance: Float32[np.ndarray, "block blocks"] | None
    by: Scales

    @classmethod
    def of(cls, x: np.ndarray, importance: np.ndarray | None, size: int) -> _InBlocks:
        columns = _columns(x, size)
        return cls(columns, None if importance is None else _columns(importance, size), scales(columns))


def _columns(x: np.ndarray, size: int) -> np.ndarray:
    return np.ascontiguousarray(x.reshape(-1, size).T)


# SCALES AND MINS, AS THEY ARE READ BACK


def _stored(numbers: list[Any], kind: Kind, listed: list[Choice]) -> Iterator[tuple[Choice, list[np.ndarray]]]:
    """Each configuration of this kind of block, with its scale and perhaps min of each block; ``numbers`` unrounded."""
    for choice in listed:
        if choice.outer is None:
            yield choice, [_kept(number, choice.scale_type) for number in numbers]
    doubles = [choice for choice in listed if choice.outer is not None]
    for size, group in itertools.groupby(sorted(doubles, key=_outer_size), key=_outer_size):
        yield from _doubly_stored([number.reshape(-1, size) for number in numbers], list(group))


def _outer_size(choice: Choice) -> int:
    assert choice.outer is not None
    return choice.outer.block_size


def _doubly_stored(numbers: list[Any], listed: list[Choice]) -> Iterator[tuple[Choice, list[np.ndarray]]]:
    """Those of one outer block size. Rounding all of their scales at once spares many small calls."""
    wanted = set(listed)
    outers = sorted({choice.outer for choice in listed if choice.outer is not None})
    coded = {outer: [quantized(number, outer.bits, outer.symmetric) for number in numbers] for outer in outers}
    flat = np.concatenate([number for pair in coded.values() for _, *unrounded in pair for number in unrounded])
    for scale_type in SCALE_TYPES:
        kept, at = _kept(flat, scale_type), 0
        for outer, pair in coded.items():
            stored: list[tuple[Any, list[Any]]] = []
            for q, *unrounded in pair:
                own = [kept[at + i * len(q) : at + (i + 1) * len(q)] for i in range(len(unrounded))]
                at += len(unrounded) * len(q)
                stored.append((q, own))
            choice = listed[0]._replace(outer=outer, scale_type=scale_type)
            if choice in wanted:
                yield choice, [np.asarray(values(q, own, "fp32")).reshape(-1) for q, own in stored]


def _kept(number: Float32[np.ndarray, "n"], scale_type: str) -> Float32[np.ndarray, "n"]:
    return np.asarray(read_scale(stored_scale(number, scale_type), scale_type))


# SUMS OF ERRORS


def _errors(
    q: Float32[np.ndarray, "block blocks"],
    own: _InBlocks,
    numbers: list[list[np.ndarray]],
    of_weights: tuple[int, float, float],
) -> Float64[np.ndarray, "configurations sums"]:
    size, blocks = q.shape
    count, least = len(numbers), len(SCALE_TYPES)
    # Two lengths alone, so that little is compiled.
    numbers = numbers + numbers[-1:] * ((least if count <= least else BATCH) - count)
    scale = np.stack([pair[0] for pair in numbers])
    low = np.zeros_like(scale) if len(numbers[0]) == 1 else np.stack([pair[1] for pair in numbers])
    by_place = own.by.of_places.astype(np.float32)
    step = max(TILE // size, 1)
    found = np.zeros((4, len(scale)))
    for start in range(0, blocks, step):
        tile = slice(start, start + step)
        w = () if own.importance is None else (own.importance[:, tile],)
        parts = _compiled()(own.x[:, tile], q[:, tile], scale[:, tile], low[:, tile], by_place, *w)
        absolute, *others = map(np.asarray, parts)
        found[0] += absolute.astype(np.float64) @ own.by.of_blocks[tile]
        for i, other in enumerate(others, 1):
            found[i] += other.sum(axis=1, dtype=np.float64)
    counted = own.by.counts
    n, squares, weighted = of_weights
    ones = np.ones(len(scale))
    return np.stack([
        n * ones, found[0] / size, counted[0] * ones, found[1] / blocks, counted[1] * ones,
        found[2], squares * ones, found[3], weighted * ones,
    ], axis=1)[:count]  # fmt: skip


@functools.cache
def _compiled() -> Callable[..., Any]:
    """(x, q [block, blocks], scale, low [configurations, blocks], by_place [block], importance like x or left out)
    -> sums over each block [configurations, blocks] of |x - y|, of the same times by_place, of (x - y)^2, and of that
    times importance.
    """
    import jax

    jnp = jax.numpy

    def kernel(x: Any, q: Any, scale: Any, low: Any, by_place: Any, *importance: Any) -> Any:
        def one(numbers: Any) -> Any:
            s, m = numbers
            zero = jnp.zeros_like(s)

            def add(i: Any, so_far: Any) -> Any:
                error = jnp.abs(x[i] - (q[i] * s + m))
                square = error * error
                terms = (error, by_place[i] * error, square, *(w[i] * square for w in importance))
                return tuple(a + b for a, b in zip(so_far, terms, strict=True))

            return jax.lax.fori_loop(0, x.shape[0], add, (zero,) * (3 + len(importance)), unroll=4)

        return jax.lax.map(one, (scale, low))

    compiled, cpu = jax.jit(kernel), jax.local_devices(backend="cpu")[0]

    def on_cpu(*arrays: np.ndarray) -> Any:
        with jax.default_device(cpu):
            return compiled(*arrays)

    return on_cpu
