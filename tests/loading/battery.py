"""The rules against the release: `python -m tests.loading.battery [--pairs N] [--variant V] [NAME ...]`.

Every mutation of every tiny model is judged here and loaded there. Whatever the release refuses must never be judged
"loads", and whatever it loads never "will not load". Printed are the disagreements, and how many were judged how.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from hifi_ref.loading import judge
from hifi_ref.model_files.gguf_file import GgufError, open_gguf
from reference.loader import Outcome, outcomes
from tests.loading import mutations
from tests.loading.models import SOUND
from tests.loading.mutations import Mutation

BATCH = 250


def compare(cases: Iterable[Mutation], variant: str = "x64") -> tuple[Counter[str], list[str]]:
    """How many cases were judged how, and a line for each disagreement."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for batch in _batches(cases):
        with tempfile.TemporaryDirectory() as folder:
            paths = [model.write(Path(folder) / f"{i}.gguf") for i, (_, model) in enumerate(batch)]
            for (label, _), path, outcome in zip(batch, paths, outcomes(paths, variant), strict=True):
                kind, sentence = _judged(path)
                counts[f"{kind}, {'loaded' if outcome.loads else 'refused'}"] += 1
                if _disagree(kind, outcome):
                    wrong.append(f"{label}: judged {kind} ({sentence}); the release: {outcome.stage} {outcome.message}")
    return counts, wrong


def _judged(path: Path) -> tuple[str, str]:
    try:
        verdict = judge([open_gguf(path)])
    except GgufError as error:
        return "unsound", str(error)
    return verdict.kind, "; ".join(part.sentence for part in (verdict.problems or verdict.notes)[:2])


def _disagree(kind: str, outcome: Outcome) -> bool:
    return (kind == "loads" and not outcome.loads) or (kind in ("will not load", "no model") and outcome.loads)


def _batches(cases: Iterable[Mutation]) -> Iterator[list[Mutation]]:
    rest = iter(cases)
    while batch := list(islice(rest, BATCH)):
        yield batch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SOUND)}")
    parser.add_argument("--pairs", type=int, default=300, help="mutations in twos and threes for each model")
    parser.add_argument("--variant", default="x64", help="the CPU backend's build")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    failed = 0
    for name in options.names or SOUND:
        cases = [*mutations.all_of(name), *mutations.pairs(name, options.pairs)]
        counts, wrong = compare(cases, options.variant)
        total += counts
        failed += len(wrong)
        print(f"{name}: {len(cases)} cases, {len(wrong)} disagreements", *wrong, sep="\n  ", flush=True)
    print(f"{total.total()} cases, {failed} disagreements")
    for kind, count in sorted(total.items()):
        print(f"  {kind}: {count}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
