"""Three ways to look a code of four bits up in a table of sixteen levels: the same values by other instructions.

    gather         levels[code]: one load a weight; on a vector unit a gather, where there is one
    select tree    fifteen selections by the code's bits: no memory, and no instruction that a vector unit lacks
    vectors        the table as four vectors of four, as web-rwkv's shaders hold it: a vector, then one of its elements

`python -m bench.lookups` measures them, and counts what they become for other back ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.codebooks import take

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


def gather(levels: Float32[np.ndarray, "16"], code: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    return take(levels, code)


def select_tree(levels: Float32[np.ndarray, "16"], code: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    """Neighbours are chosen between by the lowest bit, pairs of them by the next."""
    lib = exact.library(code)
    level: list[Array] = list(levels)
    for bit in (1, 2, 4, 8):
        high = (code & np.uint8(bit)) != 0
        level = [lib.where(high, level[i + 1], level[i]) for i in range(0, len(level), 2)]
    return level[0]


def vectors(levels: Float32[np.ndarray, "16"], code: UInt8[Array, "*n"]) -> Float32[Array, "*n"]:
    lib = exact.library(code)
    which, element = code >> np.uint8(2), code & np.uint8(3)
    rows = levels.reshape(4, 4)
    chosen = [_one_of_four(lib, which, rows[:, i]) for i in range(4)]
    return _one_of_four(lib, element, chosen)


def _one_of_four(lib: Any, index: UInt8[Array, "*n"], values: Any) -> Float32[Array, "*n"]:
    found = values[3]
    for i in (2, 1, 0):
        found = lib.where(index == np.uint8(i), values[i], found)
    return found
