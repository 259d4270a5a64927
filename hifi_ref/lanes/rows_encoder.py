"""Encoding the rows of many tensors, a piece at a time, in whichever lane is done first.

The JAX lane compiles once a format and shape: it is worth that for much work, or where an earlier run has compiled
the format: JAX keeps compiled code in the cache folder. SPEEDS holds what was measured on two cores, and `choose_lanes`
decides from it; both lanes give the same bits.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import hifi_ref as hr
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import write_atomically

# Weights a call in the JAX lane: one shape, so one compilation a format.
JAX_PIECE = 1 << 19
# Seconds until JAX is loaded and its canary has passed.
JAX_START = 1.5
# Seconds to load compiled code.
LOAD = 0.5
# Millions of weights a second in NumPy and in JAX, and seconds to compile; without importance and with it.
SPEEDS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "Q4_0": ((110, 360, 0.3), (4.6, 90, 1.1)),
    "Q4_1": ((90, 380, 0.3), (2.1, 25, 1.5)),
    "Q5_0": ((100, 230, 0.3), (3.8, 70, 1.2)),
    "Q5_1": ((60, 430, 0.5), (1.3, 21, 1.8)),
    "Q2_K": ((4, 50, 1.4), (1.5, 22, 4.0)),
    "Q3_K": ((4, 80, 2.2), (4, 85, 2.4)),
    "Q4_K": ((2.5, 65, 2.4), (1.3, 20, 5.3)),
    "Q5_K": ((2.5, 65, 2.4), (1.3, 25, 5.4)),
    "Q6_K": ((6, 100, 1.6), (6, 100, 1.6)),
    "IQ1_S": ((1.5, 25, 4.5), (1.5, 25, 4.5)),
    "IQ1_M": ((1.3, 19, 4.5), (1.3, 19, 4.5)),
    "IQ2_XXS": ((0.75, 16, 7.5), (0.75, 16, 7.5)),
    "IQ2_XS": ((0.23, 14, 5.6), (0.23, 14, 5.6)),
    "IQ2_S": ((1.5, 18, 6), (1.5, 18, 6)),
    "IQ3_XXS": ((0.6, 10, 6.5), (0.6, 10, 6.5)),
    "IQ3_S": ((0.9, 14, 6.2), (0.9, 14, 6.2)),
    "IQ4_NL": ((5, 60, 1.5), (5, 60, 1.5)),
    "IQ4_XS": ((5, 60, 2), (5, 60, 2)),
}
# Formats that are not in the table are simple: NumPy streams them.
STREAMED = ((80.0, 300.0, 0.3), (80.0, 300.0, 0.3))
# The HIFI fork's formats search as the K-quants do.
HIFI = ((1.5, 15.0, 6.0), (1.0, 15.0, 8.0))


def choose_lanes(work: Iterable[tuple[str, bool, int]]) -> tuple[frozenset[tuple[str, bool]], float]:
    """Which kinds of work go to JAX, and how many seconds everything may take.

    Args:
        work: format's name, whether with importance, weights; once a tensor.
    """
    totals: dict[tuple[str, bool], int] = {}
    for name, weighted, n in work:
        totals[name, weighted] = totals.get((name, weighted), 0) + n
    numpy_seconds, jax_seconds = {}, {}
    compiled = _compiled()
    for (name, weighted), n in totals.items():
        usual = STREAMED if FORMATS[name].dialect == "llama.cpp" else HIFI
        slow, quick, compiling = SPEEDS.get(name, usual)[weighted]
        numpy_seconds[name, weighted] = n / slow / 1e6
        starting = LOAD if _kind(name, weighted) in compiled else compiling
        jax_seconds[name, weighted] = starting + n / quick / 1e6
    better = {key for key in totals if jax_seconds[key] < numpy_seconds[key]}
    gain = sum(numpy_seconds[key] - jax_seconds[key] for key in better)
    if gain < JAX_START or not _jax_is_exact():
        return frozenset(), sum(numpy_seconds.values())
    _note_compiled(compiled | {_kind(*key) for key in better})
    return frozenset(better), JAX_START + sum(
        jax_seconds[key] if key in better else numpy_seconds[key] for key in totals
    )


def encode_rows(name: str, x: np.ndarray, weights: np.ndarray | None, in_jax: bool, **context: Any) -> np.ndarray:
    """f32[rows, n] -> uint8[rows, row bytes], as `hifi_ref.encode`; ``in_jax`` chooses the lane."""
    f = FORMATS[name]
    if not in_jax:
        return hr.encode(name, x, weights, lane="numpy", **context)
    if weights is not None and f.row_scoped:
        # Rows stay whole: filled up to a number of rows that depends on their length alone.
        step = max(1, JAX_PIECE // x.shape[1])
        filled = np.zeros((-(-len(x) // step) * step, x.shape[1]), np.float32)
        filled[: len(x)] = x
        return hr.encode(name, filled, weights, lane="jax", **context)[: len(x)]
    # Blocks know nothing of each other, so they are cut into pieces of one shape, each with its own importance.
    flat = np.zeros(-(-x.size // JAX_PIECE) * JAX_PIECE, np.float32)
    flat[: x.size] = x.reshape(-1)
    pieces = flat.reshape(-1, JAX_PIECE)
    if weights is None:
        blocks = hr.encode(name, pieces, None, lane="jax", **context)
    else:
        tiled = np.zeros(flat.size, np.float32)
        tiled[: x.size].reshape(x.shape)[:] = weights
        own = tiled.reshape(-1, JAX_PIECE)
        parts = [hr.encode(name, x[None], w, lane="jax", **context)[0] for x, w in zip(pieces, own, strict=True)]
        blocks = np.stack(parts)
    return blocks.reshape(-1)[: x.size // f.block_size * f.type_size].reshape(len(x), -1)


def _cache() -> Path:
    """The folder of what JAX compiles, one a version of JAX and kind of processor: code for one may fail on another."""
    from importlib import metadata

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        told = platform.processor()
    kind = hashlib.sha256(f"{platform.machine()} {told}".encode()).hexdigest()[:8]
    root = Path(os.environ.get("HIFI_REF_CACHE", Path.home() / ".cache" / "hifi_ref"))
    return root / f"jax-{metadata.version('jax')}-{kind}"


def _kind(name: str, weighted: bool) -> str:
    return f"{name} with importance" if weighted else name


def _compiled() -> set[str]:
    """What earlier runs have compiled: only their speed is guessed from it."""
    try:
        return set((_cache() / "compiled.txt").read_text().splitlines())
    except (OSError, ValueError, ImportError):
        return set()


def _note_compiled(kinds: set[str]) -> None:
    with contextlib.suppress(OSError):
        _cache().mkdir(parents=True, exist_ok=True)
        write_atomically(_cache() / "compiled.txt", "\n".join(sorted(kinds)) + "\n")


def _jax_is_exact() -> bool:
    """Whether JAX is there and computes exactly; its compiled code is kept from now on."""
    try:
        import jax

        from hifi_ref.lanes import canary
    except ImportError:
        return False
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", os.fspath(_cache()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return jax.default_backend() == "cpu" and canary.is_exact_or_warn(np.zeros(1, np.float32))
