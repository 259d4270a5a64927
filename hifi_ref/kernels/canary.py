"""Whether a back end's kernels give the defined bits: one small product for each way of adding, against NumPy."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax import numpy as jnp

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.hard_inputs import random_blocks, tame_scales
from hifi_ref.kernels import fields, vec_dot
from hifi_ref.kernels.plans import PLANS

# One format for every order of additions and every width of codes.
FORMATS_TRIED = ("Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "NVFP4", "Q2_K", "Q4_K", "Q6_K", "IQ4_XS", "IQ1_S", "IQ1_M")
ROWS, WEIGHTS = 128, 512


@functools.cache
def failures(backend: str, names: tuple[str, ...] = FORMATS_TRIED) -> tuple[str, ...]:
    """The formats whose kernel is wrong, or does not compile, on a back end of kernels.backends."""
    return tuple(name for name in names if not _agrees(name, backend))


def _agrees(name: str, backend: str) -> bool:
    f = FORMATS[name]
    partner = FORMATS[f.dot_with]
    w, a = operands(name)
    expected = api.dot(name, w, a[0], lane="numpy")

    def product(w, a):
        split = fields.split(f, w.reshape(len(w), -1, f.type_size))
        activations = fields.split_activations(partner.name, a.reshape(len(a), -1, partner.type_size))
        return vec_dot.product(PLANS[name], split, activations, backend)

    def run() -> np.ndarray:
        return np.asarray(jax.jit(product)(jnp.asarray(w), jnp.asarray(a)))[0]

    # A thread of its own, since the caller may be tracing.
    with ThreadPoolExecutor(1) as pool:
        try:
            observed = pool.submit(run).result()
        except (jax.errors.JaxRuntimeError, NotImplementedError):  # a compiler that refuses the kernel
            return False
    return observed.tobytes() == expected.tobytes()


def operands(name: str, rows: int = ROWS, weights: int = WEIGHTS, columns: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks with usual scales, the same each time: w uint8[rows, bytes], a uint8[columns, bytes]."""
    rng = np.random.default_rng(weights + rows)
    f = FORMATS[name]
    w = tame_scales(f, random_blocks(f, rng, rows * weights // f.block_size), rng).reshape(rows, -1)
    if name == "MXFP4":
        # Its scales are powers of two: from 2^-8 to 2^7
        w.reshape(-1, f.type_size)[:, 0] = rng.integers(120, 136, rows * weights // f.block_size)
    a = api.encode(FORMATS[name].dot_with, rng.standard_normal((columns, weights)).astype(np.float32), lane="numpy")
    return w, a
