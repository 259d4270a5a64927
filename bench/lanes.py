"""How fast each lane is from NumPy to NumPy: the table of hifi_ref/lanes/speeds.py: `python -m bench.lanes`.

Nothing else may run meanwhile. Times are the best of several; compiling is the first call less a later one.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import app, flags

import hifi_ref as hr
from hifi_ref.formats import LLAMA_CPP, hard_inputs
from hifi_ref.lanes import jax_lane, numpy_lane
from hifi_ref.lanes.canary import require_exact
from hifi_ref.lanes.checks import partner_of

_OPERATIONS = flags.DEFINE_list("operations", ["encode", "encode with importance", "decode", "dot"], "What to measure.")
_FORMATS = flags.DEFINE_list("formats", [], "Formats; default: those of llama.cpp.")

REPEAT = 4
ROW = 4096
# Weights that are encoded: enough for two threads in NumPy, and for eight pieces in JAX; and that are decoded.
IN_NUMPY, IN_JAX, DECODED = 1 << 18, 1 << 22, 1 << 24
Call = Callable[[], object]


def encoders(f: hr.Format, weights: np.ndarray | None) -> Iterator[tuple[Call, int]]:
    rng = np.random.default_rng(0)
    few, many = ((rng.standard_normal((n // ROW, ROW)) * 0.02).astype(np.float32) for n in (IN_NUMPY, IN_JAX))
    shape = (len(many), ROW // f.block_size * f.type_size)
    yield functools.partial(numpy_lane.encode, f, few, weights), few.size
    yield functools.partial(jax_lane.encode_in_pieces, f, many, weights, shape), many.size


def decoders(f: hr.Format) -> Iterator[tuple[Call, int]]:
    blocks = hard_inputs.usual_blocks(f, np.random.default_rng(0), ROW // f.block_size).reshape(1, -1)
    blocks = np.tile(blocks, (DECODED // ROW, 1))
    yield functools.partial(hr.decode, f.name, blocks, lane="numpy"), DECODED
    yield functools.partial(hr.decode, f.name, blocks, lane="jax"), DECODED


def dots(f: hr.Format) -> Iterator[tuple[Call, int]]:
    rng = np.random.default_rng(0)
    w = np.tile(hard_inputs.usual_blocks(f, rng, ROW // f.block_size).reshape(1, -1), (DECODED // ROW, 1))
    a = hr.encode(partner_of(f).name, rng.standard_normal(ROW).astype(np.float32), lane="numpy")
    yield functools.partial(hr.dot, f.name, w, a, lane="numpy"), DECODED
    yield functools.partial(hr.dot, f.name, w, a, lane="jax"), DECODED


def calls(operation: str, f: hr.Format) -> Iterator[tuple[Call, int]]:
    if operation == "decode":
        return decoders(f)
    if operation == "dot":
        return dots(f)
    return encoders(f, np.ones(ROW, np.float32) if operation.endswith("importance") else None)


def offered(operation: str, f: hr.Format) -> bool:
    if operation == "encode":
        return f.encode is not None and not f.requires_weights
    return getattr(f, operation.split()[0]) is not None


def timed(run: Call) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]}")
    jax.config.update("jax_enable_compilation_cache", False)
    require_exact(np.zeros(1, np.float32))
    for operation in _OPERATIONS.value:
        print(f'    "{operation}": {{', flush=True)
        for name in [name for name in _FORMATS.value or LLAMA_CPP if offered(operation, hr.FORMATS[name])]:
            (in_numpy, n), (in_jax, m) = calls(operation, hr.FORMATS[name])
            first = timed(in_jax)
            times = [min(timed(run) for _ in range(REPEAT)) for run in (in_numpy, in_jax)]
            speeds = [size / seconds / 1e6 for size, seconds in zip((n, m), times, strict=True)]
            numbers = ", ".join(f"{value:.2g}" if value < 100 else f"{value:.0f}" for value in speeds)
            print(f'        "{name}": Speed({numbers}, {first - times[1]:.1f}),', flush=True)
        print("    },", flush=True)


if __name__ == "__main__":
    app.run(main)
