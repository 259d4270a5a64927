"""Products as quantized models compute them, and how far they are from the products of floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import api
from hifi_ref.formats import FORMATS
from hifi_ref.neighbours import dynamic_int8

if TYPE_CHECKING:
    from jaxtyping import Float32

W8A8, Q4_0 = TARGETS = ("w8a8", "Q4_0")


def fits(target: str, columns: int) -> bool:
    """Whether rows of so many weights can be quantized so."""
    return target == W8A8 or columns % FORMATS[target].block_size == 0


def product(
    target: str, w: Float32[np.ndarray, "rows columns"], x: Float32[np.ndarray, "n columns"]
) -> Float32[np.ndarray, "n rows"]:
    """ "w8a8": a step a row of both, as neighbours/dynamic_int8.py; a format: its blocks, and x in the blocks they are
    multiplied with, both decoded."""
    if target == W8A8:
        return np.asarray(dynamic_int8.matmul(*dynamic_int8.quantize_rows(w), x))
    partner = FORMATS[target].dot_with
    assert partner is not None
    return _through(partner, x) @ _through(target, w).T


def _through(name: str, x: Float32[np.ndarray, "rows columns"]) -> Float32[np.ndarray, "rows columns"]:
    return np.asarray(api.decode(name, api.encode(name, x, lane="numpy"), lane="numpy"))
