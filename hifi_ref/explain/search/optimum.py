"""The best scale there is for some weights, found without the release's search: every choice of codes that any scale
gives is tried, or, with a min or a grid, very many starts.

Weights x and what each counts, w, are f64[n]; codes are ascending. All answers are scale, min, and error, relative to
the sum of w x^2.
"""

from __future__ import annotations

import numpy as np

# Starts of the search for a scale and a min, along each axis; and scales that are tried with a grid.
STARTS = 40
SCALES = 400


def nearest(shares: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The code nearest to each share."""
    return codes[np.searchsorted((codes[1:] + codes[:-1]) / 2, shares)]


def error(x: np.ndarray, w: np.ndarray, codes: np.ndarray, scale: float, low: float = 0.0) -> float:
    """The error where each weight takes the code nearest to it for this scale and min."""
    if scale == 0:
        return 1.0
    q = nearest((x + low) / scale, codes)
    return float((w * (x - (scale * q - low)) ** 2).sum()) / (float((w * x * x).sum()) or 1.0)


def scale(x: np.ndarray, w: np.ndarray, codes: np.ndarray) -> tuple[float, float, float]:
    """The true optimum over all scales of either sign.

    As a scale grows, the codes change only where a share passes the middle between two: between two such scales they
    are the same, and least squares gives the best for them.
    """
    middles = (codes[1:] + codes[:-1]) / 2
    middles = middles[middles != 0]
    bounds = np.unique(np.outer(x, 1 / middles))
    bounds = bounds[bounds != 0]
    if not len(bounds):
        return 0.0, 0.0, 1.0
    between = np.concatenate([[2 * bounds[0]], (bounds[1:] + bounds[:-1]) / 2, [2 * bounds[-1]]])
    q = nearest(x[None] / between[between != 0][:, None], codes)
    xq, q2 = (w * x * q).sum(axis=1), (w * q * q).sum(axis=1)
    gain = np.where(q2 > 0, xq * xq / np.where(q2 > 0, q2, 1), 0)
    at = int(gain.argmax())
    return float(xq[at] / (q2[at] or 1)), 0.0, 1 - float(gain[at]) / (float((w * x * x).sum()) or 1.0)


def scale_and_min(
    x: np.ndarray, w: np.ndarray, codes: np.ndarray, scale: float, low: float
) -> tuple[float, float, float]:
    """The best that was found from a lattice of starts around one, each improved until its codes stay."""
    scales = scale * np.linspace(0.6, 1.5, STARTS)
    lows = low * np.linspace(0.3, 1.8, STARTS) if low else np.zeros(1)
    s, m = (a.reshape(-1, 1) for a in np.meshgrid(scales, lows))
    total, sum_x = w.sum(), (w * x).sum()
    for _ in range(4):
        q = np.clip(np.rint((x + m) / s), codes[0], codes[-1])
        l1, l2, xl = (w * q).sum(axis=1), (w * q * q).sum(axis=1), (w * x * q).sum(axis=1)
        det = total * l2 - l1 * l1
        safe = np.where(det > 0, det, 1)
        new_s, new_m = (total * xl - sum_x * l1) / safe, -(l2 * sum_x - l1 * xl) / safe
        negative = new_m < 0
        new_s = np.where(negative, xl / np.where(l2 > 0, l2, 1), new_s)
        usable = ((det > 0) & (new_s > 0))[:, None]
        s, m = np.where(usable, new_s[:, None], s), np.where(usable, np.where(negative, 0, new_m)[:, None], m)
    q = np.clip(np.rint((x + m) / s), codes[0], codes[-1])
    errors = (w * (x - (s * q - m)) ** 2).sum(axis=1)
    at = int(errors.argmin())
    return float(s[at, 0]), float(m[at, 0]), float(errors[at]) / (float((w * x * x).sum()) or 1.0)


def rows(x: np.ndarray, w: np.ndarray, grid: np.ndarray, scale: float) -> tuple[float, float, float]:
    """The best of many scales around one, each with the best of all rows of a grid, and then least squares."""
    scales = scale * np.linspace(0.5, 1.6, SCALES)
    q = best_rows(x, w, grid, scales)
    xq, q2 = (w * x * q).sum(axis=1), (w * q * q).sum(axis=1)
    at = int((xq * xq / np.where(q2 > 0, q2, 1)).argmax())
    return float(xq[at] / q2[at]), 0.0, 1 - float(xq[at] ** 2 / q2[at]) / (float((w * x * x).sum()) or 1.0)


def best_rows(x: np.ndarray, w: np.ndarray, grid: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """[scales, n]: for each scale the numbers of the rows of the grid, [rows, width], with the least error."""
    width = grid.shape[1]
    g = grid.astype(np.float64)
    found = []
    for xs, ws in zip(x.reshape(-1, width), w.reshape(-1, width), strict=True):
        # sum w x^2 is the same for all rows.
        cross, square = g @ (ws * xs), (g * g) @ ws
        best = (scales[:, None] ** 2 * square - 2 * scales[:, None] * cross).argmin(axis=1)
        found.append(g[best])
    return np.concatenate(found, axis=1)
