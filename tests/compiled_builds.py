"""`python -m tests.compiled_builds [--formats=Q4_K,...] [--rows=16]` holds the fused builds that JAX compiles against
the definition, over all families of formats.hard_inputs, with importance and without.

One line a format, profile and kind: blocks, those that differ, those that were marked and so were the definition's own.
Before it, what tests/unsealed.py finds. Exits with 1 where one differs or is found. docs/profiles.md has what it said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np

from hifi_ref import exact
from hifi_ref.formats import FORMATS, Format, builds
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.lanes import numpy_lane, speeds
from hifi_ref.lanes.jax_lane import encoding, watched
from tests import unsealed

N = 512
# Weights a call: few, since it is the last one that is filled up.
CHUNK = 1 << 13


class Counts(NamedTuple):
    blocks: int
    differing: int
    marked: int


def counted(
    f: Format, build: exact.Fusing | None, weighted: bool, rows: int, families: Iterable[str] = inputs.FAMILIES
) -> Counts:
    """Blocks, those whose bytes differ, and those that were marked and so were the definition's own."""
    kinds = ("lognormal", "sparse", "steep") if weighted else ("none",)
    blocks = differing = marked = 0
    repair = encoding._repair

    def repaired(f, x, weights, written, marks, build):
        nonlocal marked
        marked += int(marks.sum())
        return repair(f, x, weights, written, marks, build)

    rng = np.random.default_rng(1)
    for i, family in enumerate(families):
        x, weights = inputs.weights(family, rng, rows, N), inputs.importance(kinds[i % len(kinds)], i, N)
        x, expected = known(f, x, weights, build)
        with mock.patch.object(encoding, "_repair", repaired):
            found = encoding._encode_chunks(f, x, weights, "cpu", CHUNK, build).reshape(-1, f.type_size)
        blocks, differing = blocks + len(found), differing + int((found != expected).any(axis=1).sum())
    return Counts(blocks, differing, marked)


def known(
    f: Format, x: np.ndarray, weights: np.ndarray | None, build: exact.Fusing | None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of which it is known what the build writes, and their blocks."""
    while True:
        try:
            return x, numpy_lane.encode(f, x, weights, build).reshape(-1, f.type_size)
        except exact.UnknownBlocks as error:
            assert error.known is not None
            x = x[error.known.reshape(len(x), -1).all(axis=1)]


def loose(f: Format, profile: str) -> list[str]:
    """Products that the compiler could fuse, in what jax traces: with importance and without."""

    def encode(x: Any, weights: Any = None) -> Any:
        with exact.fusing(builds.arithmetic(profile, f.name, weights is not None)):
            return watched.encode(f, x, weights)

    x, row = np.ones((1, 2, f.block_size), np.float32), np.ones((2, f.block_size), np.float32)
    taken = ((x, row),) if f.requires_weights else ((x,), (x, row))
    return [error for given in taken for error in unsealed.find(jax.make_jaxpr(encode)(*given))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default=",".join(speeds.AS_BUILT))
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()
    total = 0
    for name in options.formats.split(","):
        for profile in (p for p in builds.BUILDS if name in builds.known_formats(p)):
            errors = loose(FORMATS[name], profile)
            print(*errors, sep="\n", end="")
            total += len(errors)
            for weighted in (True,) if FORMATS[name].requires_weights else (False, True):
                found = counted(FORMATS[name], builds.arithmetic(profile, name, weighted), weighted, options.rows)
                print(name, profile, "with importance" if weighted else "without", *found, flush=True)
                total += found.differing
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
