"""Every operation of every format as the JAX lane traces it, for tests that look at what jax makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hifi_ref.formats import FORMATS, Format
from hifi_ref.lanes.jax_lane import watched

BLOCKS = 8


def operations(f: Format) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """What a format offers, and operands for it."""
    shape, blocks = jax.ShapeDtypeStruct, BLOCKS * max(1, 32 // f.block_size)
    found: dict[str, Any] = {
        "decode": (lambda blocks: watched.decode(f, blocks), (shape((blocks, f.type_size), np.uint8),))
    }
    if f.dot is not None:
        partner = FORMATS[f.dot_with]
        w = shape((2, blocks * max(1, partner.block_size // f.block_size), f.type_size), np.uint8)
        a = shape((w.shape[1] * f.block_size // partner.block_size, partner.type_size), np.uint8)
        found["dot"] = lambda w, a: watched.dot(f, w, a), (w, a)
    if f.encode is not None:
        x, importance = shape((1, blocks, f.block_size), np.float32), shape((blocks, f.block_size), np.float32)
        if not f.requires_weights:
            found["encode"] = lambda x: watched.encode(f, x, None), (x,)
        found["encode with importance"] = lambda x, importance: watched.encode(f, x, importance), (x, importance)
    return found
