"""Whether a back end's kernels give the defined bits: one small product of a format, before its first use there.

Every format is judged by itself: a kernel that is wrong, or that a compiler refuses, takes nothing from the others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax import numpy as jnp

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.formats.hard_inputs import same_floats, usual_blocks
from hifi_ref.kernels import backends, split, vec_dot
from hifi_ref.kernels.plans import PLANS
from hifi_ref.lanes.canary import corrections, tracing
from hifi_ref.lanes.checks import partner_of

# Two tiles of rows, the second one short, by two columns: four programs. Two groups each.
MORE_ROWS, COLUMNS, WEIGHTS = 8, 2, 512


def failures(backend: str, names: Iterable[str]) -> tuple[str, ...]:
    """The formats whose kernel is wrong, or does not compile, on a back end of kernels.backends."""
    return tuple(name for name in names if not is_exact(name, backend))


@functools.cache
def is_exact(name: str, backend: str) -> bool:
    """Whether a format's kernel has NumPy's bits on a back end of kernels.backends."""
    w, a = operands(name, backends.TILE[backend] + MORE_ROWS, WEIGHTS, COLUMNS)
    expected = np.stack([api.dot(name, w, column, lane="numpy") for column in a])
    # A thread of its own, since the caller may be tracing.
    with ThreadPoolExecutor(1) as pool:
        observed = pool.submit(_observed, name, backend, w, a).result()
    return observed is not None and bool(same_floats(observed, expected).all())


def _observed(name: str, backend: str, w: np.ndarray, a: np.ndarray) -> np.ndarray | None:
    """float32[columns, rows]; None where a compiler refuses the kernel."""
    f = FORMATS[name]
    partner = partner_of(f)
    device = jax.local_devices(backend=backends.RUNS_ON[backend])[0]

    def product(w, a):
        weights = split.matrix(f, w.reshape(len(w), -1, f.type_size))
        activations = split.activations(partner.name, a.reshape(len(a), -1, partner.type_size))
        return vec_dot.product(PLANS[name], weights, activations, backend)

    with jax.default_device(device):
        work = tracing(product, corrections(device.platform), device.platform)
        traced = jax.jit(work).trace(jnp.asarray(w), jnp.asarray(a))
        try:
            return np.asarray(traced.lower().compile()(w, a))
        except Exception:  # each compiler has its own
            return None


def operands(name: str, rows: int, weights: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks with usual scales, the same each time: w uint8[rows, bytes], a uint8[columns, bytes]."""
    rng = np.random.default_rng(weights + rows)
    f = FORMATS[name]
    w = usual_blocks(f, rng, rows * weights // f.block_size).reshape(rows, -1)
    a = api.encode(partner_of(f).name, rng.standard_normal((columns, weights)).astype(np.float32), lane="numpy")
    return w, a
