"""Products that decode as they go: some rows of the weights at a time, so that no decoded matrix is ever in memory.

    z[i, k] = sum over j of a[i, j] * w[k, j]

Every weight has the bits of ``decode``. Sums are those of the machine's own matrix product, NumPy's BLAS or XLA's dot,
in an order that nobody promises; a system's own product, where it defines one, is ``neighbours.matmul``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.lanes.checks import checked_array
from hifi_ref.lanes.numpy_lane import each
from hifi_ref.neighbours import SCHEMES
from hifi_ref.neighbours.either_lane import run
from hifi_ref.neighbours.pieces import PIECE

if TYPE_CHECKING:
    from jaxtyping import Float32

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Scheme, Stored


def matmul(
    name: str, stored: Stored, shape: tuple[int, int], a: Float32[Array, "*n in"], **parameters: Any
) -> Float32[Array, "*n out"]:
    """Activations times the transposed weights, decoded piece by piece.

    Args:
        name: a key of SCHEMES, of a scheme whose rows know nothing of each other.
        stored: the weights, as encode stores them.
        shape: (out, in), the weights'.
        a: float32 [..., in].
        parameters: as for encode.

    Returns:
        float32 [..., out], of a's library.

    Raises:
        ValueError: as for decode, rows that depend on each other, or rows of a of another length than the weights'.
    """
    if name not in SCHEMES:
        raise ValueError(f"no scheme is called {name!r}; there are {' '.join(SCHEMES)}")
    scheme = SCHEMES[name]
    given = scheme.with_defaults(parameters)
    if len(shape) != 2 or checked_array(a, np.float32, "a").shape[-1:] != (shape[1],):
        raise ValueError(f"a of shape {a.shape} has no product with weights of shape {tuple(shape)}")
    if not scheme.rows_apart(shape[1], **given):
        raise ValueError(f"rows of {shape[1]} weights in {name} are not stored apart: decode them, and multiply")
    arrays = scheme.checked(stored, shape, given)
    rows = rows_a_piece(*shape)
    multiply = _by_xla if exact.is_jax(a) else _by_numpy
    flat = a.reshape(-1, shape[1])
    return multiply(scheme, arrays, shape, flat, rows, given).reshape(*a.shape[:-1], shape[0])


def rows_a_piece(out: int, length: int) -> int:
    """Rows that are decoded at a time: the most that divide all rows and fit a cache."""
    return next(n for n in range(max(1, min(out, PIECE // length)), 0, -1) if out % n == 0)


def _decoded(scheme: Scheme, piece: Any, shape: tuple[int, int], given: dict[str, Any]) -> Float32[Array, "rows in"]:
    shapes = scheme.shapes(shape, **given)
    piece = {name: array.reshape(shapes[name]) for name, array in piece.items()}
    return run(scheme.decode, piece, watching="decode" not in scheme.keeps_faint, shape=shape, **given)


def _by_numpy(scheme: Scheme, arrays: Any, shape: Any, a: Any, rows: int, given: Any) -> Float32[Array, "n out"]:
    by_row = {name: np.asarray(array).reshape(shape[0], -1) for name, array in arrays.items()}
    result = np.empty((len(a), shape[0]), np.float32)

    def part(first: int) -> None:
        piece = {name: array[first : first + rows] for name, array in by_row.items()}
        result[:, first : first + rows] = a @ _decoded(scheme, piece, (rows, shape[1]), given).T

    each(part, range(0, shape[0], rows))
    return result


def _by_xla(scheme: Scheme, arrays: Any, shape: Any, a: Any, rows: int, given: Any) -> Float32[Array, "n out"]:
    import jax

    by_piece = {name: jax.numpy.asarray(array).reshape(shape[0] // rows, -1) for name, array in arrays.items()}

    def part(piece: Any) -> Any:
        decoded = _decoded(scheme, piece, (rows, shape[1]), given)
        return jax.numpy.matmul(decoded, a.T, precision="highest")

    return jax.lax.map(part, by_piece).reshape(shape[0], math.prod(a.shape[:-1])).T
