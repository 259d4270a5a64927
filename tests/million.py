"""A million blocks a format against the pinned release, and a table of what differs.

`python -m tests.million [--formats=Q4_K,Q6_K] [--blocks=1000000] [--operations=decode,encode,dot,matmul]
[--lanes=numpy,jax]` exits with 1 where a single block, or result of a dot product, differs. Decoding takes random
bytes; encoding and dot products take the families of formats.hard_inputs in equal shares, encoding with every kind of
importance. A matrix product, which is compiled and so has the lane jax alone, takes random bytes by columns of these
families.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

import hifi_ref as hr
from hifi_ref.formats import FORMATS, LLAMA_CPP, Format
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.formats.hard_inputs import FAMILIES, same_floats
from reference import refusals, release

# Weights at a time: one shape, so that the JAX lane compiles once.
ENCODE_ROWS, ENCODE_N = 64, 4096
DECODE_WEIGHTS = 1 << 22
DOT_ROWS, DOT_N = 256, 4096
# More columns than the products take one by one.
COLUMNS = 8


def decode_blocks(f: Format, blocks: int, lane: str) -> Iterator[tuple[int, int]]:
    """(blocks, differing blocks), piece by piece; the other operations alike."""
    rng = np.random.default_rng(f.type_id)
    step = DECODE_WEIGHTS // f.block_size
    for _ in range(-(-blocks // step)):
        drawn = inputs.random_blocks(f, rng, step)
        expected = release.decode(f.name, drawn)
        same = same_floats(hr.decode(f.name, drawn, lane=lane).reshape(expected.shape), expected)
        yield step, int((~same).any(axis=1).sum())


def encode_blocks(f: Format, blocks: int, lane: str, kind: str) -> Iterator[tuple[int, int]]:
    """Rows that the release refuses are not counted."""
    rng = np.random.default_rng(f.type_id + 1000)
    step = ENCODE_ROWS * ENCODE_N // f.block_size
    for turn in range(-(-blocks // step)):
        family = [*FAMILIES][turn % len(FAMILIES)]
        x = inputs.weights(family, rng, ENCODE_ROWS, ENCODE_N)
        weights = inputs.importance(kind, turn, ENCODE_N)
        expected, accepted = refusals.encode_or_refuse(f.name, x, weights)
        observed = hr.encode(f.name, x, weights, lane=lane)
        wrong = (observed != expected)[accepted].reshape(-1, f.type_size).any(axis=1)
        if wrong.any():
            print(f"  {f.name} {lane} {kind}: {int(wrong.sum())} blocks of family {family!r} differ", file=sys.stderr)
        yield wrong.size, int(wrong.sum())


def dot_rows(f: Format, blocks: int, lane: str) -> Iterator[tuple[int, int]]:
    """Blocks are counted, but rows are compared: a row that differs counts as one."""
    rng = np.random.default_rng(f.type_id + 2000)
    g = inputs.partner_of(f)
    step = DOT_ROWS * DOT_N // f.block_size
    for turn in range(-(-blocks // step)):
        family = [*FAMILIES][turn % len(FAMILIES)]
        a = release.encode(g.name, inputs.weights(family, rng, 1, DOT_N))[0]
        w = inputs.random_blocks(f, rng, step)
        if turn % 2:
            w = inputs.tame_scales(f, w, rng)
        if turn % 4 == 1 and f.encode is not None and not refusals.may_refuse(f.name):
            w = release.encode(f.name, inputs.weights(family, rng, DOT_ROWS, DOT_N))
        w = w.reshape(DOT_ROWS, -1)
        same = same_floats(hr.dot(f.name, w, a, lane=lane), release.dot(f.name, w, a))
        yield step, int((~same).sum())


def matmul_rows(f: Format, blocks: int) -> Iterator[tuple[int, int]]:
    """Blocks of the matrix are counted, half of them with usual scales; compared is every row with every column."""
    rng = np.random.default_rng(f.type_id + 3000)
    g = inputs.partner_of(f)
    families = itertools.cycle(FAMILIES)
    step = DOT_ROWS * DOT_N // f.block_size
    for turn in range(-(-blocks // step)):
        x = np.concatenate([inputs.weights(next(families), rng, 1, DOT_N) for _ in range(COLUMNS)])
        w = (inputs.usual_blocks if turn % 2 else inputs.random_blocks)(f, rng, step).reshape(DOT_ROWS, -1)
        expected = np.stack([release.dot(f.name, w, a) for a in release.encode(g.name, x)])
        yield step, int((~same_floats(np.asarray(hr.matmul(f.name, jnp.asarray(w), x)), expected)).sum())


def runs(f: Format, operation: str, lane: str, blocks: int) -> Iterator[tuple[str, Iterator[tuple[int, int]]]]:
    """(kind of importance, pieces) for each run that a format's operation needs."""
    if getattr(f, "dot" if operation == "matmul" else operation) is None:
        return
    if operation == "encode":
        for kind in (*inputs.importance_kinds(f), "constant"):
            yield kind, encode_blocks(f, blocks, lane, kind)
    elif operation == "matmul":
        if lane == "jax":
            yield "-", matmul_rows(f, blocks)
    else:
        yield "-", {"decode": decode_blocks, "dot": dot_rows}[operation](f, blocks, lane)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default=",".join(LLAMA_CPP))
    parser.add_argument("--operations", default="decode,encode,dot,matmul")
    parser.add_argument("--lanes", default="numpy,jax")
    parser.add_argument("--blocks", type=int, default=1_000_000)
    options = parser.parse_args()
    unknown = [name for name in options.formats.split(",") if name not in LLAMA_CPP]
    if unknown:
        parser.error(f"no format is called {unknown[0]}")
    total = 0
    print(f"{'format':8} {'operation':9} {'lane':5} {'weights':9} {'blocks':>10} {'differing':>9}")
    for name in options.formats.split(","):
        for operation in options.operations.split(","):
            for lane in options.lanes.split(","):
                for kind, pieces in runs(FORMATS[name], operation, lane, options.blocks):
                    blocks, differing = (sum(column) for column in zip(*pieces, strict=True))
                    print(f"{name:8} {operation:9} {lane:5} {kind:9} {blocks:10} {differing:9}", flush=True)
                    total += differing
    print("every block agrees" if not total else f"{total} differ")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
