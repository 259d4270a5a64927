"""What the codes of a grid become, so that they fit nibbles: their number among the values that the grid has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref.formats import codebooks

if TYPE_CHECKING:
    from jaxtyping import Int8, UInt8

    from hifi_ref.exact import Array

STEPS_IQ1_M = (-9, -7, -1, 1, 7, 9)


def signed_steps(name: str) -> tuple[int, ...]:
    """The magnitudes of a grid with both signs, in rising order."""
    sizes = sorted({int(v) for v in np.unique(codebooks.grid(name))})
    return tuple(-v for v in reversed(sizes)) + tuple(sizes)


def rank(codes: Int8[Array, "*n"], steps: tuple[int, ...]) -> UInt8[Array, "*n"]:
    ranks: Any = sum((codes >= np.int8(step)).astype(np.uint8) for step in steps[1:])
    return ranks
