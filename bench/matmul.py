"""Matrix products on quantized blocks, as ratios within this one run: `python -m bench.matmul`.

For each format, a 4096 x 4096 matrix times one activation vector and times a batch: hr.matmul (activations encoded on
the way) against gguf-py's dequantize with NumPy's product, and, for the vector, the release's own AVX-512 kernel on two
threads. Times are the best of several.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Callable

import gguf.quants
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import hifi_ref as hr
from bench.run import best, in_two_threads
from hifi_ref.lanes.checks import partner_of
from reference import release

_MATRICES = flags.DEFINE_list("matrices", ["Q4_K", "Q6_K", "Q8_0", "IQ4_XS"], "Formats of the matrix.")
_BATCH = flags.DEFINE_integer("batch", 32, "Columns.")
_VARIANT = flags.DEFINE_string("variant", "zen4", "Which of the release's CPU libraries.")

ROWS, N = 4096, 4096


def main(argv: list[str]) -> None:
    del argv
    rng = np.random.default_rng(0)
    x = rng.standard_normal((_BATCH.value, N)).astype(np.float32)
    print(f"{'millions of products/s':24} exact     fast  gguf-py  release | exact/gguf-py  exact/release")
    for name in _MATRICES.value:
        f = hr.FORMATS[name]
        some = hr.encode(name, (rng.standard_normal((64, N)) * 0.02).astype(np.float32))
        w = np.tile(some, (ROWS // 64, 1))
        a = hr.encode(partner_of(f).name, x)
        on_device = jnp.asarray(w)
        for columns in (1, _BATCH.value):
            part = jnp.asarray(x[:columns])
            times = [best(functools.partial(_product, name, on_device, part, mode)) for mode in ("exact", "fast")]
            times.append(best(functools.partial(_product_of_gguf_py, name, w, x[:columns])))
            if columns == 1:
                times.append(best(c_kernel(name, w, a[0])))
            line = [ROWS * N * columns / t / 1e6 for t in times]
            print(f"{name:8} {columns:3} columns    " + "".join(f"{v:9.0f}" for v in line).ljust(36), end="")
            print(f" | {line[0] / line[2]:13.2f}" + (f"{line[0] / line[3]:15.2f}" if columns == 1 else ""), flush=True)


LOOP = """
typedef void dot(int, float *, unsigned long, const void *, unsigned long, const void *, unsigned long, int);
void rows(dot *f, int n, long count, float *out, const char *w, long row_bytes, const void *a) {
    for (long i = 0; i < count; i++) f(n, out + i, 0, w + i * row_bytes, 0, a, 0, 1);
}
"""


@functools.cache
def _loop() -> ctypes.CDLL:
    """The loop over rows in C, since a call from Python takes longer than a row."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", f"{folder}/loop.so"]
        subprocess.run(command, input=LOOP.encode(), check=True)
        return ctypes.CDLL(f"{folder}/loop.so")


def _product(name: str, w: jax.Array, x: jax.Array, mode: str) -> None:
    jax.block_until_ready(hr.matmul(name, w, x, mode))


def _product_of_gguf_py(name: str, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    return gguf.quants.dequantize(w, gguf.GGMLQuantizationType[name]) @ x.T


def c_kernel(name: str, w: np.ndarray, a: np.ndarray) -> Callable[[], None]:
    """The release's kernel over all rows, on two threads."""
    f = hr.FORMATS[name]
    function = getattr(release.cpu(_VARIANT.value), f"ggml_vec_dot_{_c_name(name)}_{_c_name(partner_of(f).name)}")
    loop = _loop().rows

    def half(out: np.ndarray, w: np.ndarray) -> None:
        out_at, w_at, a_at = (ctypes.c_void_p(x.ctypes.data) for x in (out, w, a))
        loop(function, N, ctypes.c_long(len(w)), out_at, w_at, ctypes.c_long(w.shape[1]), a_at)

    return in_two_threads(half, np.zeros(len(w), np.float32), w)


def _c_name(name: str) -> str:
    return name.lower().replace("_k", "_K")


if __name__ == "__main__":
    app.run(main)
