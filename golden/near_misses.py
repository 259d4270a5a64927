"""Weights that tell bugs from the reference which no other vector tells: found by search, kept as recipes.

`python -m golden.near_misses FORMAT [--seconds=N]` tries hard weights, batch after batch, on every derived bug of the
encoder that survives; it adds the rows that kill to near_misses.json. Half of the rows lie at thresholds of the encoder
(thresholds.py). Then `python -m golden.generate` makes vectors of them. With --equivalent it tries the bugs that are
called equivalent, keeps nothing, and prints what tells one of them all the same.

What a recipe is stands in hard_rows.py.
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
from golden.hard_rows import FAMILIES, OTHERS, Recipe, row
from golden.weights import undefined_in_c
from hifi_ref import api
from hifi_ref.conform import judge
from hifi_ref.conform.cases import Case, Suite
from hifi_ref.formats import LLAMA_CPP, Format
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.known_bugs.derived import Derived
from reference import refusals

FILE = Path(__file__).resolve().parent / "near_misses.json"
SECONDS = 120
# Rows of a batch, about: more weights at a time cost little more.
WEIGHTS = 1 << 15
# How far a weight is moved at most, of the largest of its row.
DISTANCES = (1.0, 0.3, 0.1, 0.01, 0.001)


class Batch(NamedTuple):
    """Rows of one importance that the release encodes, and that all builds of it encode alike."""

    recipes: list[Recipe]
    x: np.ndarray
    importance: np.ndarray | None
    blocks: np.ndarray  # by the pinned release


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
