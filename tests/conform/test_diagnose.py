"""Wrong answers are traced to block and field, and every known bug is caught and nearly all are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hifi_ref import api, exact, known_bugs
from hifi_ref.conform import bulk, cases, diagnose, judge, report
from hifi_ref.known_bugs.derived import derived_bugs, functions
from tests.conform.helpers import SUITES, InProcess, Reference, reported


def test_a_wrong_weight_is_traced_to_its_field() -> None:
    class LostBit(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            blocks = blocks.copy()
            blocks[:, 7] &= 0xEF
            return super().decode(name, blocks)

    failure = reported(LostBit(), "Q4_0.decode").failures[0]
    assert (failure.block, failure.field, failure.unit, failure.index) == (0, "qs[5]", "weight", 21)
    assert "as if byte 7" in failure.detail and "(" in failure.expected


def test_a_wrong_byte_is_named_by_its_field() -> None:
    class OtherScale(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            blocks = super().encode(name, x, weights)
            blocks[..., 144 + 2] += 1
            return blocks

    f = SUITES["Q4_K.encode"].layout
    row = np.concatenate([case.given["weights"] for case in SUITES["Q4_K.encode"].cases[:2]])
    case = cases.Case("x", "two blocks", (), "valid", {"weights": row, "importance": None}, api.encode("Q4_K", row))
    suite = cases.Suite(f, "encode", (case,))
    cell = report.cell_report(judge.judge_suite(InProcess(OtherScale()), suite), "python:spoilt")
    assert (cell.failures[0].block, cell.failures[0].field, cell.failures[0].index) == (1, "dmin", 2)


def test_a_wrong_dot_product_is_traced_to_its_block_and_field() -> None:
    class HighBits(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            blocks = w.reshape(-1, 210).copy()
            blocks[-1, 128:192] &= 0x0F
            return super().dot(name, blocks.reshape(w.shape), a)

    (long,) = (case for case in bulk.with_bulk(SUITES["Q6_K.dot"], 0).cases if case.id == "gauss-512-0")
    suite = cases.Suite(SUITES["Q6_K.dot"].layout, "dot", (long,))
    cell = judge.judge_suite(InProcess(HighBits()), suite)
    failure = report.cell_report(cell, "python:spoilt", target=InProcess(HighBits())).failures[0]
    # Asked for alone, each block is the last one.
    assert (failure.block, failure.field) == (0, "qh") and "right where qh is 0" in failure.detail


def spoilt_decode(change) -> Any:
    class Spoilt(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            return change(super().decode(name, blocks))

    return Spoilt()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("nothing written", np.zeros_like),
        ("byte order", lambda x: x.view(np.uint32).byteswap().view(np.float32)),
        ("bfloat16 result", lambda x: exact.widen_bf16(exact.narrow_bf16(x))),
        ("order of elements", lambda x: np.roll(x, 3, axis=-1)),
        ("constant factor", lambda x: x * np.float32(1.5)),
        ("sign", lambda x: np.where(np.arange(x.shape[-1]) % 3 == 0, -x, x)),
    ],
)
def test_patterns(kind: str, change) -> None:
    # With codes of four bits other nibbles of the block explain most of what stands in another order.
    name = "Q5_0" if kind == "order of elements" else "Q4_0"
    with np.errstate(all="ignore"):
        found = reported(spoilt_decode(change), f"{name}.decode").diagnosis
    assert found.kind == kind and found.bug is None and 0.5 <= found.matches / found.of <= 1


def test_one_zero_of_the_wrong_sign_is_not_an_empty_answer() -> None:
    """0 - d in place of -d: of all vectors one shows it, whose weights are all zeros."""

    class Subtracts(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            values = super().decode(name, blocks)
            empty = ~blocks.reshape(-1, 18)[:, :2].any(axis=1)
            return np.where(np.repeat(empty, 128).reshape(values.shape), np.float32(0), values)

    assert reported(Subtracts(), "Q1_0.decode").diagnosis.kind == "sign of zero"


def test_a_dot_product_without_its_scale_says_nothing_of_a_field() -> None:
    """With an exponent of 0 a product is next to nothing, and right whatever the codes are taken for."""

    class LosesSigns(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            blocks = w.reshape(-1, 17).copy()
            blocks[:, 1:] &= 0x7F
            return super().dot(name, blocks.reshape(w.shape), a)

    failures = reported(LosesSigns(), "MXFP4.dot").failures
    assert {failure.field for failure in failures} <= {"qs", None, ""}


def test_a_bug_in_one_of_two_twin_lines_of_a_dot_product_is_named_with_its_weights() -> None:
    """Codes in high nibbles lose their sign."""

    class Loses(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            blocks = w.reshape(-1, 17).copy()
            blocks[:, 1:] &= 0x7F
            return super().dot(name, blocks.reshape(w.shape), a)

    found = reported(Loses(), "MXFP4.dot").diagnosis
    assert found.kind == "bits" and "highest bit" in found.says and "weights 16 to 31 of each 32" in found.says


def test_weights_that_a_dot_product_leaves_out_are_named() -> None:
    class Stops(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            activations = a.reshape(-1, 34).copy()
            activations[:, 30:] = 0
            return super().dot(name, w, activations.reshape(-1))

    found = reported(Stops(), "Q5_0.dot").diagnosis
    assert found.kind == "left out" and "weights 28 to 31 of each 32" in found.says


def test_a_bug_in_encoding_without_importance_is_named_though_the_other_way_is_right() -> None:
    bug = next(b for b in derived_bugs("Q6_K", "encode") if b.says.startswith("Does not cap a code, in the sub-blocks"))

    class Uncapped(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            rows = x.reshape(-1, x.shape[-1])
            return bug.run(rows, None) if weights is None else super().encode(name, x, weights)

    suite = SUITES["Q6_K.encode"]
    few = cases.Suite(suite.layout, "encode", suite.cases[::2])
    found = diagnose.diagnose(judge.judge_suite(InProcess(Uncapped()), few))
    assert found is not None and found.kind == "clamp" and found.says.endswith("in encoding without importance alone.")


def test_a_guard_that_is_set_too_high_is_known_by_faint_weights() -> None:
    class Guarded(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            return super().encode(name, np.where(abs(x).max() < 1e-20, np.float32(0), x), weights)

    assert reported(Guarded(), "Q2_0.encode").diagnosis.kind == "faint weights"


def test_a_diagnosis_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    """Bugs that are tried make infinities."""

    class KeepsSums(Reference):
        """A block's integer sums are added to those of the next block."""

        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            blocks, others, found = w.reshape(-1, 210), a.reshape(-1, 292), np.zeros(len(w), np.float32)
            for i in range(len(blocks) if len(w) == 1 else 0):
                for k in range(i + 1):
                    one, other = blocks[k].copy(), others[k].copy()
                    one[208:], other[:4] = blocks[i, 208:], others[i, :4]
                    found += super().dot(name, one[None], other)
            return found if len(w) == 1 else super().dot(name, w, a)

    assert reported(KeepsSums(), "Q6_K.dot").verdict == "does not conform"
    assert not recwarn.list


