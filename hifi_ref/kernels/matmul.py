"""The public matrix product. A product passes through at most eight rooms, in this order:

1. matmul.py     inputs checked; NumPy, compiled, or a part of what the caller compiles
2. compiled.py   the four steps: encode the activations, choose a structure, multiply, repair
3. columns.py    which structure takes the product: one dot after the other, a GEMM, or a kernel
4. split.py      both operands' fields apart, as fields.py and slots.py say for each format
5. unpack.py     packed codes to whole numbers
6. gemm.py       whole sums; or in vec_dot.py, a kernel; or none, in places.py
7. order.py      whole sums to float32, added in the order that the format defines
8. repair.py     columns that may have met a subnormal number, multiplied again by NumPy

plans.py names, for each format, what rooms 4 to 7 do with it.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import api, exact
from hifi_ref.formats import Format
from hifi_ref.lanes import checks, choose, numpy_lane

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array

MODES = ("exact", "fast")


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
    f, partner, columns = _checked(name, w, x, mode)
    in_jax = exact.is_jax(w) or exact.is_jax(x)
    if 0 in (*w.shape, *columns.shape):
        return exact.library(w).zeros((*x.shape[:-1], len(w)), np.float32)
    if exact.is_traced(w) or exact.is_traced(x):
        from hifi_ref.kernels import compiled

        result = compiled.product_inside(f, partner, w, columns, mode)
    elif in_jax or _in_jax_too(f, w, columns, mode):
        from hifi_ref.kernels import compiled

        result = compiled.product(f, partner, w, columns, mode)
    else:
        a = api.encode(partner.name, np.asarray(columns), lane="numpy")
        result = np.stack([numpy_lane.dot(f, partner, np.asarray(w), column) for column in a])
    if not in_jax:
        result = np.asarray(result)
    return result if x.ndim == 2 else result.reshape(*x.shape[:-1], len(w))


def _checked(name: str, w: Array, x: Array, mode: str) -> tuple[Format, Format, Array]:
    """The formats of w and of the activations, and x as float32[batch, n]; or raises as matmul says."""
    f = checks.format_offering(name, "dot")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    checks.checked_array(w, np.uint8, "w")
    checks.checked_array(x, np.float32, "x")
    if w.ndim != 2:
        raise ValueError(f"w must be uint8[rows, row_bytes], not of shape {w.shape}")
    n = checks.row_length(w, f.type_size, f"bytes a {name} block") // f.type_size * f.block_size
    if x.shape[-1] != n:
        raise ValueError(f"a row of w holds {n} weights, but a row of x has {x.shape[-1]} values")
    if not exact.is_traced(x):
        checks.check_finite(np.asarray(x), "x")
    return f, checks.partner_of(f), x if x.ndim == 2 else x.reshape(-1, n)


def _in_jax_too(f: Format, w: Array, columns: Array, mode: str) -> bool:
    """Whether NumPy arrays are multiplied by JAX: it is quicker, and exact, and so is its kernel."""
    kind = choose.Kind("matmul", f.name, shape=(*w.shape, len(columns), mode))
    if choose.lane(kind, columns.size * len(w)) == "numpy":
        return False
    from hifi_ref.kernels.columns import refusal
    from hifi_ref.lanes.canary import is_exact_or_warn, platform_of

    platform = platform_of(None)
    if not is_exact_or_warn(platform):
        return False
    why = refusal(f, mode, platform)
    if why:
        _warn_once(why)
    return not why


@functools.cache
def _warn_once(why: str) -> None:
    warnings.warn(f"{why}, so hifi_ref uses NumPy for it", RuntimeWarning, stacklevel=4)
