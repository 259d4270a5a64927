"""The least sum of squared errors that blocks of a form can hold, over every scale that can be stored and all codes.

With few scales each is tried. With binary16 there are 63,488, and trying is spared by an argument that loses none: as a
scale grows, the nearest levels of a block's weights change one at a time, at known points; for one choice of levels the
error is a parabola in the scale, whose least value in binary16 lies at the number nearest to its vertex. So one number
a choice is enough, and a choice that is not the nearest anywhere gives no less than the true least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

LARGEST = float(np.finfo(np.float16).max)
# Scales of binary16 between two that are looked at first, and events a piece of work.
STEP = 8
EVENTS = 1 << 22


def over_scales(
    x: Float64[np.ndarray, "n block"], levels: Float64[np.ndarray, "k"], scales: Float64[np.ndarray, "n scales"]
) -> Float64[np.ndarray, "n"]:
    """y = scale * level, where each block has its own list of scales."""
    levels = np.unique(levels)
    middles = (levels[1:] + levels[:-1]) / 2
    best = np.square(x).sum(axis=1)
    for s in scales.T[:, :, None]:
        with np.errstate(divide="ignore", invalid="ignore"):
            y = s * levels[np.searchsorted(middles, np.where(s == 0, 0, x / s))]
        error = np.square(x - y).sum(axis=1)
        best = np.where(np.isfinite(s[:, 0]) & (s[:, 0] != 0), np.fmin(best, error), best)
    return best


def over_scales_and_mins(
    x: Float64[np.ndarray, "n block"],
    most: int,
    scales: Float64[np.ndarray, "n scales"],
    mins: Float64[np.ndarray, "n mins"],
) -> Float64[np.ndarray, "n"]:
    """y = scale * q + min, q in 0..most, where each block has its own lists."""
    shifted = x[:, None, :] - mins[:, :, None]
    best = np.square(shifted).sum(axis=2).min(axis=1)
    for s in scales.T[:, :, None, None]:
        divisor = np.where(s == 0, 1, s)
        codes = np.clip(np.rint(shifted / divisor), 0, most)
        best = np.minimum(best, np.square(shifted - codes * s).sum(axis=2).min(axis=1))
    return best


def over_binary16(x: Float64[np.ndarray, "n block"], levels: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "n"]:
    """y = scale * level for every finite scale of binary16, of either sign. Levels are whole numbers."""
    rows = max(1, EVENTS // (x.shape[1] * len(levels)))
    pieces = [x[i : i + rows] for i in range(0, len(x), rows)]
    return np.concatenate([
        np.minimum(_growing(piece, np.unique(levels)), _growing(piece, np.unique(-levels))) for piece in pieces
    ])  # fmt: skip


def _growing(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Over scales above 0, as they grow: the error is sum x^2 - 2 s sum x l + s^2 sum l^2."""
    n = len(x)
    middles = (levels[1:] + levels[:-1]) / 2
    first = np.where(x > 0, levels[-1], np.where(x < 0, levels[0], levels[np.argmin(np.abs(levels))]))
    # From a scale of x / middle on the level is the one nearer to 0.
    above = middles > 0
    before, after = np.where(above, levels[1:], levels[:-1]), np.where(above, levels[:-1], levels[1:])
    happens = x[:, :, None] * middles > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(happens, x[:, :, None] / middles, np.inf).reshape(n, -1)
    order = np.argsort(at, axis=1)

    def course(start: np.ndarray, change: np.ndarray) -> np.ndarray:
        steps = np.take_along_axis(np.where(happens, change, 0.0).reshape(n, -1), order, axis=1)
        return np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, axis=1)], axis=1)

    xl = course((x * first).sum(axis=1), x[:, :, None] * (after - before))
    ll = course(np.square(first).sum(axis=1), np.broadcast_to(after**2 - before**2, happens.shape))
    s = _binary16(np.divide(xl, ll, out=np.zeros_like(xl), where=(ll > 0) & (xl > 0)))
    least = (np.square(x).sum(axis=1)[:, None] + s * (s * ll - 2 * xl)).min(axis=1)
    # What cancels may end below 0 by a rounding.
    return np.maximum(least, 0)


