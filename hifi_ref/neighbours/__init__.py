"""The formats of the systems that llama.cpp's users convert from and to, one file a system, bit for bit.

>>> import numpy as np
>>> from hifi_ref import neighbours as nb
>>> x = np.linspace(-1, 1, 256, dtype=np.float32).reshape(2, 128)
>>> stored = nb.encode("bitsandbytes.nf4", x, block_size=64)
>>> {name: (array.dtype.name, array.shape) for name, array in stored.items()}
{'codes': ('uint8', (128, 1)), 'absmax': ('float32', (4,))}
>>> nb.decode("bitsandbytes.nf4", stored, shape=x.shape, block_size=64).shape
(2, 128)
>>> nb.SCHEMES["bitsandbytes.nf4"].bits_per_weight(block_size=64)
4.5

NumPy arrays in, NumPy out; jax arrays in, jax out, inside ``jax.jit`` too, with the same bits (see either_lane.py).

A system's file ends in a tuple ``SCHEMES`` of ``Scheme``s (scheme.py), and stands in ``_SYSTEMS`` below. Its functions
are plain array code over either library, in the arithmetic of ``hifi_ref.exact``: ``encode(x, **parameters)`` with x
in float32, whatever it came in; ``decode(stored, shape, **parameters)`` and ``matmul(stored, a, **parameters)`` with
the stored arrays in the shapes that the scheme's ``shapes`` names. All parameters arrive, by keyword.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.lanes.checks import check_finite
from hifi_ref.neighbours import (
    awq,
    bitsandbytes,
    bitsandbytes_8bit,
    compressed_tensors,
    fp8,
    gptq,
    hqq,
    hyper,
    llm_int8,
    mlx_affine,
    mx,
    nvfp4,
    pieces,
    web_rwkv,
)
from hifi_ref.neighbours.either_lane import run
from hifi_ref.neighbours.half import narrow
from hifi_ref.neighbours.scheme import Parameter, Scheme, StoredArray

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Shape, Stored

__all__ = ["SCHEMES", "Parameter", "Scheme", "StoredArray", "decode", "encode", "matmul"]

_SYSTEMS = (
    bitsandbytes, bitsandbytes_8bit, llm_int8, mx, nvfp4, web_rwkv,
    hyper, gptq, awq, compressed_tensors, hqq, mlx_affine, fp8,
)  # fmt: skip
SCHEMES: dict[str, Scheme] = {scheme.name: scheme for system in _SYSTEMS for scheme in system.SCHEMES}


def encode(name: str, x: Float[Array, "*shape"], **parameters: Any) -> dict[str, Array]:
    """Weights to the arrays that the system stores, bit for bit.

    Args:
        name: a key of SCHEMES.
        x: the weights, of a dtype that the scheme takes. Others than float32 are widened first, which is exact. NaN and
            infinities get what the system gives them.
        parameters: those of the scheme, by name; SCHEMES[name].parameters has their defaults and what they mean.

    Returns:
        The stored arrays by name, in x's library. Inside jax.jit an array whose length follows from values has its
        greatest length, filled up with -1.

    Raises:
        ValueError: an unknown name, parameter or value of one; a dtype or shape that the scheme cannot store.
        NotImplementedError: the system defines no encoder.
    """
    scheme, given, arrays = _asked(name, parameters)
    if scheme.encode is None:
        raise NotImplementedError(f"{name} has no encoder")
    x = _floats(x, "x", scheme)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"x must hold at least one weight, on one axis or more, not have shape {x.shape}")
    scheme.shapes(x.shape, **given)
    rows = 0 if exact.is_jax(x) or arrays else pieces.rows_a_piece(scheme, x.shape, given)
    if rows:
        return pieces.encode(scheme, x, rows, given)
    operands = (x,) if arrays is None else (x, arrays)
    result = run(scheme.encode, *operands, watching="encode" not in scheme.keeps_faint, **given)
    return _cut(scheme, result)


def decode(name: str, stored: Stored, shape: Shape, **parameters: Any) -> Float32[Array, "*shape"]:
    """Stored arrays to weights, bit for bit as the system's own decoder in float32 (NaN counts equal to NaN).

    Where the system decodes to float16 or bfloat16, that is this result rounded to nearest even.

    Args:
        name: a key of SCHEMES.
        stored: the arrays by name, as encode gives them or in any shape with as many values.
        shape: of the weights.
        parameters: as for encode.

    Returns:
        float32 of that shape, in the library of the stored arrays.

    Raises:
        ValueError: an unknown name, parameter or value of one; an array that is missing or does not fit the shape.
    """
    scheme, given, _ = _asked(name, parameters)
    shape = tuple(int(n) for n in shape)
    arrays = scheme.checked(stored, shape, given)
    rows = 0 if any(map(exact.is_jax, arrays.values())) else pieces.rows_a_piece(scheme, shape, given)
    if rows:
        return pieces.decode(scheme, arrays, shape, rows, given)
    return run(scheme.decode, arrays, watching="decode" not in scheme.keeps_faint, shape=shape, **given)


def matmul(name: str, stored: Stored, a: Float[Array, "*n in"], **parameters: Any) -> Float[Array, "*n out"]:
    """Activations times the transposed weights, as the system multiplies them.

    Args:
        name: a key of SCHEMES, of a scheme whose system defines a product; its page says which bits are meant.
        stored: the weights [out, in], as encode stores them.
        a: float32 or float16 [..., in].
        parameters: as for encode.

    Returns:
        [..., out], of a's dtype.

    Raises:
        ValueError: as for decode, or a length of a's rows that divides no whole number of weights.
        NotImplementedError: the system defines no product for this scheme.
    """
    scheme, given, _ = _asked(name, parameters)
    if scheme.matmul is None:
        raise NotImplementedError(f"{name} has no product of its own: decode it and multiply")
    if not exact.is_jax(a) and not isinstance(a, np.ndarray):
        raise ValueError(f"a must be a NumPy or jax array, not {type(a).__name__}")
    if str(a.dtype) not in ("float32", "float16") or a.ndim == 0:
        raise ValueError(f"a must be float32 or float16 [..., in], not {a.dtype} of shape {a.shape}")
    arrays = scheme.checked(stored, (scheme.rows_of(stored, a.shape[-1], given), a.shape[-1]), given)
    watching = "matmul" not in scheme.keeps_faint
    result = run(scheme.matmul, arrays, a.reshape(-1, a.shape[-1]), watching=watching, **given)
    result = result.reshape(*a.shape[:-1], result.shape[-1])
    return result if result.dtype == a.dtype else narrow(result, str(a.dtype))


def _asked(name: str, parameters: dict[str, Any]) -> tuple[Scheme, dict[str, Any], dict[str, Any] | None]:
    """The scheme, its parameters, and those of them that are arrays, as far as given; None where it has none such."""
    if name not in SCHEMES:
        raise ValueError(f"no scheme is called {name!r}; there are {' '.join(SCHEMES)}")
    scheme = SCHEMES[name]
    given = scheme.with_defaults(parameters)
    arrays = {name: given.pop(name) for name, each in scheme.parameters.items() if each.array}
    if not arrays:
        return scheme, given, None
    return scheme, given, {name: array for name, array in arrays.items() if array is not None}


def _floats(x: Any, what: str, scheme: Scheme) -> Any:
    """x in float32, but where the scheme wants it as it is."""
    if not exact.is_jax(x) and not isinstance(x, np.ndarray):
        raise ValueError(f"{what} must be a NumPy or jax array, not {type(x).__name__}")
    if str(x.dtype) not in scheme.takes:
        raise ValueError(f"{what} of {scheme.name} must be {' or '.join(scheme.takes)}, not {x.dtype}")
    wide = x.astype(np.float32)
    if scheme.finite:
        check_finite(wide, what)
    return wide if scheme.widens else x


def _cut(scheme: Scheme, stored: dict[str, Any]) -> dict[str, Any]:
    """Without the filling of ragged arrays, where values are known."""
    for name, each in scheme.stored.items():
        if each.ragged and name in stored and not exact.is_traced(stored[name]):
            stored[name] = stored[name][np.asarray(stored[name]) >= 0]
    return stored
