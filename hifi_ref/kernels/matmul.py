"""The public matrix product: inputs checked, activations encoded, the structure chosen, underflow repaired."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import api, exact, numpy_lane
from hifi_ref.formats import FORMATS, Format

if TYPE_CHECKING:
    from jaxtyping import Array, Float32, UInt8

MODES = ("exact", "fast")
# Below so many products compiling costs more than the definition takes.
WORTH_COMPILING = 1 << 22
# Up to so many columns a CPU is quicker with one matrix-vector product after the other.
FEW_COLUMNS = 6
# Rows a call: what a group's arrays then need fits the second-level cache.
CHUNK = 1024


def matmul(name: str, w: UInt8[Array, "rows row_bytes"], x: Float32[Array, "*n in"], mode: str = "exact"
           ) -> Float32[Array, "*n rows"]:  # fmt: skip
    """Quantized matrix times float activations, as llama.cpp multiplies them: x is encoded, then blocks meet blocks.

    Args:
        name: a key of FORMATS, the format of w.
        w: uint8[rows, row_bytes].
        x: float32[..., n], finite, n the number of weights in a row of w. Encoded to FORMATS[name].dot_with.
        mode: "exact", the bits of ggml_vec_dot_*_generic on every column, which are those of ``dot``; or "fast", the
            same exact sums over sub-blocks, added in any order, so that the result lies within dot_exact's bound.

    Returns:
        float32[..., rows], of w's array library. With jax arrays it may stand inside jax.jit, and a w whose rows are
        split over devices gives the same bits as on one.

    Raises:
        ValueError: an unknown name or mode, a wrong dtype or shape, a value of x that is not finite.
        NotImplementedError: the format has no dot product.
        RuntimeError: jax arrays on a back end that does not compute as IEEE-754 asks.
    """
    f = api.format_offering(name, "dot")
    partner = FORMATS[f.dot_with]
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    w, x = api.checked_array(w, np.uint8, "w"), api.checked_array(x, np.float32, "x")
    if w.ndim != 2:
        raise ValueError(f"w must be uint8[rows, row_bytes], not of shape {w.shape}")
    n = api.row_length(w, f.type_size, f"bytes a {name} block") // f.type_size * f.block_size
    if x.shape[-1] != n:
        raise ValueError(f"a row of w holds {n} weights, but a row of x has {x.shape[-1]} values")
    columns = x if x.ndim == 2 else x.reshape(-1, n)
    if 0 in (*w.shape, *columns.shape):
        return exact.library(w).zeros((*x.shape[:-1], len(w)), np.float32)
    in_jax = exact.is_jax(w) or exact.is_jax(x)
    if in_jax or len(columns) * len(w) * n >= WORTH_COMPILING and _jax_is_exact():
        result = _in_jax(f, partner, w, columns, mode)
    else:
        a = api.encode(partner.name, columns, lane="numpy")
        result = np.stack([numpy_lane.dot(f, partner, w, column) for column in a])
    if not in_jax:
        result = np.asarray(result)
    return result if x.ndim == 2 else result.reshape(*x.shape[:-1], len(w))


def _jax_is_exact() -> bool:
    from hifi_ref.canary import is_exact_or_warn

    return is_exact_or_warn(None)


def _in_jax(f: Format, partner: Format, w: Any, x: Any, mode: str) -> Any:
    import jax
    from jax import numpy as jnp

    from hifi_ref import jax_lane
    from hifi_ref.canary import require_exact
    from hifi_ref.kernels import columns

    platform = require_exact(w if exact.is_jax(w) else x)
    if exact.is_traced(w) or exact.is_traced(x):
        a = api.encode(partner.name, x)
        w, a = jax_lane.opaque(jnp.asarray(w), jnp.asarray(a))
        return _repaired_traced(f, partner, w, a, columns.product(f, partner, w, a, mode, platform), mode)

    # Activations are few: what a compiled encoder gains is less than the way into it costs.
    a = api.encode(partner.name, np.asarray(x), lane="numpy" if x.size < WORTH_COMPILING else "auto")
    run = _compiled(f, partner, mode, platform)
    rows = len(w)
    if len(a) > FEW_COLUMNS and rows > CHUNK and rows % CHUNK == 0 and platform == "cpu" and _on_one_device(w):

        def call(i: int) -> Any:
            return jax.block_until_ready(run(w, a, i, CHUNK))

        with ThreadPoolExecutor(2) as pool:
            parts = list(pool.map(call, range(0, rows, CHUNK)))
        result = np.concatenate([np.asarray(part) for part, _ in parts], axis=1)
        clear = np.all([np.asarray(more) for _, more in parts], axis=0)
    else:
        result, clear = run(w, a, 0, rows)
        clear = np.asarray(clear)
    if not clear.all():
        result = np.array(result)
        for column in np.flatnonzero(~clear):
            result[column] = numpy_lane.dot(f, partner, np.asarray(w), np.asarray(a)[column])
    return result if exact.is_jax(result) else jnp.asarray(result)


def _on_one_device(w: Any) -> bool:
    return not exact.is_jax(w) or len(w.devices()) == 1


@functools.cache
def _compiled(f: Format, partner: Format, mode: str, platform: str) -> Any:
    import jax

    from hifi_ref import jax_lane
    from hifi_ref.kernels import columns

    def run(w: Any, a: Any, first: Any, rows: int) -> tuple[Any, Any]:
        if rows < len(w):
            w = jax.lax.dynamic_slice_in_dim(w, first, rows)
        return columns.product(f, partner, w, a, mode, platform), columns.clear(f, partner, w, a)

    options = jax_lane.CPU_OPTIONS if platform == "cpu" else None
    return jax.jit(run, static_argnums=3, compiler_options=options)


def _repaired_traced(f: Format, partner: Format, w: Any, a: Any, result: Any, mode: str) -> Any:
    """Part of the caller's computation: the NumPy lane is called back where a column is not clear of underflow."""
    import jax

    from hifi_ref import jax_lane
    from hifi_ref.kernels import columns

    if f.dot_clear is None:
        return result
    clean = jax_lane.start_clean_thread()
    clear = columns.clear(f, partner, w, a)

    def again(w: Any, a: Any, result: Any, clear: Any) -> np.ndarray:
        w, a, result = np.asarray(w), np.asarray(a), np.array(result)
        for column in np.flatnonzero(~np.asarray(clear)):
            result[column] = clean.submit(numpy_lane.dot, f, partner, w, a[column]).result()
        return result

    def call(w: Any, a: Any, result: Any, clear: Any) -> Any:
        return jax.pure_callback(again, jax.ShapeDtypeStruct(result.shape, result.dtype), w, a, result, clear)

    return jax.lax.cond(clear.all(), lambda w, a, result, clear: result, call, w, a, result, clear)