def over_binary16_with_min(
    x: Float64[np.ndarray, "n block"], most: int, known: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "n"]:
    """y = scale * q + min, q in 0..most, for every finite scale and min of binary16.

    known: an error that can be reached, an encoder's say: scales that cannot do better are not tried.
    """
    return np.array([_least(row, most, bound) for row, bound in zip(x, known, strict=True)])


def _least(x: np.ndarray, most: int, known: float) -> float:
    mean = float(_binary16(x.mean()))
    best = min(known, float(np.square(x - mean).sum()))
    for own in (x, -x):
        best = _least_above_zero(own, most, best)
    return best


def _least_above_zero(x: np.ndarray, most: int, best: float) -> float:
    """Over scales above 0, without those that cannot be better than ``best``.

    Below: the two extremes alone have an error of (range - most * scale)^2 / 2 or more. Above the range weights lie at
    two neighbouring levels, whose best distance is no more than the range: the least error over real mins only grows.
    Between scales a and b its root changes by no more than the largest length of centred codes times |a - b|, since the
    codes of one are open to the other.
    """
    reach = float(np.ptp(x))
    low = max((reach - np.sqrt(2 * best)) / most, 0.0)
    if best == 0 or low > LARGEST:
        return best
    best = _between(x, most, low, min(reach, LARGEST), best)
    beyond = _over_mins(x, most, np.array([reach]))[0][0] < best
    return _between(x, most, reach, LARGEST, best) if beyond else best


def _between(x: np.ndarray, most: int, low: float, high: float, best: float) -> float:
    """The least error over scales of binary16 from low to high, or best if that is less."""
    first, last = (int(np.float16(v).view(np.uint16)) for v in (low, high))
    bits = np.arange(max(first - 1, 1), min(last + 1, 0x7BFF) + 1, dtype=np.uint16)
    scales = bits.view(np.float16).astype(np.float64)
    coarse = scales[STEP // 2 :: STEP] if len(scales) > STEP else scales
    free, stored = _in_pieces(x, most, coarse)
    best = min(best, float(stored.min()))
    nearest = np.minimum(np.arange(len(scales)) // STEP, len(coarse) - 1) if coarse is not scales else slice(None)
    length = most / 2 * np.sqrt(len(x))
    bound = np.sqrt(free[nearest]) - length * np.abs(scales - coarse[nearest])
    left = scales[(bound < np.sqrt(best)) & ~np.isin(scales, coarse)]
    return min(best, float(_in_pieces(x, most, left)[1].min(initial=best)))


def _in_pieces(x: np.ndarray, most: int, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """_over_mins for many scales."""
    rows = max(1, EVENTS // (len(x) * most))
    found = [_over_mins(x, most, scales[i : i + rows]) for i in range(0, len(scales), rows)]
    return (np.concatenate([f for f, _ in found]), np.concatenate([f for _, f in found])) if found else (scales, scales)


def _over_mins(x: np.ndarray, most: int, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each scale the least error over all mins, and over those of binary16.

    As a min grows past x - (k + 1/2) scale, the weight's code falls from k + 1 to k, and its rest x - scale * q
    grows by the scale: the sums of rests and of their squares follow from how many such points are passed, and from the
    sum of these.
    """
    s = scales[:, None]
    points = (x[None, :, None] - (np.arange(most) + 0.5) * s[:, :, None]).reshape(len(scales), -1)
    points.sort(axis=1)
    rest = x - most * s
    counts = np.arange(points.shape[1] + 1)
    sums = rest.sum(axis=1)[:, None] + counts * s
    squares = np.square(rest).sum(axis=1)[:, None] + 2 * s * np.pad(np.cumsum(points, axis=1), ((0, 0), (1, 0)))
    n = len(x)
    m = _binary16(sums / n)
    best = np.argmin(squares + m * (n * m - 2 * sums), axis=1)
    m = np.take_along_axis(m, best[:, None], axis=1)
    stored = np.square(x - m - np.clip(np.rint((x - m) / np.where(s > 0, s, 1)), 0, most) * s).sum(axis=1)
    # A bound from below, in spite of what cancels.
    free = (squares - sums**2 / n).min(axis=1) - 1e-13 * squares[:, 0]
    return np.maximum(free, 0), stored


def _binary16(x: np.ndarray | float) -> np.ndarray:
    """The nearest finite number of binary16."""
    return np.clip(x, -LARGEST, LARGEST).astype(np.float16).astype(np.float64)