def test_a_property_that_only_failing_vectors_have_is_named() -> None:
    class Odd(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            blocks = super().encode(name, x, weights)
            blocks[..., -1] ^= 0 if weights is None else 0x55
            return blocks

    assert reported(Odd(), "Q4_0.encode").diagnosis.kind in ("Importance", "importance")


def test_functions_that_a_case_does_not_run_are_known() -> None:
    """Those of the search with importance, in an encoding without: bugs in them cannot be what went wrong there."""
    x, importance = np.linspace(-1, 1, 256, dtype=np.float32)[None], np.ones(256, np.float32)
    without, weighed = (functions.names_run("Q4_K", "encode", x, weights) for weights in (None, importance))
    searches = {"single_steps.improve_by_single_steps", "row_importance.importance"}
    assert searches <= weighed - without and "scale_and_min_search._least_error_with_min" in without & weighed
    assert weighed <= {function.name for function in functions.functions_of("Q4_K", "encode")}


def test_cases_that_are_answered_together_are_answered_as_alone() -> None:
    suite = SUITES["IQ4_NL.encode"]
    bug = next(bug for bug in known_bugs.bugs_of("IQ4_NL", "encode") if not bug.spans)
    together = diagnose.bug_answers(bug, suite)
    for case in suite.cases:
        weights, importance = case.given.values()
        with np.errstate(all="ignore"):
            alone = bug.run(case.array("weights").reshape(case.rows, -1), importance)
        assert weights is not None and np.array_equal(together[case.id], alone.reshape(-1)), case.id


def bytes_of(answer: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(answer).view(np.uint8)


# Of dot products these are sound kernels, which no judge may call wrong.
SOUND = ("order of additions", "fused multiply-add", "half precision")


def test_known_bugs_are_caught_and_nearly_all_are_named() -> None:
    """Those of every third cell; that the vectors tell each bug, tests/test_known_bugs.py shows."""
    missed, named, caught = [], 0, 0
    # One cell after another: the answers of its bugs are kept meanwhile.
    cells = sorted({(bug.format, bug.operation) for bug in known_bugs.BUGS})[::3]
    for bug in [bug for cell in cells for bug in known_bugs.BUGS if (bug.format, bug.operation) == cell]:
        suite = SUITES[f"{bug.format}.{bug.operation}"]
        answers = diagnose.bug_answers(bug, suite)
        cell = judge.Cell(suite, [judge.compare(suite, c, bytes_of(answers[c.id]), ()) for c in suite.cases])
        if not cell.failures:
            # Some show only where C leaves the result open: the report counts that, and calls it conforming.
            if not cell.counts[judge.OPEN] and (bug.operation != "dot" or bug.kind not in SOUND):
                missed.append(bug.name)
            continue
        caught += 1
        diagnosis = diagnose.diagnose(cell)
        named += diagnosis is not None and diagnosis.bug == bug.name
    assert not missed
    assert caught >= 300 and named >= 0.9 * caught, (named, caught)
