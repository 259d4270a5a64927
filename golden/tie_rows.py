"""`python -m golden.tie_rows FORMAT ... [--seconds=N]` looks for weights on ties that no vector of the encoder holds.

Rows of every family and rows at thresholds (near_misses.batches) are encoded while all sites are watched (ties.py).
What is found is kept in tie_rows.json as recipes, as in near_misses.json, and `python -m golden.generate` makes vectors
of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from golden import near_misses, ties
from golden.hard_rows import Recipe
from golden.near_misses import Batch
from hifi_ref.formats import LLAMA_CPP, Format

FILE = Path(__file__).resolve().parent / "tie_rows.json"
SECONDS = 60
Met = set[tuple[ties.Site, ties.Tie]]


def missing(f: Format) -> Met:
    """The ties of the sites that round, as far as the vectors show, that no vector holds."""
    found = ties.of_vectors(f.name, "encode")
    return {(site, tie) for site, met in found.items() for tie in ties.possible(site, met) - met}


def search(f: Format, wanted: Met, seconds: float = SECONDS) -> Iterator[tuple[Recipe, Met]]:
    """Rows that hold some of what is wanted, each with what it holds first; until there is all, or the time is over."""
    left, until = set(wanted), time.process_time() + seconds
    for batch in near_misses.batches(f):
        found = _met(f, batch) & left
        while found and time.process_time() < until:
            one = _halved(f, batch, found)
            held = _met(f, one) & left
            yield one.recipes[0], held
            left, found = left - held, found - held
        if not left or time.process_time() > until:
            return


def _halved(f: Format, batch: Batch, wanted: Met) -> Batch:
    """One row, from the half that holds more of what is wanted."""
    while len(batch.recipes) > 1:
        middle = len(batch.recipes) // 2
        halves = [_part(batch, slice(0, middle)), _part(batch, slice(middle, None))]
        batch = max(halves, key=lambda half: len(_met(f, half) & wanted))
    return batch


def _part(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.recipes[rows], batch.x[rows], batch.importance, batch.blocks[rows])


def _met(f: Format, batch: Batch) -> Met:
    found = ties.met(f.name, "encode", [(batch.x, batch.importance)])
    return {(site, tie) for site, met in found.items() for tie in met}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m golden.tie_rows", description=__doc__.splitlines()[0])
    parser.add_argument("formats", nargs="+", choices=LLAMA_CPP, metavar="FORMAT")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to search, in time of this process")
    args = parser.parse_args(argv)
    for name in args.formats:
        f = LLAMA_CPP[name]
        wanted = missing(f)
        found = list(search(f, wanted, args.seconds))
        near_misses.save(f, [recipe for recipe, _ in found], FILE)
        held = sum(len(met) for _, met in found)
        print(f"{name}: {held} of {len(wanted)} ties in {len(found)} rows", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
