"""Bugs derived from the definition (hifi_ref.known_bugs.derived) against the vectors: golden.mutants --derived.

A vector counts as conform counts it: where C leaves the result undefined, other bits are no failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from golden import judge
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.known_bugs.derived import Derived, derived_bugs, equivalent

KILLED, EQUIVALENT, IMPOSSIBLE, SURVIVES = "killed", "equivalent", "impossible", "SURVIVES"

ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, NameError, AttributeError)


class Outcome(NamedTuple):
    """killed: by ``test``. equivalent: with a reason. impossible: it raises an error, as no implementation would."""

    bug: Derived
    outcome: str
    by: str  # id of a test, or the reason


def run(format: str, operation: str, wanted: Callable[[Derived], bool] = lambda bug: True) -> Iterator[Outcome]:
    """What becomes of each bug of one operation of one format."""
    content = judge.load(format, operation)
    together = [[batch[:1] for batch in judge.batches(content)][:1], list(judge.batches(content))]
    batches = [batch for part in together for batch in part]
    alone = [[test] for batch in judge.batches(content) for test in batch]
    for bug in derived_bugs(format, operation):
        if wanted(bug):
            yield _outcome(content, bug, alone if bug.spans else batches)


def _outcome(content: dict[str, Any], bug: Derived, batches: list[list[dict[str, Any]]]) -> Outcome:
    answered = undefined = False
    for tests in batches:
        try:
            result = np.ascontiguousarray(judge.observed(content, tests, bug.run))
            same = judge.agrees(result if content["operation"] == "encode" else result.astype(np.float32), tests)
        except ERRORS as error:
            if answered:
                return Outcome(bug, KILLED, tests[0]["id"])
            return Outcome(bug, IMPOSSIBLE, f"{type(error).__name__}: {error}")
        answered = True
        for i in np.flatnonzero(~same):
            if tests[i]["result"] != "undefined-in-c":
                return Outcome(bug, KILLED, tests[i]["id"])
            undefined = True
    reason = equivalent.reason(bug)
    if reason is None and undefined:
        reason = "It differs only where C leaves the result undefined."
    return Outcome(bug, SURVIVES, "") if reason is None else Outcome(bug, EQUIVALENT, reason)


def main(formats: list[str], kind: str | None) -> int:
    """Prints every survivor, and a line for each operation of each format."""
    totals: Counter[str] = Counter()
    for format in formats:
        for operation in judge.GIVEN:
            if getattr(LLAMA_CPP[format], operation) is None:
                continue
            counts: Counter[str] = Counter()
            for bug, outcome, _ in run(format, operation, lambda bug: kind in (None, bug.kind)):
                counts[outcome] += 1
                if outcome == SURVIVES:
                    print(f"{outcome} {bug.name}: {bug.says}")
            print(f"{format:<8} {operation:<7} {summary(counts)}", flush=True)
            totals += counts
    print(f"\n{summary(totals)}")
    return 1 if totals[SURVIVES] else 0


def summary(counts: Counter[str]) -> str:
    derived = sum(counts.values()) - counts[IMPOSSIBLE]
    return (
        f"{derived:>5} derived {counts[KILLED]:>5} killed {counts[EQUIVALENT]:>4} equivalent "
        f"{counts[SURVIVES]:>4} survive"
    )
