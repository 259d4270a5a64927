"""How fast each lane is from NumPy to NumPy: the table of hifi_ref/lanes/speeds.py: `python -m bench.lanes`.

Nothing else may run meanwhile. Times are the best of several; compiling is the first call less a later one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import app, flags

import hifi_ref as hr
from hifi_ref.formats import LLAMA_CPP, hard_inputs
from hifi_ref.lanes import jax_lane, numpy_lane
from hifi_ref.lanes.canary import require_exact

_OPERATIONS = flags.DEFINE_list("operations", ["encode", "encode with importance", "decode", "dot"], "What to measure.")
_FORMATS = flags.DEFINE_list("formats", [], "Formats; default: those of llama.cpp.")

REPEAT = 4
ROW = 4096
# Weights: enough for two threads in NumPy, and for eight pieces in JAX.
IN_NUMPY = {"encode": 1 << 18, "decode": 1 << 24, "dot": 1 << 24}
IN_JAX = {"encode": 1 << 22, "decode": 1 << 24, "dot": 1 << 24}
Call = Callable[[], object]


def encoders(f: hr.Format, weights: np.ndarray | None) -> Iterator[tuple[Call, int]]:
    rng = np.random.default_rng(0)
    for run, n in ((numpy_lane.encode, IN_NUMPY["encode"]), (jax_lane.encode_in_pieces, IN_JAX["encode"])):
        x = (rng.standard_normal((n // ROW, ROW)) * 0.02).astype(np.float32)
        shape = (len(x), ROW // f.block_size * f.type_size)
        more = (shape,) if run is jax_lane.encode_in_pieces else ()
        yield lambda run=run, x=x, more=more: run(f, x, weights, *more), n


def decoders(f: hr.Format) -> Iterator[tuple[Call, int]]:
    n = IN_NUMPY["decode"]
    blocks = hard_inputs.usual_blocks(f, np.random.default_rng(0), ROW // f.block_size).reshape(1, -1)
    blocks = np.tile(blocks, (n // ROW, 1))
    yield lambda: hr.decode(f.name, blocks, lane="numpy"), n
    yield lambda: hr.decode(f.name, blocks, lane="jax"), n


def dots(f: hr.Format) -> Iterator[tuple[Call, int]]:
    rng = np.random.default_rng(0)
    n = IN_NUMPY["dot"]
    w = np.tile(hard_inputs.usual_blocks(f, rng, ROW // f.block_size).reshape(1, -1), (n // ROW, 1))
    a = hr.encode(hr.FORMATS[f.name].dot_with or "", rng.standard_normal(ROW).astype(np.float32), lane="numpy")
    yield lambda: hr.dot(f.name, w, a, lane="numpy"), n
    yield lambda: hr.dot(f.name, w, a, lane="jax"), n


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
