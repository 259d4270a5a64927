"""A test of a vector file: how its bytes are written, and how its id comes about."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from golden import places

# What a test says besides what its id stands for.
OUTSIDE_THE_ID = ("id", "flags", "result", "trace", "exact", "bound", "arm64", "profiles")


def hexed(values: np.ndarray) -> str:
    """Bytes in hexadecimal, numbers little-endian, one pattern for all NaN."""
    values = np.ascontiguousarray(values)
    if values.dtype == np.float32:
        values = np.where(np.isnan(values), np.float32(np.nan), values)
        values = np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))
        return values.astype("<u4").tobytes().hex()
    return values.tobytes().hex()


def id_of(test: dict[str, Any]) -> str:
    """A hash of the inputs and the expected bits."""
    said = {k: v for k, v in test.items() if k not in OUTSIDE_THE_ID}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def test_of(flags: list[str], result: str = "valid", **values: Any) -> dict[str, Any]:
    """One test, its id first."""
    return {"id": id_of(values), "flags": flags, **values, "result": result}


def trace(name: str, blocks: np.ndarray) -> dict[str, list[list[int]]]:
    """The numbers that blocks hold, one list a block: scales, mins, codes and so on, as they are stored."""
    return {kind: numbers.tolist() for kind, numbers in places.read(name, blocks).items()}
