"""Bugs derived from the definition: they change nothing but the answer, and the golden vectors tell them."""

from __future__ import annotations

import numpy as np
import pytest

from golden import derived, judge, mutants, near_misses
from hifi_ref import api
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.known_bugs.derived import Derived, derived_bugs, equivalent
from tests.test_golden import numpy_lane

SAMPLE = ("Q4_0", "Q8_0", "IQ4_NL")


def one_of_each_kind(format: str, operation: str) -> list[Derived]:
    by_kind = {bug.kind: bug for bug in derived_bugs(format, operation)}
    return list(by_kind.values())


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize("operation", ["decode", "dot"])
def test_none_survives(name: str, operation: str) -> None:
    outcomes = list(derived.run(name, operation))
    assert not [found.bug.name for found in outcomes if found.outcome == derived.SURVIVES]
    assert sum(found.outcome == derived.KILLED for found in outcomes) >= 15


def test_one_of_each_kind_of_an_encoder_is_caught_or_equivalent() -> None:
    sample = {bug.name for bug in one_of_each_kind("Q8_0", "encode")}
    assert len(sample) >= 8
    outcomes = list(derived.run("Q8_0", "encode", lambda bug: bug.name in sample))
    assert not [found.bug.name for found in outcomes if found.outcome == derived.SURVIVES]


def test_names_are_unique_and_say_where() -> None:
    bugs = derived_bugs("Q4_K", "decode")
    assert len({bug.name for bug in bugs}) == len(bugs)
    assert any("k_scales.unpack" in bug.site and "first four bytes" in bug.says for bug in bugs)
    assert derived_bugs("Q4_K", "decode") is bugs


def test_the_definition_is_itself_again_after_a_bug_has_run() -> None:
    content = judge.load("Q5_0", "decode")
    for bug in one_of_each_kind("Q5_0", "decode"):
        list(judge.failing(content, numpy_lane("Q5_0", "decode")))
        try:
            bug.run(np.zeros((2, 22), np.uint8))
        except derived.ERRORS:
            pass
        assert not list(judge.failing(content, numpy_lane("Q5_0", "decode"))), bug.name


def test_every_rule_of_equivalence_has_a_bug() -> None:
    cells = [("Q1_0", "dot"), ("Q8_1", "decode"), ("Q4_K", "dot"), ("TQ1_0", "decode"), ("Q3_K", "dot")]
    reasons = {equivalent.reason(bug) for cell in cells for bug in derived_bugs(*cell)}
    assert len(reasons - {None}) >= 10


def test_recipes_give_the_rows_that_are_kept_as_vectors() -> None:
    f = LLAMA_CPP["Q8_0"]
    rows = [near_misses.row(f, recipe)[0] for recipe in near_misses.recipes(f)]
    kept = [judge.floats(test["weights"]) for test in judge.all_tests(judge.load("Q8_0", "encode"))]
    assert rows and all(any(np.array_equal(row, x) for x in kept) for row in rows)


def test_the_search_finds_what_kills() -> None:
    f = LLAMA_CPP["Q8_0"]
    bug = next(bug for bug in derived_bugs("Q8_0", "encode") if bug.kind == "rounding")
    (recipe, killed), *_ = near_misses.search(f, [bug])
    x, importance = near_misses.row(f, recipe)
    assert killed == 1
    assert not np.array_equal(bug.run(x[None], importance), api.encode("Q8_0", x[None], importance, lane="numpy"))


def test_the_command_prints_the_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--derived", "--format=Q8_0", "--kind=field"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Q8_0     decode") and lines[-1].endswith(" 0 survive")
