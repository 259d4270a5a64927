"""A table of sixteen levels, looked up in three ways: `python -m bench.lookups`.

Prints millions of weights a second on this machine, NumPy and XLA, and of what the ways consist when they are lowered
for CUDA and TPU, whose compilers go on from there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import jax
import numpy as np
from absl import app

from bench import clock
from hifi_ref.neighbours import lookups
from hifi_ref.neighbours.bitsandbytes import NF4

CODES = np.random.default_rng(0).integers(0, 16, 1 << 23, np.uint8)
WAYS = (lookups.gather, lookups.select_tree, lookups.vectors)


def speed(work: Callable[[], object]) -> float:
    """Millions of weights a second, the best of seven."""
    return CODES.size / clock.best(work, 7) / 1e6


def counted(text: str) -> Counter[str]:
    """Instructions of a program, those of functions as often as they are called."""
    bodies = {name: body for name, body in re.findall(r"func\.func \w+ @(\w+)\((.*?)\n  }", text, re.S)}

    def within(name: str) -> Counter[str]:
        found = Counter(re.findall(r"(?<!#)stablehlo\.(gather|select|compare)\b", bodies[name]))
        for called in re.findall(r"call @(\w+)\(", bodies[name]):
            found += within(called)
        return found

    return within("main")


def main(_: list[str]) -> None:
    print("| way | NumPy, Mw/s | XLA on this CPU, Mw/s | lowered for CUDA and TPU |\n|---|---|---|---|")
    on_device = jax.device_put(CODES)
    for way in WAYS:
        compiled = jax.jit(lambda code, way=way: way(NF4, code))
        assert np.array_equal(np.asarray(compiled(on_device)), NF4[CODES])
        found = counted(compiled.trace(on_device).lower(lowering_platforms=("cuda", "tpu")).as_text())
        numpy = speed(lambda way=way: way(NF4, CODES[: 1 << 20])) / (CODES.size >> 20)
        xla = speed(lambda compiled=compiled: compiled(on_device).block_until_ready())
        lowered = ", ".join(f"{n} {name}" for name, n in sorted(found.items()))
        print(f"| {way.__name__.replace('_', ' ')} | {numpy:.0f} | {xla:.0f} | {lowered} |", flush=True)


if __name__ == "__main__":
    app.run(main)
