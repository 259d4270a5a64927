"""Matrix products in eight bits with activations that are quantized on the fly, a row at a time.

    q[j]    = round(x[j] * (127 / largest))       largest = max |x|, halves to even; a row of zeros has codes 0
    z[i, k] = sum(q_x[i] * q_w[k]) * ((largest_x[i] / 127) * (largest_w[k] / 127))

Weights are stored so once, activations at each product. Sums are whole numbers, exact in any order; one float scale
follows them. It is the product that web-rwkv's fork plans, and LLM.int8's (llm_int8.py) without its third rounding, its
threshold and its constant.

NumPy and XLA's CPU sum by float32 GEMMs over pieces that stay below 2^24; the Pallas kernel multiplies bytes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.lanes.checks import check_finite, checked_array
from hifi_ref.neighbours.either_lane import run
from hifi_ref.neighbours.int_sums import int_matmul

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8

    from hifi_ref.exact import Array

# Rows of x, rows of w and columns that a program of the kernel takes at a time.
TILE = (32, 128, 128)


def quantize_rows(x: Float32[Array, "rows row"]) -> tuple[Int8[Array, "rows row"], Float32[Array, "rows"]]:
    """Codes, and the largest magnitude of each row. ValueError where x is not finite float32 of two axes."""
    if checked_array(x, np.float32, "x").ndim != 2:
        raise ValueError(f"x must have two axes, not shape {x.shape}")
    check_finite(x, "x")
    return run(_quantize, x)


def _quantize(x: Float32[Array, "rows row"]) -> tuple[Int8[Array, "rows row"], Float32[Array, "rows"]]:
    lib = exact.library(x)
    largest = lib.abs(x).max(axis=1)
    scale = lib.where(
        largest > 0, exact.div(np.float32(127), lib.where(largest > 0, largest, np.float32(1))), np.float32(0)
    )
    # Of a subnormal row the scale is infinite
    codes = lib.clip(lib.round(exact.product(x, scale[:, None])), -127, 127)
    return lib.where(codes == codes, codes, np.float32(0)).astype(np.int8), largest


def matmul(
    codes: Int8[Array, "out row"],
    largest: Float32[Array, "out"],
    x: Float32[Array, "*n row"],
    backend: str | None = None,
) -> Float32[Array, "*n out"]:
    """x times the transposed weights, x quantized on the fly.

    Args:
        codes, largest: the weights, as quantize_rows stores them.
        x: float32[..., row], finite.
        backend: None for GEMMs; or the kernel, jax arrays only: "interpret", "triton", "tpu" (see kernels/backends.py).

    Returns:
        float32[..., out], of x's library; the same bits whichever way.

    Raises:
        ValueError: x is not finite float32, or its rows have another length.
    """
    if checked_array(x, np.float32, "x").shape[-1] != codes.shape[1]:
        raise ValueError(f"a row of x has {x.shape[-1]} values, but one of the weights {codes.shape[1]}")
    check_finite(x, "x")
    result = run(_multiply, codes, largest, x.reshape(-1, x.shape[-1]), backend=backend)
    return result.reshape(*x.shape[:-1], len(codes))


def _multiply(codes: Any, largest: Any, x: Any, backend: str | None) -> Float32[Array, "n out"]:
    ours, largest_of_x = _quantize(x)
    of_x, of_w = (exact.div(each, np.float32(127)) for each in (largest_of_x, largest))
    scale = exact.mul(of_x[:, None], of_w[None])
    if backend is None or not exact.is_jax(x):
        sums = int_matmul(ours, codes)
        return exact.mul(exact.f32(sums), scale)
    return _by_kernel(ours, codes, scale, backend)


def _by_kernel(a: Any, w: Any, scale: Any, backend: str) -> Float32[Array, "n out"]:
    """Programs of TILE: sums of bytes in int32 over pieces of the row, and the scale."""
    import jax
    from jax.experimental import pallas as pl

    from hifi_ref.kernels import backends

    jnp, rows, out = exact.library(a), len(a), len(w)
    a, w, scale = (
        jnp.pad(each, [(0, -n % unit) for n, unit in zip(each.shape, units, strict=True)])
        for each, units in ((a, TILE[::2]), (w, TILE[1:]), (scale, TILE[:2]))
    )
    call = backends.call(
        functools.partial(_kernel, pieces=a.shape[1] // TILE[2]),
        backend,
        grid=(w.shape[0] // TILE[1], a.shape[0] // TILE[0]),
        in_specs=[
            pl.BlockSpec((TILE[0], a.shape[1]), lambda i, j: (j, 0)),
            pl.BlockSpec((TILE[1], w.shape[1]), lambda i, j: (i, 0)),
            pl.BlockSpec(TILE[:2], lambda i, j: (j, i)),
        ],
        out_specs=pl.BlockSpec(TILE[:2], lambda i, j: (j, i)),
        out_shape=jax.ShapeDtypeStruct((a.shape[0], w.shape[0]), np.float32),
    )
    return call(a, w, scale)[:rows, :out]


def _kernel(a_ref: Any, w_ref: Any, scale_ref: Any, out_ref: Any, pieces: int) -> None:
    from jax import lax
    from jax.experimental import pallas as pl

    def add(i: Any, total: Any) -> Any:
        at = pl.ds(i * TILE[2], TILE[2])
        contract = (((1,), (1,)), ((), ()))
        return total + lax.dot_general(a_ref[:, at], w_ref[:, at], contract, preferred_element_type=np.int32)

    zeros = exact.library(scale_ref[:]).zeros(TILE[:2], np.int32)
    out_ref[:, :] = lax.fori_loop(0, pieces, add, zeros).astype(np.float32) * scale_ref[:, :]
