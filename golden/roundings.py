"""Weights at the ties of roundings that random ones never meet: of scales to binary16, of quotients to codes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from golden.weights import F32, PEAK, TOP
from hifi_ref.formats import Format

# Between two binary16 numbers, of which the even one lies below, above; subnormal ones; the largest.
TIES = (1 + 2.0**-11, 1 + 3 * 2.0**-11, 1.5 + 5 * 2.0**-11, 0.5 * 2.0**-24, 2.5 * 2.0**-24, 6.5 * 2.0**-24, 65520.0)
# The weight that sets the scale, over the scale, where that is exact: quotients by it round to the scale itself.
LARGEST = {name: peak for name, peak in PEAK.items() if name not in ("MXFP4", "NVFP4", "Q8_K")}
# What is drawn before a weight counts as not to be found.
DRAWN = 1 << 14


def half_ties(f: Format, n: int) -> Iterator[np.ndarray]:
    """f32[n] rows whose scales, before they are narrowed, are ties of binary16, and their neighbours on both sides."""
    if f.name not in LARGEST:
        return
    for tie in TIES:
        for scale in (F32(tie), np.nextafter(F32(tie), F32(0)), np.nextafter(F32(tie), F32(1e38))):
            peak = LARGEST[f.name] * np.float64(scale)
            if np.float64(F32(peak)) == peak and F32(peak) / F32(LARGEST[f.name]) == scale:
                codes = np.linspace(-0.9, 0.9, f.block_size)
                codes[0] = 1
                yield np.tile(codes * peak, n // f.block_size).astype(F32)


def quotient_ties(f: Format, rng: np.random.Generator, n: int) -> np.ndarray | None:
    """f32[n]: weights whose quotient by the scale, and product with its inverse, round to different codes.

    None where the format knows no such sum, or none was found.
    """
    top = LARGEST.get(f.name) or TOP.get(f.name) or (PEAK["Q8_K"] if f.name == "Q8_K" else None)
    if top is None or abs(top) == 1:
        return None
    found: list[np.ndarray] = []
    while sum(map(len, found)) < 8 and len(found) < 64:
        peak = F32(rng.uniform(1, 2))
        d = F32(abs(peak)) / F32(abs(top))
        inverse = F32(1) / d
        middles = (rng.integers(0, abs(top), DRAWN) + 0.5) * np.float64(d)
        x = (middles.astype(F32).view(np.int32) + rng.integers(-2, 3, DRAWN, dtype=np.int32)).view(F32)
        differs = np.floor(x * inverse + F32(0.5)) != np.floor(x / d + F32(0.5))
        kept = np.unique(x[differs & (x < peak)])
        if len(kept):
            first = np.array([0, peak] if f.name in TOP else [peak * F32(np.sign(top))], F32)
            block = np.concatenate([first, np.resize(kept, f.block_size - len(first))])
            found.append(block)
            if len(found) == n // f.block_size:
                break
    return np.resize(np.concatenate(found), n).astype(F32) if found else None
