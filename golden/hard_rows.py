"""Hard rows for encoders: weights of many families and their importance, each from a recipe, the same row each time.

A recipe is [family, seed, importance, seed of the importance], then, where a weight is moved to a threshold, its number
and its value, and behind these the number of blocks if there are several.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from golden.weights import UNDEFINED_BELOW
from hifi_ref import api
from hifi_ref.formats import Format, codebooks
from hifi_ref.formats import hard_inputs as inputs

BY_IMPORTANCE = ("faint behind", "two faint in front", "two faint alone", "a faint one in each", "one of eight")
SPLITS = ("loud among faint", "two loud", "least of all", "even shares")
FAMILIES = (
    "halves", "whole numbers", "gauss", "near ties", "mixed scales", "ties", "heavy tails", "one magnitude", "sparse",
    "ternary", "positive", "powers of two", "sorted", "faint runs", "edge of subnormal", "gauss 1e-08", "gauss 1e-20",
    "gauss 1e+12", "overflow", "signed zeros", "least magnitudes", "least scales",
    "constant", "huge runs", "one alone", "scales apart", "whole scales", "few runs", "below zero",
    "squares near overflow", "half of one", "equal shares", "equal shares 32", *BY_IMPORTANCE, *SPLITS,
)  # fmt: skip
# Importance with a seed each, in turn
OTHERS = (
    ("lognormal", 1), ("even", 0), ("sparse", 2), ("steep", 3), ("gaps", 4), ("faint", 5), ("runs", 6), ("alone", 7),
    ("huge", 8), ("one alone", 10), ("one alone 32", 12),
    ("each apart", 9), ("some", 11), ("few huge", 13),
    ("huge behind", 14), ("huge but the first two", 15), ("first of each", 16),
)  # fmt: skip
# Importance by runs of 16 or 32 weights
RUNS = ("runs", "alone", "one alone", "one alone 32")
# Magnitudes that searches compare with: groups below them count as zero, errors below them as none.
LEAST = (1e-15, 1e-15, 1e-14, 1e-8)
OWN_LEAST = {"IQ1_S": (1e-12,), "IQ1_M": (1e-7,)}


class Recipe(NamedTuple):
    family: str
    seed: int
    importance: str
    importance_seed: int
    at: int = -1  # which weight is moved; -1 for none
    value: float = 0.0
    blocks: int = 1


def row(f: Format, recipe: Recipe) -> tuple[np.ndarray, np.ndarray | None]:
    """float32[n] weights, and their importance or None."""
    n = recipe.blocks * max(f.block_size, 32)
    x = _family(f, recipe.family, np.random.default_rng([recipe.seed, len(recipe.family)]), n)
    if recipe.at >= 0:
        x[recipe.at] = recipe.value
    return x, _importance(recipe.importance, recipe.importance_seed, n)


def _importance(kind: str, seed: int, n: int) -> np.ndarray | None:
    if kind == "even":
        return np.ones(n, np.float32)
    if kind == "some":
        return (np.random.default_rng(seed).random(n) < 0.5).astype(np.float32)
    if kind == "each apart":
        return (2.0 ** np.random.default_rng(seed).uniform(-30, 0, n)).astype(np.float32)
    if kind in ("huge behind", "huge but the first two", "first of each"):
        return _of_places(kind, np.arange(n))
    if kind in RUNS:
        return _of_runs(kind, np.random.default_rng(seed), n)
    if kind not in ("gaps", "faint", "huge", "few huge"):
        return inputs.importance(kind, seed, n)
    drawn = inputs.importance("sparse" if kind == "few huge" else "lognormal", seed, n)
    assert drawn is not None
    if kind == "few huge":
        return drawn * np.float32(1e15)
    # Whole runs without any; or so little that products underflow; or so much that errors of faint weights count
    return (drawn * {"gaps": np.arange(n) // 32 % 2, "faint": 1e-32, "huge": 1e25}[kind]).astype(np.float32)


def _of_places(kind: str, at: np.ndarray) -> np.ndarray:
    """f32[n]: what families by importance are for."""
    if kind == "huge behind":
        # Times a root it overflows
        return np.where(at < 32, 1, 3e38).astype(np.float32)
    if kind == "huge but the first two":
        # Beside it the first run's scale vanishes
        return np.where(at < 2, 1e-6, np.where(at < 32, 1e34, 1)).astype(np.float32)
    return np.where(at % 16 == 0, 3e5, 1).astype(np.float32)


def _of_runs(kind: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """f32[n]: runs of 16 or 32 far apart, so that one outweighs others; in half or one of them one weight counts."""
    run = 32 if kind.endswith("32") else 16
    size = np.repeat(2.0 ** rng.uniform(-30, 0, n // run), run)
    if kind != "runs":
        alone = (
            np.arange(n // run) == rng.integers(0, n // run) if kind.startswith("one") else rng.random(n // run) < 0.5
        )
        kept = np.arange(n) % run == np.repeat(rng.integers(0, run, n // run), run)
        size = size * (~np.repeat(alone, run) | kept)
    return size.astype(np.float32)


def _family(f: Format, family: str, rng: np.random.Generator, n: int) -> np.ndarray:
    if family == "whole numbers":
        return rng.integers(-(2 ** rng.integers(1, 6)), 2 ** rng.integers(1, 6), n).astype(np.float32)
    if family == "halves":
        return between_codes(f, rng, n)
    if family == "huge runs":
        return (rng.uniform(-1, 1, n) * np.repeat(10.0 ** rng.uniform(30, 38.5, (n + 15) // 16), 16)).astype(np.float32)
    if family == "one alone":
        # Its scale is a power of two less than it
        least = np.float32(rng.choice(OWN_LEAST.get(f.name, LEAST))) * rng.choice([-1, 1]) * 2.0 ** rng.integers(0, 9)
        return np.where(np.arange(n) == rng.integers(0, n), least, 0).astype(np.float32)
    if family in ("equal shares", "equal shares 32"):
        # Of the largest scale, and at a power of two of its odd steps, give or take last bits
        run = 32 if family.endswith("32") else 16
        shares = 2.0 ** rng.integers(1, 5, n // run) / rng.choice([15, 31])
        shares = np.minimum(shares * (1 + rng.integers(-4, 5, n // run) * 2.0**-24), 1)
        shares[rng.integers(0, n // run)] = 1
        return (rng.uniform(1, 2) * np.repeat(shares, run)).astype(np.float32)
    if family in BY_IMPORTANCE:
        return _by_importance(family, rng, n)
    if family == "squares near overflow":
        # Their sum is finite, twice that is not
        x = rng.standard_normal(n)
        return (x * np.sqrt(2.0 ** rng.uniform(127.1, 127.9) / (x * x).sum())).astype(np.float32)
    if family == "half of one":
        # Where one weight has the code 4, the other lies between two codes, give or take last bits
        x, at = np.zeros(n), rng.choice(16, 2, replace=False)
        x[at] = rng.uniform(1, 2) * rng.choice([-1, 1], 2)
        x[at[1]] *= abs(x[at[0]] / x[at[1]]) * rng.choice([1, 3, 5, 7]) / 8 * (1 + rng.integers(-3, 4) * 2.0**-23)
        return x.astype(np.float32)
    if family in ("least magnitudes", "least scales"):
        x = rng.uniform(-1, 1, n)
        x[rng.integers(0, n)] = rng.choice([-1, 1])
        # The largest is one that is compared with, or a neighbour; or its scale may be; or has just a finite inverse
        least = np.float32(rng.choice(OWN_LEAST.get(f.name, LEAST))) * (1 + rng.integers(-1, 2) * 2.0**-23)
        least *= rng.choice([1, 2.0 ** rng.uniform(0, 8)])
        if family == "least scales":
            least = UNDEFINED_BELOW.get(f.name, 1) * 2.0**-128 * rng.uniform(1, 4)
        return (x * least).astype(np.float32)
    if family in SPLITS:
        return _for_splits(family, rng, n)
    if family in ("scales apart", "whole scales", "few runs", "below zero"):
        return of_scales(f, family, rng, n)
    return inputs.weights(family, rng, 1, n)[0]


def _by_importance(family: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """f32[n] that importance far from even makes hard."""
    x, at = rng.standard_normal(n), np.arange(n)
    if family == "faint behind":
        x *= np.where(at < 32, 10, 1e-17)
    elif family == "one of eight":
        # Each run is on the grid, so that errors which are no numbers decide nothing; or squares nearly overflow
        x = (at % 8 == np.repeat(rng.integers(0, 8, n // 8), 8)) * rng.choice([-1, 1], n) * rng.choice([1, 2.0**61.2])
    elif family == "a faint one in each":
        # It costs least to take its sign, but outweighs the others
        x = rng.uniform(0.8, 1.3, n) * np.where(at % 16 == 0, 1e-3, 1) * rng.choice([-1, 1], n)
    else:
        faint = np.where(at == 1, rng.uniform(-1, 1), at == 0) * 1e-6
        x = np.where(at < 32, faint, x * (family == "two faint in front"))
    return x.astype(np.float32)


def _for_splits(family: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """f32[n] of a family that a search for the best split in three decides by its last bits."""
    if family == "loud among faint":
        # What counts lies far below the largest of its run, so that squares of errors underflow, but not those of sums
        x = rng.standard_normal(n) * 10.0 ** rng.uniform(-45, -20) * (rng.random(n) < rng.choice([0.2, 1]))
        x[np.arange(0, n, 16) + rng.integers(0, 16, n // 16)] = 10.0 ** rng.uniform(0, 18.5)
        return x.astype(np.float32)
    if family == "two loud":
        # Where these do not count, errors vanish, squares of sums are a few of the least numbers, and sums may be 0
        x, loud = np.zeros((n // 16, 16)), 2.0 ** rng.integers(0, 60)
        run = x[rng.integers(0, n // 16)]
        run[:] = rng.integers(-2, 3, 16) * 2.0 ** -rng.integers(71, 78) / (loud / 8)
        run[rng.choice(16, 2, replace=False)] = loud
        return x.reshape(-1).astype(np.float32)
    if family == "least of all":
        # So small that scales may vanish, and one that does not count, so that sums of products do not
        x, size = np.zeros((n // 16, 16)), 2.0 ** (rng.integers(0, 26) - 149)
        run = x[rng.integers(0, n // 16)]
        run[:] = rng.integers(-2, 3, 16) * size * (rng.random(16) < rng.choice([0.1, 1]))
        run[rng.integers(0, 16)] = 2.0**61
        return x.reshape(-1).astype(np.float32)
    # What the grid of IQ1_S holds, at scales between two odd shares of the largest
    scales = rng.choice([2, 6, 10, 14], n // 32)
    scales[rng.integers(0, n // 32)] = 15
    rows = codebooks.grid("IQ1_S")[rng.integers(0, 2048, n // 8)].reshape(-1, 32)
    return (scales[:, None] * (8 * rows + rng.choice([-1, 1], (n // 32, 1)))).reshape(-1).astype(np.float32)


def of_scales(f: Format, family: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """f32[n]: sub-blocks of given scales, far apart or whole numbers, or a few gaussian ones among zeros.

    "below zero": most sub-blocks hold nothing positive, so that a scale can be negative where a single weight counts.
    """
    sub = 16 if any(field.name == "scales" and field.count == 16 for field in f.layout.fields) else 32
    runs = (n + sub - 1) // sub
    if family == "few runs":
        scales = rng.uniform(0, 10, runs) * (rng.random(runs) < 0.2)
        return (rng.standard_normal(n) * np.repeat(scales, sub)[:n]).astype(np.float32)
    if family == "below zero":
        scales = 2.0 ** rng.uniform(-4, 0, runs) * (rng.random(runs) < rng.choice([0.1, 0.5, 1]))
        top = np.repeat(rng.uniform(-2, 0.5, runs), sub)[:n]
        return ((top - abs(rng.standard_normal(n))) * np.repeat(scales, sub)[:n]).astype(np.float32)
    codes = rng.integers(-rng.integers(0, 4), 4, n)
    scales = 2.0 ** rng.uniform(-6, 0, runs)
    if family == "whole scales":
        scales = rng.integers(0, 2 ** rng.integers(1, 6), runs) * (rng.random(runs) < rng.uniform(0.2, 1))
    return (codes * np.repeat(scales, sub)[:n]).astype(np.float32)


def between_codes(f: Format, rng: np.random.Generator, n: int) -> np.ndarray:
    """f32[n]: halfway between what two blocks of the same scales decode to, so that many lie between two codes."""
    pair = inputs.usual_blocks(f, rng, n // f.block_size)[None].repeat(2, axis=0)
    for field in f.layout.fields:
        if field.name in ("qs", "ql"):
            part = f.layout.span(field.name)
            pair[1][:, part] ^= rng.integers(0, 256, pair[1][:, part].shape, dtype=np.uint8)
    with np.errstate(all="ignore"):
        values = api.decode(f.name, pair, lane="numpy").reshape(2, n) / 2
    x = (values[0] + values[1]).astype(np.float32)
    return np.where(np.isfinite(x), x, np.float32(0))
