"""Whether what a caller hands in makes sense: each sentence names what is wrong and where."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import Array
from hifi_ref.formats import FORMATS, Format


def format_offering(name: str, operation: str) -> Format:
    """The format of that name. Raises ValueError for an unknown name, NotImplementedError where it lacks the operation.

    operation: "encode", "decode" or "dot".
    """
    if name not in FORMATS:
        raise ValueError(f"no format is called {name!r}; there are {' '.join(FORMATS)}")
    if getattr(FORMATS[name], operation) is None:
        writer = "llama.cpp v0.5.0" if FORMATS[name].dialect == "llama.cpp" else "the HIFI fork"
        raise NotImplementedError(f"{name} has no {operation} in {writer}")
    return FORMATS[name]


def partner_of(f: Format) -> Format:
    """The format that activations take in a dot product with f, which offers one."""
    assert f.dot_with is not None
    return FORMATS[f.dot_with]


def checked_array(x: Any, dtype: type, what: str) -> Any:
    """x itself: an array of NumPy or jax, of this dtype, with an axis or more. ValueError, naming ``what``, if not."""
    if not exact.is_jax(x) and not isinstance(x, np.ndarray):
        raise ValueError(f"{what} must be a NumPy or jax array, not {type(x).__name__}")
    if x.dtype != dtype:
        raise ValueError(f"{what} must be {np.dtype(dtype).name}, not {x.dtype}")
    if x.ndim == 0:
        raise ValueError(f"{what} must have at least one axis")
    return x


def row_length(x: Array, unit: int, what: str) -> int:
    """The length of the last axis. ValueError where it is no multiple of unit.

    ``what`` is for that sentence: what there are so many of, such as "bytes a Q4_0 block".
    """
    n = x.shape[-1]
    if n % unit:
        raise ValueError(
            f"a row of {n} is no multiple of the {unit} {what} has: a rest begins at index {n // unit * unit}"
        )
    return n


def check_finite(x: Array, what: str) -> None:
    if exact.is_traced(x):
        return
    finite = exact.library(x).isfinite(x)
    if not finite.all():
        index = tuple(int(i) for i in np.unravel_index(np.argmin(np.asarray(finite)), x.shape))
        place = ", ".join(map(str, index))
        raise ValueError(f"{what}[{place}] is {np.asarray(x)[index]}: only finite values can be encoded")
