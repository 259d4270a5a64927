"""`python -m golden.mutants [--derived] [--format=NAME] [--kind=KIND]` runs every known bug against the vectors.

Prints a line for each: the first test that tells it from the reference. Exit code 1 where one survives: a hole in the
vectors. With --derived the bugs are those derived from the definition: prints survivors alone, and counts the others.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from golden import derived, judge
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.known_bugs import BUGS, KINDS, Bug

# Encoders are slow, and most bugs show in the first test.
BATCH = {"decode": 1 << 30, "encode": 1, "dot": 1 << 30}


class Killed(NamedTuple):
    bug: Bug
    test: dict[str, Any] | None  # the first that tells the bug from the reference; None where none does
    group: str


@functools.lru_cache(maxsize=4)
def _content(format: str, operation: str) -> dict[str, Any]:
    return judge.load(format, operation)


def run(bugs: Iterable[Bug]) -> Iterator[Killed]:
    """The first test that each bug fails, file after file."""
    order = {(f, op): i for i, (f, op) in enumerate((f, op) for f in LLAMA_CPP for op in judge.GIVEN)}
    for bug in sorted(bugs, key=lambda bug: order[bug.format, bug.operation]):
        content = _content(bug.format, bug.operation)
        test = next(judge.failing(content, bug.run, 1 if bug.spans else BATCH[bug.operation]), None)
        groups = (group["name"] for group in content["groups"] if test in group["tests"])
        yield Killed(bug, test, next(groups, ""))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m golden.mutants", description=__doc__.splitlines()[2])
    parser.add_argument("--format", choices=LLAMA_CPP, help="only the bugs of one format")
    parser.add_argument("--kind", help="only the bugs of one kind")
    parser.add_argument("--derived", action="store_true", help="bugs derived from the definition, site by site")
    args = parser.parse_args(argv)
    if args.derived:
        return derived.main([args.format] if args.format else list(LLAMA_CPP), args.kind)
    if args.kind not in (None, *KINDS):
        parser.error(f"no kind is called {args.kind!r}")
    bugs = [bug for bug in BUGS if args.format in (None, bug.format) and args.kind in (None, bug.kind)]
    survivors = 0
    for killed in run(bugs):
        bug, test = killed.bug, killed.test
        survivors += test is None
        found = "SURVIVES" if test is None else f"{test['id']}  {killed.group}  {' '.join(test['flags'])}".rstrip()
        print(f"{bug.name:<56} {bug.kind:<20} {found}")
    print(f"\n{len(bugs) - survivors} of {len(bugs)} known bugs are caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
