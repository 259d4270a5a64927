"""Weights that tell bugs from the reference which no other vector tells: found by search, kept as recipes.

`python -m golden.near_misses FORMAT [--seconds=N]` tries hard weights, batch after batch, on every derived bug of the
encoder that survives; it adds the rows that kill to near_misses.json. Half of the rows lie at thresholds of the encoder
(thresholds.py). Then `python -m golden.generate` makes vectors of them. With --equivalent it tries the bugs that are
called equivalent, keeps nothing, and prints what tells one of them all the same.

A recipe is [family, seed, importance, seed of the importance], then, where a weight is moved to a threshold, its number
and its value, and behind these the number of blocks if there are several: the same row each time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from golden import derived, thresholds
from golden.weights import UNDEFINED_BELOW, undefined_in_c
from hifi_ref import api
from hifi_ref.conform import judge
from hifi_ref.conform.cases import Case, Suite
from hifi_ref.formats import LLAMA_CPP, Format
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.known_bugs.derived import Derived
from reference import refusals

FILE = Path(__file__).resolve().parent / "near_misses.json"
FAMILIES = (
    "halves", "whole numbers", "gauss", "near ties", "mixed scales", "ties", "heavy tails", "one magnitude", "sparse",
    "ternary", "positive", "powers of two", "sorted", "faint runs", "edge of subnormal", "gauss 1e-08", "gauss 1e-20",
    "gauss 1e+12", "overflow", "signed zeros", "least magnitudes", "least scales",
    "constant", "huge runs", "one alone", "scales apart", "whole scales", "few runs", "below zero",
)  # fmt: skip
# Importance with a seed each, in turn
OTHERS = (
    ("lognormal", 1), ("even", 0), ("sparse", 2), ("steep", 3), ("gaps", 4), ("faint", 5), ("runs", 6), ("alone", 7),
    ("huge", 8), ("one alone", 10), ("one alone 32", 12),
)  # fmt: skip
# Importance by runs of 16 or 32 weights
RUNS = ("runs", "alone", "one alone", "one alone 32")
# Magnitudes that searches compare with: groups below them count as zero, errors below them as none.
LEAST = (1e-15, 1e-15, 1e-14, 1e-8)
SECONDS = 120
# Rows of a batch, about: more weights at a time cost little more.
WEIGHTS = 1 << 15
# How far a weight is moved at most, of the largest of its row.
DISTANCES = (1.0, 0.3, 0.1, 0.01, 0.001)


class Recipe(NamedTuple):
    family: str
    seed: int
    importance: str
    importance_seed: int
    at: int = -1  # which weight is moved; -1 for none
    value: float = 0.0
    blocks: int = 1


class Batch(NamedTuple):
    """Rows of one importance that the release encodes, and that all builds of it encode alike."""

    recipes: list[Recipe]
    x: np.ndarray
    importance: np.ndarray | None
    blocks: np.ndarray  # by the pinned release


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
    if kind in RUNS:
        return _of_runs(kind, np.random.default_rng(seed), n)
    if kind not in ("gaps", "faint", "huge"):
        return inputs.importance(kind, seed, n)
    drawn = inputs.importance("lognormal", seed, n)
    assert drawn is not None
    # Whole runs without any; or so little that products underflow; or so much that errors of faint weights count
    return (drawn * {"gaps": np.arange(n) // 32 % 2, "faint": 1e-32, "huge": 1e25}[kind]).astype(np.float32)


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
        least = np.float32(rng.choice(LEAST)) * rng.choice([-1, 1]) * 2.0 ** rng.integers(0, 9)
        return np.where(np.arange(n) == rng.integers(0, n), least, 0).astype(np.float32)
    if family in ("least magnitudes", "least scales"):
        x = rng.uniform(-1, 1, n)
        x[rng.integers(0, n)] = rng.choice([-1, 1])
        # The largest is one that is compared with, or a neighbour; or its scale may be; or has just a finite inverse
        least = np.float32(rng.choice(LEAST)) * (1 + rng.integers(-1, 2) * 2.0**-23)
        least *= rng.choice([1, 2.0 ** rng.uniform(0, 8)])
        if family == "least scales":
            least = UNDEFINED_BELOW.get(f.name, 1) * 2.0**-128 * rng.uniform(1, 4)
        return (x * least).astype(np.float32)
    if family in ("scales apart", "whole scales", "few runs", "below zero"):
        return of_scales(f, family, rng, n)
    return inputs.weights(family, rng, 1, n)[0]


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


def recipes(f: Format, file: Path = FILE) -> list[Recipe]:
    """What was found for a format."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    return [Recipe(*recipe) for recipe in kept.get(f.name, [])]


