"""Bugs derived from the definition: they change nothing but the answer, and the golden vectors tell them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from golden import derived, hard_rows, judge, mutants, near_misses, redundant, thresholds
from golden.vectors import hexed
from hifi_ref import api
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.known_bugs.derived import Derived, derived_bugs, equivalent, importances, quantities
from hifi_ref.known_bugs.derived.orders import orders
from tests.test_golden import numpy_lane

SAMPLE = ("Q4_0", "Q8_0", "IQ4_NL")
# Encoders without a search, but Q4_0 and Q5_0, which search with importance.
SMALL = (
    "F16", "BF16", "Q8_0", "Q8_1", "Q8_K", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4",
)  # fmt: skip


def one_of_each_kind(format: str, operation: str) -> list[Derived]:
    by_kind = {bug.kind: bug for bug in derived_bugs(format, operation)}
    return list(by_kind.values())


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize("operation", ["decode", "dot"])
def test_none_survives(name: str, operation: str) -> None:
    outcomes = list(derived.run(name, operation))
    assert not [found.bug.name for found in outcomes if found.outcome == derived.SURVIVES]
    counts = Counter(found.outcome for found in outcomes)
    assert counts[derived.KILLED] >= 15 and bool(counts[derived.ACCEPTED]) == (operation == "dot")


@pytest.mark.parametrize("name", SMALL)
def test_no_bug_of_a_small_encoder_survives(name: str) -> None:
    outcomes = list(derived.run(name, "encode"))
    assert not [found.bug.name for found in outcomes if found.outcome == derived.SURVIVES]


def test_what_conform_accepts_is_no_kill() -> None:
    """Q8_0 with ties to even is what SIMD encoders write; with ties cut off it is wrong."""
    rounded = [bug for bug in derived_bugs("Q8_0", "encode") if bug.change.startswith("exact.round_half_away")]
    outcomes = {found.bug.change.partition("-> ")[2].partition("(")[0]: found for found in outcomes_of(rounded)}
    assert (outcomes["whole_half_even"].outcome, outcomes["whole_half_even"].by) == (derived.ACCEPTED, "simd-ties")
    assert outcomes["whole_towards_zero"].outcome == derived.KILLED


def outcomes_of(bugs: list[Derived]) -> list[derived.Outcome]:
    names = {bug.name for bug in bugs}
    return list(derived.run(bugs[0].format, bugs[0].operation, lambda bug: bug.name in names))


def test_names_are_unique_and_say_where() -> None:
    bugs = derived_bugs("Q4_K", "decode")
    assert len({bug.name for bug in bugs}) == len(bugs)
    assert any("k_scales.unpack" in bug.site and "first four bytes" in bug.says for bug in bugs)
    assert derived_bugs("Q4_K", "decode") is bugs


def test_every_operation_has_bugs() -> None:
    for name, f in LLAMA_CPP.items():
        for operation in ("decode", "encode", "dot"):
            assert getattr(f, operation) is None or derived_bugs(name, operation), (name, operation)


def test_what_encoders_take_is_answered_otherwise_in_every_way() -> None:
    """These ways know the definition by its text: where that changes they must be found again."""
    said = {bug.says for f in LLAMA_CPP.values() if f.encode for bug in derived_bugs(f.name, "encode")}
    beginnings = [
        *(f"Errors count {says}" for says in importances.IMPORTANCE),
        *(f"Takes the importance {says}" for says in importances.ROOTS.values()),
        *(f"Takes the mean square {says}" for says in importances.MEAN_SQUARES.values()),
        *quantities.AGAIN.values(),
        "Takes the root of mean square + x^2, not root mean square + |x|", "Tries the steps (-0.9, 0.05, 36)",
        "Tries 6 steps on each side", "Tries scales 0.05 apart", "Begins with 0, not below all numbers",
        "Begins the search for the largest with the smallest normal number", "Begins the search for the smallest",
        "Has 1.125 in the place of 1.1125", "Has 0.2 in the place of 0.1", "Takes all below 1e-08 for nothing",
        "Divides, where the inverse is to be inverted", "Takes the reciprocal of the inverse, also where that is 0",
    ]  # fmt: skip
    assert [one for one in beginnings if not any(says.startswith(one) for says in said)] == []


@pytest.mark.parametrize("n", [4, 12, 16, 128])
def test_each_order_is_another_one_within_its_run(n: int) -> None:
    found = [order.taken for order in orders(n).values()]
    assert len({taken.tobytes() for taken in [*found, np.arange(n)]}) == len(found) + 1 >= 9
    assert all(taken.size == n and 0 <= taken.min() <= taken.max() < n for taken in found)
    beyond = orders(16, beyond=True)["long 8"].taken
    assert np.array_equal(beyond, [*range(8), *range(16, 24)]) and "long 8" not in orders(16)


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


@pytest.mark.parametrize("name", ["Q8_0", "Q2_K", "Q4_K"])
def test_recipes_give_the_rows_that_are_kept_as_vectors(name: str) -> None:
    f = LLAMA_CPP[name]
    rows = [hard_rows.row(f, recipe) for recipe in near_misses.recipes(f)]
    kept = {(test["weights"], test["importance"]) for test in judge.all_tests(judge.load(name, "encode"))}
    assert rows and all((hexed(x), None if w is None else hexed(w)) in kept for x, w in rows)


def test_the_search_finds_what_kills() -> None:
    f = LLAMA_CPP["Q8_0"]
    bug = next(bug for bug in derived_bugs("Q8_0", "encode") if "whole_towards_zero" in bug.change)
    recipe, killed = next(near_misses.search(f, [bug]))
    x, importance = hard_rows.row(f, recipe)
    assert killed == [bug.name]
    assert not np.array_equal(bug.run(x[None], importance), api.encode("Q8_0", x[None], importance, lane="numpy"))


def test_rows_at_a_threshold_differ_in_a_last_bit() -> None:
    f = LLAMA_CPP["Q4_0"]
    x = np.random.default_rng(5).standard_normal((40, 32)).astype(np.float32)
    at = abs(x).argmax(axis=1)
    rows, values = thresholds.thresholds(f, x, None, at, x[np.arange(40), at] * np.float32(1.5))
    assert len(rows) > 30
    numbers = thresholds.ordered(values)
    assert (abs(numbers[:, 1] - numbers[:, 0]) == 1).all()
    assert np.array_equal(thresholds.floats(numbers).view(np.uint32), values.view(np.uint32))
    before, behind = x[rows], x[rows]
    before[np.arange(len(rows)), at[rows]], behind[np.arange(len(rows)), at[rows]] = values.T
    blocks = [api.encode("Q4_0", one, lane="numpy") for one in (x[rows], before, behind)]
    assert np.array_equal(blocks[0], blocks[1]) and (blocks[1] != blocks[2]).any(axis=1).all()


def test_a_threshold_is_of_the_kind_that_is_asked_for() -> None:
    f, rows = LLAMA_CPP["Q2_K"], np.arange(24)
    x = np.random.default_rng(5).standard_normal((24, 256)).astype(np.float32)
    bytes_changed = {}
    for kind, field in (("any", None), ("scale", ("d", "dmin")), ("sub-scale", ("scales",)), ("jump", None)):
        found, values = thresholds.thresholds(f, x, None, rows, x[rows, rows] + 2, kind)
        both = x[found][:, None].repeat(2, axis=1)
        both[np.arange(len(found)), :, rows[found]] = values
        before, behind = api.encode("Q2_K", both.reshape(-1, 256), lane="numpy").reshape(-1, 2, 84).swapaxes(0, 1)
        changed = {name: (before != behind)[:, f.layout.span(name)].any(axis=1) for name in f.layout.names}
        assert len(found) > 3 and (field is None or np.any([changed[name] for name in field], axis=0).all())
        bytes_changed[kind] = (before != behind).sum(axis=1).mean()
    assert bytes_changed["jump"] > bytes_changed["any"]


def test_the_scale_of_iq1_m_stands_above_those_of_its_sub_blocks() -> None:
    blocks = np.zeros((3, 56), np.uint8)
    blocks[1, 49], blocks[2, 48] = 0x10, 0x01
    found = [
        thresholds.changes(LLAMA_CPP["IQ1_M"], kind, blocks[[0, 0]], blocks[1:]) for kind in ("scale", "sub-scale")
    ]
    assert np.array_equal(found, [[1, 0], [0, 1]])


def test_what_is_called_equivalent_is_refuted_by_no_hard_row() -> None:
    refuted = []
    for name in ("Q2_0", "Q8_K", "MXFP4", "NVFP4"):
        bugs = [found.bug for found in derived.run(name, "encode") if found.outcome == derived.EQUIVALENT]
        batch = next(near_misses.batches(LLAMA_CPP[name]))
        refuted += [bug.name for bug in bugs if (near_misses.answer(bug, batch) != batch.blocks).any()]
    assert not refuted


@pytest.mark.parametrize("name", ["IQ4_XS", "Q3_K", "IQ1_M"])
def test_no_vector_refutes_a_rule_about_a_search(name: str) -> None:
    outcomes = list(derived.run(name, "encode", lambda bug: equivalent.reason(bug) is not None))
    assert outcomes and not [found.bug.name for found in outcomes if found.outcome == derived.KILLED]


def test_the_command_prints_the_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--derived", "--format=Q8_0", "--kind=field"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Q8_0     decode") and lines[-1].endswith(" 0 survive")


def test_a_vector_is_redundant_where_others_have_all_that_it_has() -> None:
    items = {"a": {1, 2}, "b": {2, 3}, "c": {1, 3}, "d": {4}, "e": {4}}
    assert redundant.redundant(items) == ["e", "c"]
    assert redundant.redundant({"a": {1}, "b": {2}}) == []
    found = redundant.items_of("Q8_1", "encode")
    assert found.keys() == {test["id"] for test in judge.all_tests(judge.load("Q8_1", "encode"))}
    kinds = {type(item) for of in found.values() for item in of}
    assert kinds == {str, tuple} and any("q8_1.encode" in str(item) for of in found.values() for item in of)
