"""The public matrix product: inputs checked, activations encoded, the structure chosen, underflow repaired."""

from __future__ import annotations

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import api, exact
from hifi_ref.formats import FORMATS, Format
from hifi_ref.lanes import checks, numpy_lane

if TYPE_CHECKING:
    from jaxtyping import Array, Float32, UInt8

MODES = ("exact", "fast")
# Below so many products compiling costs more than the definition takes.
WORTH_COMPILING = 1 << 22
# Up to so many columns a CPU is quicker with one matrix-vector product after the other.
FEW_COLUMNS = 6
# Rows a call: what a group's arrays then need fits the second-level cache,
ROWS = 512
# and what a matrix-vector product needs is memory that stays mapped between calls.
ROWS_OF_A_VECTOR = 4096


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
    f = checks.format_offering(name, "dot")
    partner = FORMATS[f.dot_with]
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    w, x = checks.checked_array(w, np.uint8, "w"), checks.checked_array(x, np.float32, "x")
    if w.ndim != 2:
        raise ValueError(f"w must be uint8[rows, row_bytes], not of shape {w.shape}")
    n = checks.row_length(w, f.type_size, f"bytes a {name} block") // f.type_size * f.block_size
    if x.shape[-1] != n:
        raise ValueError(f"a row of w holds {n} weights, but a row of x has {x.shape[-1]} values")
    columns = x if x.ndim == 2 else x.reshape(-1, n)
    if 0 in (*w.shape, *columns.shape):
        return exact.library(w).zeros((*x.shape[:-1], len(w)), np.float32)
    in_jax = exact.is_jax(w) or exact.is_jax(x)
    if in_jax or len(columns) * len(w) * n >= WORTH_COMPILING and _jax_is_exact_or_warn(f, mode):
        result = _in_jax(f, partner, w, columns, mode)
    else:
        a = api.encode(partner.name, columns, lane="numpy")
        result = np.stack([numpy_lane.dot(f, partner, w, column) for column in a])
    if not in_jax:
        result = np.asarray(result)
    return result if x.ndim == 2 else result.reshape(*x.shape[:-1], len(w))


def _jax_is_exact_or_warn(f: Format, mode: str) -> bool:
    """Whether the default back end is exact, and so is the kernel that the product takes there."""
    from hifi_ref.kernels import columns
    from hifi_ref.lanes.canary import is_exact_or_warn, platform_of

    if not is_exact_or_warn(None):
        return False
    why = columns.refusal(f, mode, platform_of(None))
    if why:
        _warn_once(why)
    return not why


@functools.cache
def _warn_once(why: str) -> None:
    warnings.warn(f"{why}, so hifi_ref uses NumPy for it", RuntimeWarning, stacklevel=4)


def _in_jax(f: Format, partner: Format, w: Any, x: Any, mode: str) -> Any:
    from jax import numpy as jnp

    from hifi_ref.kernels import columns
    from hifi_ref.lanes import jax_lane
    from hifi_ref.lanes.canary import require_exact, tracing_anywhere

    platform = require_exact(w if exact.is_jax(w) else x)
    if exact.is_traced(w) or exact.is_traced(x):
        a = api.encode(partner.name, x)
        w, a = jax_lane.opaque(jnp.asarray(w), jnp.asarray(a))
        result = tracing_anywhere(lambda w, a: columns.product(f, partner, w, a, mode, platform), w)(w, a)
        return _repaired_traced(f, partner, w, a, result, mode)

    x, rows = np.asarray(x), len(w)
    checks.check_finite(x, "x")
    multiply, encode_and_multiply = _compiled(f, partner, mode, platform)
    alone = columns.one_by_one(f, platform, len(x)) and _on_one_device(w)
    size = ROWS_OF_A_VECTOR if alone else ROWS

    def product(x: np.ndarray) -> tuple[Any, Any]:
        if platform == "cpu" and rows > size and _on_one_device(w):
            return _in_pieces(multiply, w, api.encode(partner.name, x, lane="jax"), size)
        result, marked, not_encoded = encode_and_multiply(w, x)
        if not np.asarray(not_encoded).any():
            return result, marked
        return multiply(w, api.encode(partner.name, x, lane="numpy"), 0, rows)

    if alone and len(x) > 1:
        # A call for each column: inside one call XLA:CPU would keep a loop over them to one core.
        found = zip(*map(product, np.split(x, len(x))), strict=True)
        result, marked = (np.concatenate(part) for part in found)
    else:
        result, marked = product(x)
    marked = np.asarray(marked)
    if marked.any():
        result = np.array(result)
        for column in np.flatnonzero(marked):
            a = api.encode(partner.name, x[column], lane="numpy")
            result[column] = numpy_lane.dot(f, partner, np.asarray(w), a)
    return result if exact.is_jax(result) else jnp.asarray(result)