def batches(f: Format, first: int = 0) -> Iterator[Batch]:
    """Rows of every family and rows at thresholds, one importance after the other."""
    kinds = (("even", 0),) if f.requires_weights else (("none", 0),)
    each = max(1, WEIGHTS // (max(f.block_size, 32) * 3 * len(FAMILIES)))
    for seed in range(first, 10_000):
        # The mean square of a row is divided by its length, exactly where that is a power of two
        blocks = 3 if seed % 3 == 2 and f.row_scoped else 1
        for kind, importance_seed in (*kinds, OTHERS[seed % len(OTHERS)]):
            seeds = range(each * seed, each * (seed + 1))
            drawn = [Recipe(name, s, kind, importance_seed, blocks=blocks) for s in seeds for name in FAMILIES]
            yield _batch(f, [*drawn, *_moved(f, drawn, np.random.default_rng([seed, f.type_id or 0]))])


def _moved(f: Format, drawn: list[Recipe], rng: np.random.Generator) -> list[Recipe]:
    """Two recipes a row and kind of threshold: a weight just before and just behind it."""
    given = [row(f, recipe) for recipe in drawn]
    x, importance = np.stack([x for x, _ in given]), given[0][1]
    rows, found = np.arange(len(x)), []
    for kind in thresholds.KINDS:
        # The largest decides most, and the smallest moves in the finest steps
        at = np.where(rng.random(len(x)) < 0.3, abs(x).argmax(axis=1), rng.integers(0, x.shape[1], len(x)))
        at = np.where(rng.random(len(x)) < 0.2, abs(x).argmin(axis=1), at)
        far = rng.uniform(-1, 1, len(x)) * rng.choice(DISTANCES, len(x)) * abs(x).max(axis=1)
        to = np.clip(x[rows, at] + far, -inputs.LARGEST, inputs.LARGEST).astype(np.float32)
        for i, both in zip(*thresholds.thresholds(f, x, importance, at, to, kind), strict=True):
            found += [drawn[i]._replace(at=int(at[i]), value=float(str(value))) for value in both]
    return found


def _batch(f: Format, found: list[Recipe]) -> Batch:
    given = [row(f, recipe) for recipe in found]
    x, importance = np.stack([x for x, _ in given]), given[0][1]
    blocks, accepted = refusals.encode_or_refuse(f.name, x, importance)
    # Where other builds of the release write other blocks, conform accepts what is as close
    elsewhere = api.encode(f.name, x, importance, lane="numpy", profile="clang-arm64")
    alike = judge.agreement(Suite(f.layout, "encode", ()), elsewhere.reshape(-1), blocks.reshape(-1))
    kept = accepted & ~undefined_in_c(f, x) & alike.reshape(blocks.shape).all(axis=1)
    return Batch([recipe for recipe, one in zip(found, kept, strict=True) if one], x[kept], importance, blocks[kept])


def search(
    f: Format, survivors: Iterable[Derived], seconds: float = SECONDS, first: int = 0
) -> Iterator[tuple[Recipe, list[str]]]:
    """Rows that kill survivors, each with the names of those; until none survives or the time is over."""
    left, until = list(survivors), time.process_time() + seconds
    for batch in batches(f, first):
        told: dict[str, np.ndarray] = {}
        for bug in left:
            if time.process_time() > until:
                break
            told[bug.name] = _told(f, bug, batch)
        while any(rows.any() for rows in told.values()):
            best = int(np.argmax(np.sum(list(told.values()), axis=0)))
            killed = [name for name, rows in told.items() if rows[best]]
            yield batch.recipes[best], killed
            told = {name: rows for name, rows in told.items() if name not in killed}
            left = [bug for bug in left if bug.name not in killed]
        if not left or time.process_time() > until:
            break


def _told(f: Format, bug: Derived, batch: Batch) -> np.ndarray:
    """bool[rows]: where conform fails the bug."""
    found = answer(bug, batch)
    told = (found != batch.blocks).any(axis=1)
    suite = Suite(f.layout, "encode", ())
    for i in np.flatnonzero(told):
        given = {"weights": batch.x[i], "importance": batch.importance}
        case = Case("", "", (), "valid", given, batch.blocks[i])
        told[i] = judge.compare(suite, case, found[i]).outcome in judge.FAILED
    return told


def answer(bug: Derived, batch: Batch) -> np.ndarray:
    try:
        found = bug.run(batch.x, batch.importance)
    except derived.ERRORS:
        return batch.blocks
    return found if found.shape == batch.blocks.shape else batch.blocks


def save(f: Format, found: list[Recipe], file: Path = FILE) -> None:
    kept = json.loads(file.read_text()) if file.exists() else {}
    kept[f.name] = [*kept.get(f.name, []), *map(_short, found)]
    lines = [
        f" {json.dumps(name)}: [\n  " + ",\n  ".join(map(json.dumps, of)) + "\n ]" for name, of in kept.items() if of
    ]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _short(recipe: Recipe) -> list:
    if recipe.blocks > 1:
        return list(recipe)
    return list(recipe[:6] if recipe.at >= 0 else recipe[:4])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m golden.near_misses", description=__doc__.splitlines()[0])
    parser.add_argument("formats", nargs="+", choices=LLAMA_CPP, metavar="FORMAT")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long to search for each format, in time of this process"
    )
    parser.add_argument("--equivalent", action="store_true", help="try the bugs that are called equivalent")
    args = parser.parse_args(argv)
    wanted = (derived.EQUIVALENT,) if args.equivalent else (derived.SURVIVES, derived.ACCEPTED)
    refuted = 0
    for name in args.formats:
        f = LLAMA_CPP[name]
        bugs = [found.bug for found in derived.run(name, "encode") if found.outcome in wanted]
        found = list(search(f, bugs, args.seconds))
        killed = [bug for _, names in found for bug in names]
        print(f"{name}: {len(killed)} of {len(bugs)} told by {len(found)} rows", flush=True)
        if not args.equivalent:
            save(f, [recipe for recipe, _ in found])
        elif killed:
            refuted += len(killed)
            print("\n".join(killed))
    return 1 if refuted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
