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
from hifi_ref.lanes.jax_lane import watched


def at_top_level(f: Format, partner: Format, w: Any, x: np.ndarray, result: Any, marked: np.ndarray) -> Any:
    """f32[batch, rows], its columns that are marked computed again from the floats."""
    if not marked.any():
        return result
    result = np.array(result)
    for column in np.flatnonzero(marked):
        a = api.encode(partner.name, x[column], lane="numpy")
        result[column] = numpy_lane.dot(f, partner, np.asarray(w), a)
    return result


def inside(f: Format, partner: Format, w: Any, a: Any, result: Any) -> Any:
    """The same as a part of the caller's computation: NumPy is called back only where a column is marked."""
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
