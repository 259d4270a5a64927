"""A block's search as data: its trials, and the error around them, over the scale or over scale and min."""

from __future__ import annotations

from typing import Any

import numpy as np

from hifi_ref.explain.search import optimum
from hifi_ref.explain.search.trials import KINDS, Search, Try, searches
from hifi_ref.formats import codebooks

# Points of a curve, and cells of a map along each axis.
POINTS, CELLS = 240, 44


def search_data(name: str, x: np.ndarray, importance: np.ndarray | None) -> dict[str, Any] | None:
    """How a format's encoder searches a block, f32[block_size]; None for other formats, and where all is zero.

    Shown is the sub-block whose stop is the furthest from the optimum, of equals the first.
    """
    if name not in KINDS or not x.any():
        return None
    found = searches(name, x, importance)
    chosen = int(np.argmax([one.x.any() * (1 + one.stop.error / max(one.best.error, 1e-12)) for one in found]))
    one = found[chosen]
    around = _map(one, KINDS[name].codes) if any(trial.low for trial in one.trials) else _curves(name, one)
    return {
        "says": KINDS[name].says,
        "sub_block": chosen,
        "weights": [float(f"{v:.9g}") for v in one.x],
        "counts": [float(f"{v:.6g}") for v in one.w],
        "trials": [_try(trial) for trial in one.trials],
        "stop": _try(one.stop),
        "optimum": _try(one.best),
        "sub_blocks": [
            {"begin": _share(s.trials[0].error), "stop": _share(s.stop.error), "optimum": _share(s.best.error)}
            for s in found
        ],
        **around,
    }


def _try(trial: Try) -> dict[str, Any]:
    made = {"scale": float(f"{trial.scale:.6g}"), "error": _share(trial.error), "kept": trial.kept}
    return made | ({"min": float(f"{trial.low:.6g}")} if trial.low else {})


def _share(error: float) -> float:
    """An error of which float64 may have left less than nothing."""
    return float(f"{max(error, 0.0):.4g}")


def _curves(name: str, one: Search) -> dict[str, Any]:
    """The error for scales around the trials: each weight takes what is nearest; the same for the other sign."""
    sizes = [abs(trial.scale) for trial in [*one.trials, one.best] if trial.scale]
    sign = np.sign(one.stop.scale) or 1.0
    if name == "MXFP4":
        exponent = int(np.log2(sizes[0]))
        scales = 2.0 ** np.arange(exponent - 4, exponent + 5)
    else:
        scales = np.linspace(0.75 * min(sizes), 1.25 * max(sizes), POINTS)
    if name == "IQ2_XXS":
        return {"curve": {"scales": scales.tolist(), "errors": _of_rows(one, scales)}}
    codes = KINDS[name].codes
    made = {"curve": {"scales": scales.tolist(), "errors": _of_scales(one, codes, sign * scales)}}
    if not np.array_equal(codes, -codes[::-1]):
        made["other_sign"] = {"scales": scales.tolist(), "errors": _of_scales(one, codes, -sign * scales)}
    return made


def _of_scales(one: Search, codes: np.ndarray, scales: np.ndarray) -> list[float]:
    return [_share(optimum.error(one.x, one.w, codes, float(scale))) for scale in scales]


def _of_rows(one: Search, scales: np.ndarray) -> list[float]:
    q = optimum.best_rows(one.x, one.w, codebooks.grid("IQ2_XXS") // 8, scales)
    errors = (one.w * (one.x - scales[:, None] * q) ** 2).sum(axis=1) / (one.w * one.x * one.x).sum()
    return [_share(float(error)) for error in errors]


def _map(one: Search, codes: np.ndarray) -> dict[str, Any]:
    """The error for scales and mins around the trials, a row of the map for each min."""
    points = [*one.trials, one.best]
    ends = [(min(values), max(values)) for values in zip(*((p.scale, p.low) for p in points), strict=True)]
    (s0, s1), (m0, m1) = ((a - 0.35 * (b - a) - 0.02 * b, b + 0.35 * (b - a) + 0.02 * b) for a, b in ends)
    scales, mins = np.linspace(s0, s1, CELLS), np.linspace(max(m0, 0), m1, CELLS)
    s, m = scales[None, :, None], mins[:, None, None]
    q = np.clip(np.rint((one.x + m) / s), codes[0], codes[-1])
    errors = (one.w * (one.x - (s * q - m)) ** 2).sum(axis=2) / (one.w * one.x * one.x).sum()
    return {
        "map": {
            "scales": scales.tolist(), "mins": mins.tolist(),
            "errors": [[_share(float(error)) for error in row] for row in errors],
        }
    }  # fmt: skip
