"""Bugs derived from the definition (hifi_ref.known_bugs.derived) against the vectors: golden.mutants --derived.

A vector counts as conform counts it: other bits are no failure where C leaves the result undefined, within the bound on
every order of additions, or where a deviation is acceptable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from golden import judge
from hifi_ref.conform import cases
from hifi_ref.conform import judge as conform
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.known_bugs.derived import Derived, derived_bugs, equivalent

KILLED, EQUIVALENT, IMPOSSIBLE, SURVIVES = "killed", "equivalent", "impossible", "SURVIVES"
ACCEPTED = "accepted"

# A search that never ends recurses too deep
ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, NameError, AttributeError, RecursionError)


class Outcome(NamedTuple):
    """killed: by a test. equivalent: with a reason. impossible: it raises an error, as no implementation would.

    accepted: wherever its bits are others, conform accepts them.
    """

    bug: Derived
    outcome: str
    by: str  # id of a test, the reason, or what conform calls it


def run(format: str, operation: str, wanted: Callable[[Derived], bool] = lambda bug: True) -> Iterator[Outcome]:
    """What becomes of each bug of one operation of one format."""
    content = judge.load(format, operation)
    suite = cases.read_suite(judge.HERE / judge.DIALECT / f"{format}.{operation}.json")
    together = [[batch[:1] for batch in judge.batches(content)][:1], list(judge.batches(content))]
    batches = [batch for part in together for batch in part]
    alone = [[test] for batch in judge.batches(content) for test in batch]
    for bug in derived_bugs(format, operation):
        if wanted(bug):
            yield _outcome(content, suite, bug, alone if bug.spans else batches)


def _outcome(content: dict[str, Any], suite: cases.Suite, bug: Derived, batches: list[list[dict[str, Any]]]) -> Outcome:
    case_of = {case.id: case for case in suite.cases}
    answered, excused = False, ""
    for tests in batches:
        try:
            result = np.ascontiguousarray(judge.observed(content, tests, bug.run))
            result = result if content["operation"] == "encode" else result.astype(np.float32)
            same = judge.agrees(result, tests)
        except ERRORS as error:
            if answered:
                return Outcome(bug, KILLED, tests[0]["id"])
            return Outcome(bug, IMPOSSIBLE, f"{type(error).__name__}: {error}")
        answered = True
        for i in np.flatnonzero(~same):
            verdict = conform.compare(suite, case_of[tests[i]["id"]], result[i].view(np.uint8))
            if verdict.outcome in conform.FAILED:
                return Outcome(bug, KILLED, tests[i]["id"])
            if verdict.outcome != conform.EXACT and excused in ("", conform.OPEN):
                excused = verdict.deviation or verdict.outcome
    # Whatever a rule says: other bits were seen
    if excused not in ("", conform.OPEN):
        return Outcome(bug, ACCEPTED, excused)
    if reason := equivalent.reason(bug):
        return Outcome(bug, EQUIVALENT, reason)
    if excused:
        return Outcome(bug, EQUIVALENT, "It differs only where C leaves the result undefined.")
    return Outcome(bug, SURVIVES, "")


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
        f"{counts[ACCEPTED]:>4} accepted {counts[SURVIVES]:>4} survive"
    )