def _in_pieces(multiply: Any, w: Any, a: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The product, and which columns are marked, so many rows a call, two calls at a time."""
    import jax

    # The last piece begins within the one before.
    firsts = [min(start, len(w) - size) for start in range(0, len(w), size)]
    parts = list(_two_threads().map(lambda first: jax.block_until_ready(multiply(w, a, first, size)), firsts))
    result = np.empty((len(a), len(w)), np.float32)
    for first, (part, _) in zip(firsts, parts, strict=True):
        result[:, first : first + size] = part
    return result, np.any([marked for _, marked in parts], axis=0)


@functools.cache
def _two_threads() -> ThreadPoolExecutor:
    """Kept, since starting threads takes as long as a tenth of a large product."""
    return ThreadPoolExecutor(2, thread_name_prefix="hifi_ref")


def _on_one_device(w: Any) -> bool:
    return not exact.is_jax(w) or len(w.devices()) == 1


@functools.cache
def _compiled(f: Format, partner: Format, mode: str, platform: str) -> tuple[Any, Any]:
    """The product with blocks, of some rows; and that with floats, which says also whether all are encoded rightly.

    Both say which columns are marked. One call for encoding and multiplying costs less than two.
    """
    import jax

    from hifi_ref.kernels import columns
    from hifi_ref.lanes import jax_lane
    from hifi_ref.lanes.canary import corrections, tracing
    from hifi_ref.lanes.jax_lane import watched

    def multiply(w: Any, a: Any, first: Any, rows: int) -> tuple[Any, Any]:
        if rows < len(w):
            w = jax.lax.dynamic_slice_in_dim(w, first, rows)
        return columns.product(f, partner, w, a, mode, platform), columns.marked(f, partner, w, a)

    def encode_and_multiply(w: Any, x: Any) -> tuple[Any, Any, Any]:
        a, not_encoded = watched.encode(partner, x.reshape(len(x), -1, partner.block_size), None)
        return *multiply(w, a.reshape(len(x), -1), 0, len(w)), not_encoded.any(axis=1)

    def compiled(work: Any, **arguments: Any) -> Any:
        options = jax_lane.CPU_OPTIONS if platform == "cpu" else None
        return jax.jit(tracing(work, corrections(platform), platform), compiler_options=options, **arguments)

    return compiled(multiply, static_argnums=3), compiled(encode_and_multiply)


def _repaired_traced(f: Format, partner: Format, w: Any, a: Any, result: Any, mode: str) -> Any:
    """Part of the caller's computation: the NumPy lane is called back where a column is not clear of underflow."""
    import jax

    from hifi_ref.exact import clean_thread
    from hifi_ref.kernels import columns
    from hifi_ref.lanes.jax_lane import watched

    if not watched.may_multiply_again(f, partner):
        return result
    marked = columns.marked(f, partner, w, a)

    def again(w: Any, a: Any, result: Any, marked: Any) -> np.ndarray:
        result = result.copy()
        for column in np.flatnonzero(marked):
            result[column] = numpy_lane.dot(f, partner, w, a[column])
        return result

    def call(w: Any, a: Any, result: Any, marked: Any) -> Any:
        return clean_thread.call(again, result.shape, result.dtype, w, a, result, marked)

    return jax.lax.cond(marked.any(), call, lambda w, a, result, marked: result, w, a, result, marked)
