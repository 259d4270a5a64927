"""Weights that tell bugs from the reference which no other vector tells: found by search, kept as recipes.

`python -m golden.near_misses FORMAT` tries hard weights, batch after batch, on every derived bug that survives; it adds
the rows that kill to near_misses.json. A recipe is [family, seed, importance, seed of the importance]: few numbers, and
the same row each time. Then `python -m golden.generate` makes vectors of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from golden import derived
from hifi_ref import api
from hifi_ref.formats import LLAMA_CPP, Format
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.known_bugs.derived import Derived

FILE = Path(__file__).resolve().parent / "near_misses.json"
Recipe = tuple[str, int, str, int]
FAMILIES = (
    "halves", "whole numbers", "gauss", "near ties", "mixed scales", "ties", "heavy tails", "one magnitude", "sparse",
    "ternary", "positive", "powers of two", "sorted", "faint runs", "edge of subnormal", "gauss 1e-08", "gauss 1e-20",
    "gauss 1e+12", "overflow",
)  # fmt: skip
SECONDS = 120


def row(f: Format, recipe: Recipe) -> tuple[np.ndarray, np.ndarray | None]:
    """float32[n] weights, and their importance or None."""
    family, seed, kind, importance_seed = recipe
    n = max(f.block_size, 32)
    rng = np.random.default_rng([seed, len(family)])
    if family == "whole numbers":
        x = rng.integers(-(2 ** rng.integers(1, 6)), 2 ** rng.integers(1, 6), n).astype(np.float32)
    elif family == "halves":
        x = between_codes(f, rng, n)
    else:
        x = inputs.weights(family, rng, 1, n)[0]
    if kind == "even":
        return x, np.ones(n, np.float32)
    return x, inputs.importance(kind, importance_seed, n)


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


def recipes(f: Format) -> list[Recipe]:
    """What was found for a format."""
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    return [tuple(recipe) for recipe in kept.get(f.name, [])]


def batches(f: Format) -> Iterator[list[Recipe]]:
    """Rows that share an importance, of every family."""
    kinds = (("even", 0),) if f.requires_weights else (("none", 0),)
    others = (("lognormal", 1), ("even", 0), ("sparse", 2), ("steep", 3))
    for seed in range(10_000):
        for kind, importance_seed in (*kinds, others[seed % 4]):
            yield [(family, 2 * seed + i, kind, importance_seed) for i in (0, 1) for family in FAMILIES]


def search(f: Format, survivors: Iterable[Derived], seconds: float = SECONDS) -> Iterator[tuple[Recipe, int]]:
    """Rows that kill survivors, each with how many it kills; until none survives or the time is over."""
    left, until = list(survivors), time.monotonic() + seconds
    for batch in batches(f):
        if not left or time.monotonic() > until:
            break
        given = [row(f, recipe) for recipe in batch]
        x, importance = np.stack([x for x, _ in given]), given[0][1]
        right = api.encode(f.name, x, importance, lane="numpy")
        told = {bug.name: (answer(bug, x, importance, right) != right).any(axis=1) for bug in left}
        while any(rows.any() for rows in told.values()):
            best = int(np.argmax(np.sum(list(told.values()), axis=0)))
            killed = [name for name, rows in told.items() if rows[best]]
            yield batch[best], len(killed)
            told = {name: rows for name, rows in told.items() if name not in killed}
        left = [bug for bug in left if bug.name in told]


def answer(bug: Derived, x: np.ndarray, importance: np.ndarray | None, right: np.ndarray) -> np.ndarray:
    try:
        found = bug.run(x, importance)
    except derived.ERRORS:
        return right
    return found if found.shape == right.shape else right


def main(names: list[str]) -> int:
    for name in names:
        f = LLAMA_CPP[name]
        survivors = [found.bug for found in derived.run(name, "encode") if found.outcome == derived.SURVIVES]
        save(f, [recipe for recipe, _ in search(f, survivors)])
    return 0


def save(f: Format, found: list[Recipe]) -> None:
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    kept[f.name] = [*kept.get(f.name, []), *found]
    lines = [
        f" {json.dumps(name)}: [\n  " + ",\n  ".join(map(json.dumps, of)) + "\n ]" for name, of in kept.items() if of
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
