"""The one place that names the compiler of a kernel, since what None stands for has changed between versions of jax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.experimental import pallas as pl

# Rows a program. A vector unit of a TPU takes 8 x 128 numbers at once; a GPU's block of 4 warps holds 32 x 128.
TILE = {"interpret": 128, "tpu interpret": 128, "tpu": 512, "triton": 128}
OF_PLATFORM = {"cpu": "interpret", "tpu": "tpu", "gpu": "triton", "cuda": "triton"}
# What each runs on, and the one that is left out, with the reason.
RUNS_ON = {"interpret": "cpu", "tpu interpret": "cpu", "tpu": "tpu", "triton": "gpu"}
NOT_OFFERED = {"mosaic gpu": "no sums over an axis, fused multiply-adds, no pallas_call in jax 0.11"}


def call(kernel: Callable, backend: str, **arguments: Any) -> Callable:
    """pallas_call for "triton" (NVIDIA), "tpu" (Mosaic), "interpret", or "tpu interpret", which looks for races.

    It shares programs out to two cores, since it finds races between cores only, and prints RACE DETECTED.
    """
    if backend == "interpret":
        return pl.pallas_call(kernel, interpret=True, **arguments)
    if backend == "triton":
        from jax.experimental.pallas import triton

        return pl.pallas_call(kernel, compiler_params=triton.CompilerParams(num_warps=4), **arguments)
    if backend not in ("tpu", "tpu interpret"):
        raise ValueError(f"no back end for kernels is called {backend!r}; there are {', '.join(TILE)}")
    from jax.experimental.pallas import tpu

    parallel = tpu.CompilerParams(dimension_semantics=[tpu.PARALLEL] * len(arguments["grid"]))
    races = tpu.InterpretParams(detect_races=True, num_cores_or_threads=2)
    interpret = races if backend == "tpu interpret" else False
    return pl.pallas_call(kernel, compiler_params=parallel, interpret=interpret, **arguments)
