"""Columns of a product that may have met a subnormal number, multiplied again by NumPy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from hifi_ref import api
from hifi_ref.exact import clean_thread
from hifi_ref.formats import Format
from hifi_ref.kernels import columns
from hifi_ref.lanes import numpy_lane


def at_top_level(f: Format, partner: Format, w: Any, x: np.ndarray, result: Any, clear: np.ndarray) -> Any:
    """f32[batch, rows], its columns that are not clear computed again from the floats."""
    if clear.all():
        return result
    result = np.array(result)
    for column in np.flatnonzero(~clear):
        a = api.encode(partner.name, x[column], lane="numpy")
        result[column] = numpy_lane.dot(f, partner, np.asarray(w), a)
    return result


def inside(f: Format, partner: Format, w: Any, a: Any, result: Any) -> Any:
    """The same as a part of the caller's computation: NumPy is called back only where a column is not clear."""
    if f.dot_clear is None:
        return result
    clear = columns.clear(f, partner, w, a)

    def again(w: Any, a: Any, result: Any, clear: Any) -> np.ndarray:
        result = result.copy()
        for column in np.flatnonzero(~clear):
            result[column] = numpy_lane.dot(f, partner, w, a[column])
        return result

    def call(w: Any, a: Any, result: Any, clear: Any) -> Any:
        return clean_thread.call(again, result.shape, result.dtype, w, a, result, clear)

    return jax.lax.cond(clear.all(), lambda w, a, result, clear: result, call, w, a, result, clear)
