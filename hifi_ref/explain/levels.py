"""Between which values a weight can choose, while all that it shares with others stands."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref.explain import places
from hifi_ref.explain.steps import CODE_OFFSET, GRIDS, STEPS, grid_of, scales
from hifi_ref.explain.worked import Worked
from hifi_ref.formats import FORMATS, codebooks


def of_codes(name: str) -> dict[str, Any] | None:
    """The values that a weight's code can stand for, in units of its sub-block's step; None for plain floats.

    values: ascending. chosen_by: "code", or "row and sign" where the weights of a group choose together.
    gap: the largest distance between neighbours, in these units.
    """
    base = places.base_of(name)
    if FORMATS[base].block_size == 1:
        return None
    if base in GRIDS:
        magnitudes = np.unique(codebooks.grid(grid_of(base))).astype(float)
        if base.startswith("IQ1"):
            values = np.unique(np.concatenate([magnitudes - 0.125, magnitudes + 0.125]))
        else:
            values = np.unique(np.concatenate([-magnitudes, magnitudes]))
        chosen_by = "row and shift" if base.startswith("IQ1") else "row and sign"
    else:
        values, chosen_by = np.unique(_of_codes(base)).astype(float), "digit" if base == "TQ1_0" else "code"
    gaps = np.diff(values)
    return {"values": values.tolist(), "chosen_by": chosen_by, "gap": float(gaps.max())}


def steps_possible(name: str) -> dict[str, float] | None:
    """The finest step that is not 0 and the largest that blocks of a format can have; None for plain floats."""
    base = places.base_of(name)
    if FORMATS[base].block_size == 1:
        return None
    kept: dict[str, np.ndarray] = {}
    for numbers in places.numbers_of(base):
        if numbers.kind in ("scale", "e"):
            values = np.arange(1 << numbers.bits.shape[1])
            kept[numbers.kind] = values - 128 if numbers.dtype == "i8" else values
        elif numbers.kind == "d":
            finest, largest = (2.0**-24, 65504.0) if numbers.dtype == "f16" else (2.0**-149, 2.0**128 - 2.0**104)
            kept["d"] = np.array([[finest], [largest]], np.float32)
    with np.errstate(over="ignore"):
        sizes = abs(scales(base, kept)[-1].values.astype(np.float64))
    return {"finest": float(sizes[sizes > 0].min()), "largest": float(sizes[np.isfinite(sizes)].max())}


def reach(work: Worked) -> list[dict[str, float]]:
    """Of each sub-block of a worked block the size of its step, and the least and the largest weight it can hold."""
    found = of_codes(work.name)
    if found is None:
        return []
    ends = found["values"][0], found["values"][-1]
    known = {step.name: step.values.astype(float) for step in work.steps}
    scale = next(known[name] for name in ("step[s]", "step", "d") if name in known)
    sign, minimum = (1, known["m"]) if "m" in known else (-1, known.get("low[s]", np.zeros(1)))
    made = []
    for s, low in zip(scale, np.broadcast_to(minimum, scale.shape), strict=True):
        first, last = sorted(float(s * end + sign * low) for end in ends)
        made.append({"step": abs(float(s)), "low": first, "high": last})
    return made


def _of_codes(name: str) -> np.ndarray:
    if name in STEPS:
        return STEPS[name]
    if name == "TQ1_0":
        return np.array([-1, 0, 1])
    numbers = next(n for n in places.numbers_of(name) if n.kind == "code")
    width = numbers.bits.shape[1]
    if numbers.dtype == "i8":
        return np.arange(-128, 128)
    if name == "Q1_0":
        return np.array([-1, 1])
    return np.arange(1 << width) - CODE_OFFSET.get(name, 0)
