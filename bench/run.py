"""How fast, next to the C library and gguf-py, as ratios within this one run: `python -m bench.run`.

encode, decode and dot name the JAX lane, or hold their arrays there; again names none, as a caller does who knows
nothing of lanes: NumPy arrays, encoded and decoded again and again, from the third call on.

Absolute figures belong to the machine and the moment; the ratios travel. C runs on two threads, each on half of the
data; the JAX lane uses the same two cores. Every time is the best of several.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Callable

import gguf.quants
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import hifi_ref as hr
from bench import clock
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.formats.hard_inputs import usual_blocks
from hifi_ref.lanes.checks import partner_of
from reference import release

_OPERATIONS = flags.DEFINE_list("operations", ["encode", "decode", "dot"], "Those, or again.")
_FORMATS = flags.DEFINE_list("formats", [], "Formats; default: all that the operation's figure speaks of.")
_REPEAT = flags.DEFINE_integer("repeat", 5, "The best of so many runs counts.")

NOT_IN_GGUF_PY = ("Q1_0", "Q2_0")
K_FORMATS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
ENCODE_SHAPE = (2048, 4096)
DECODE_WEIGHTS = 1 << 24
DOT_SHAPE = (4096, 4096)
IQ_FORMATS = tuple(name for name in LLAMA_CPP if name.startswith("IQ"))
AGAIN_SHAPES = ((512, 4096), (1024, 4096))
AGAIN_DECODED = (8192, 4096)


def best(run: Callable[[], object]) -> float:
    return clock.best(run, _REPEAT.value)


def in_two_threads(work: Callable[..., object], *data: np.ndarray) -> Callable[[], None]:
    """work on the first half of each array, and at the same time on the second."""
    halves = [x[: len(x) // 2] for x in data], [x[len(x) // 2 :] for x in data]

    def run() -> None:
        threads = [threading.Thread(target=work, args=half) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def encode() -> None:
    """JAX lane, NumPy in and NumPy out, against ggml_quantize_chunk."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(ENCODE_SHAPE) * 0.02).astype(np.float32)
    importance = np.exp(rng.standard_normal(ENCODE_SHAPE[1])).astype(np.float32)
    rows = []
    for name in _FORMATS.value or K_FORMATS:
        for label, weights in (("", None), (" with importance", importance)):
            if weights is None and hr.FORMATS[name].requires_weights:
                continue
            fast = best(functools.partial(hr.encode, name, x, weights, lane="jax"))
            part = x[: len(x) // 4]
            c = 4 * best(in_two_threads(functools.partial(_release_encode, name, weights), part))
            rows.append((name + label, x.size / fast, x.size / c))
    _table("encode", "JAX lane", "C, 2 threads", rows)


def decode() -> None:
    """JAX lane into a donated buffer against dequantize_row_*; NumPy in and out against gguf-py."""
    rng = np.random.default_rng(0)
    rows, numpy_rows = [], []
    for name in _FORMATS.value or [n for n in LLAMA_CPP if n not in ("F32", "Q8_1", "Q8_K")]:
        f = hr.FORMATS[name]
        n = DECODE_WEIGHTS // f.block_size // 2 * 2
        blocks = rng.integers(0, 256, (n, f.type_size), dtype=np.uint8)
        on_device = jnp.asarray(blocks)
        out = [jnp.zeros((n, f.block_size), np.float32)]

        def fast(name=name, on_device=on_device, out=out) -> None:
            out[0] = jax.block_until_ready(hr.decode(name, on_device, lane="jax", out=out[0]))

        jax_time = best(fast)
        results = np.empty((n, f.block_size), np.float32)
        c_time = best(in_two_threads(functools.partial(release.decode, name), blocks, results))
        rows.append((name, blocks.shape[0] * f.block_size / jax_time, n * f.block_size / c_time))
        part = blocks[: n // 8]
        target = np.empty((len(part), f.block_size), np.float32)
        ours = best(functools.partial(hr.decode, name, part, out=target))
        try:
            theirs = best(functools.partial(gguf.quants.dequantize, part, gguf.GGMLQuantizationType[name]))
        except (KeyError, NotImplementedError):
            print(f"gguf-py has no decoder for {name}")
            continue
        numpy_rows.append((name, target.size / ours, target.size / theirs))
    _table("decode", "JAX lane", "C, 2 threads", rows)
    _table("decode, NumPy to NumPy", "hifi_ref", "gguf-py", numpy_rows)


def dot() -> None:
    """Matrix times vector on device arrays against ggml_vec_dot_*_generic row by row."""
    rng = np.random.default_rng(0)
    rows = []
    for name in _FORMATS.value or [n for n, f in LLAMA_CPP.items() if f.dot and n != "F32"]:
        f = hr.FORMATS[name]
        some = rng.standard_normal((64, DOT_SHAPE[1])).astype(np.float32)
        importance = np.ones(DOT_SHAPE[1], np.float32) if f.requires_weights else None
        w = np.tile(release.encode(name, some, importance), (DOT_SHAPE[0] // 64, 1))
        a = release.encode(partner_of(f).name, rng.standard_normal((1, DOT_SHAPE[1])).astype(np.float32)).reshape(-1)
        wd, ad = jnp.asarray(w), jnp.asarray(a)
        fast = best(functools.partial(_dot_done, name, wd, ad))
        # Long rows, so that the time is the kernel's and not that of calling it from Python.
        long_w, long_a = w.reshape(DOT_SHAPE[0] // 64, -1), np.tile(a, 64)
        c = best(in_two_threads(functools.partial(_release_dot, name, long_a), long_w))
        size = DOT_SHAPE[0] * DOT_SHAPE[1]
        rows.append((name, size / fast, size / c))
    _table("dot, 4096 x 4096", "JAX lane", "C generic, 2 threads", rows)


def again() -> None:
    """No lane named: encoding against C on two threads, decoding against gguf-py, from the third call on."""
    rng = np.random.default_rng(0)
    for group, names in (("K formats", K_FORMATS), ("IQ formats", IQ_FORMATS)):
        rows = []
        for name in [name for name in names if name in (_FORMATS.value or names)]:
            for shape, weighted in itertools.product(AGAIN_SHAPES, (False, True)):
                if not weighted and hr.FORMATS[name].requires_weights:
                    continue
                x = (rng.standard_normal(shape) * 0.02).astype(np.float32)
                weights = np.exp(rng.standard_normal(shape[1])).astype(np.float32) if weighted else None
                ours = third(functools.partial(hr.encode, name, x, weights))
                part = x[: len(x) // 8]
                c = 8 * best(in_two_threads(functools.partial(_release_encode, name, weights), part))
                label = f"{name}, {x.size >> 20} M{' with importance' if weighted else ''}"
                rows.append((label, x.size / ours, x.size / c))
        _table(f"encode again, {group}", "hifi_ref", "C, 2 threads", rows)
    rows = []
    for name in _FORMATS.value or [n for n in LLAMA_CPP if n not in (*NOT_IN_GGUF_PY, "F32", "Q8_1", "Q8_K")]:
        f = hr.FORMATS[name]
        shape = AGAIN_DECODED[0], AGAIN_DECODED[1] // f.block_size * f.type_size
        blocks = np.tile(usual_blocks(f, rng, AGAIN_DECODED[1] // f.block_size).reshape(1, -1), (shape[0], 1))
        theirs = best(functools.partial(gguf.quants.dequantize, blocks, gguf.GGMLQuantizationType[name]))
        size = AGAIN_DECODED[0] * AGAIN_DECODED[1]
        rows.append((name, size / third(functools.partial(hr.decode, name, blocks)), size / theirs))
    _table("decode again, 32 M", "hifi_ref", "gguf-py", rows)


def third(run: Callable[[], object]) -> float:
    """Seconds of the fastest call from the third on."""
    run()
    return best(run)


def _release_encode(name: str, weights: np.ndarray | None, half: np.ndarray) -> None:
    release.encode(name, half, weights)


def _release_dot(name: str, a: np.ndarray, half: np.ndarray) -> None:
    release.dot(name, half, a)


def _dot_done(name: str, w: jax.Array, a: jax.Array) -> None:
    jax.block_until_ready(hr.dot(name, w, a))


def _table(title: str, ours: str, theirs: str, rows: list[tuple[str, float, float]]) -> None:
    """Millions of weights a second, and the ratio; the last line is the geometric mean."""
    if not rows:
        return
    print(f"\n{title}: millions of weights a second\n{'':24}{ours:>12}{theirs:>22}{'ratio':>8}")
    for name, a, b in rows:
        print(f"{name:24}{a / 1e6:12.0f}{b / 1e6:22.0f}{a / b:8.2f}")
    mean = math.exp(sum(math.log(a / b) for _, a, b in rows) / len(rows))
    print(f"{'geometric mean':58}{mean:8.2f}", flush=True)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]}")
    for operation in _OPERATIONS.value:
        {"encode": encode, "decode": decode, "dot": dot, "again": again}[operation]()


if __name__ == "__main__":
    app.run(main)
