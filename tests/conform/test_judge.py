"""Who is judged, and how: by bits, within proven bounds, and left open where C leaves it open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.conform import bulk, cases, judge, report, targets
from reference import fetch
from tests.conform.helpers import SUITES, InProcess, Reference, cell_of, reported


@pytest.mark.parametrize("name", ["F16.decode", "Q4_0.encode", "Q4_K.dot", "IQ2_XS.decode", "NVFP4.encode"])
def test_the_reference_conforms_to_itself(name: str) -> None:
    cell = cell_of(Reference(), name)
    assert cell.counts == {judge.EXACT: len(SUITES[name].cases)}


def test_another_order_of_additions_is_within_the_bound_and_a_wrong_code_is_not() -> None:
    class OtherOrder(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            w, a = w.reshape(len(w), -1, 18)[:, ::-1].reshape(w.shape), a.reshape(-1, 34)[::-1].reshape(-1)
            return super().dot(name, w, a)

    class WrongCode(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            w = w.copy()
            w[0, 2] ^= 1
            return super().dot(name, w, a)

    other = cell_of(OtherOrder(), "Q4_0.dot")
    assert other.counts[judge.BOUND] >= 1 and not other.failures
    assert cell_of(WrongCode(), "Q4_0.dot").counts[judge.DIFFERS] >= 10


def test_what_c_leaves_open_may_differ() -> None:
    class NoCodes(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            blocks = super().encode(name, x, weights)
            return np.where(abs(x).max() < 1e-37, np.uint8(1), blocks) if abs(x).max() > 0 else blocks

    counts = cell_of(NoCodes(), "Q8_0.encode").counts
    assert counts[judge.OPEN] >= 1 and not counts[judge.DIFFERS]


def test_what_a_module_does_not_offer_is_not_judged() -> None:
    class OnlyPlain(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            if weights is not None:
                raise NotImplementedError
            return super().encode(name, x, weights)

        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            raise NotImplementedError

    cell = cell_of(OnlyPlain(), "Q4_0.encode")
    assert cell.declined >= 2 and cell.offered and not cell.failures
    assert reported(OnlyPlain(), "Q4_0.dot").verdict == report.NOT_OFFERED


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: x.astype(np.float64), "returned float64, not float32"),
        (lambda x: x[..., :-1], "bytes, not"),
        (lambda x: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_answers_something_else(answer, says: str) -> None:
    class Odd(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            return answer(super().decode(name, blocks))

    cell = cell_of(Odd(), "Q4_0.decode")
    assert cell.counts == {judge.NO_ANSWER: len(SUITES["Q4_0.decode"].cases)} and says in cell.verdicts[0].detail


def test_level_2_agrees_with_the_release() -> None:
    """Of the formats whose tables need no time to prepare."""
    target = targets.open_targets(f"ggml:{fetch.library_dir()}#base", 60)[0][0].target
    for name in ("Q4_0.decode", "Q8_0.encode", "Q5_1.encode", "MXFP4.encode", "Q6_K.dot", "Q3_K.decode"):
        suite = bulk.with_bulk(SUITES[name], seed=1)
        assert len(suite.cases) > len(SUITES[name].cases) + 30
        cell = judge.judge_suite(target, suite)
        assert set(cell.counts) == {judge.EXACT}, (name, cell.counts)
    target.close()


def test_bulk_is_the_same_for_the_same_seed() -> None:
    first, again, other = (bulk.with_bulk(SUITES["Q4_0.dot"], seed).cases for seed in (3, 3, 4))
    assert all(judge.same(x.expected, y.expected).all() and x.id == y.id for x, y in zip(first, again, strict=True))
    assert any((x.expected != y.expected).any() for x, y in zip(first, other, strict=True))
    assert len({case.id for case in first}) == len(first)


def test_a_dialect_that_hifi_ref_does_not_compute(tmp_path: Path) -> None:
    """The vectors alone suffice: layout, sizes and expected bits stand in the file."""
    content = json.loads((cases.vectors_folder() / "llama.cpp" / "Q4_0.dot.json").read_text())
    content |= {"format": "Q4_NEW", "dialect": "new"}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "Q4_NEW.dot.json").write_text(json.dumps(content))
    (suite,) = cases.golden_suites(tmp_path, "new")

    class Right(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            return super().dot("Q4_0", w, a)

    cell = judge.judge_suite(InProcess(Right()), bulk.with_bulk(suite, 0))
    assert cell.counts == {judge.EXACT: len(suite.cases)}


def test_what_an_encoder_is_given_besides() -> None:
    """By keyword where it has the parameter; such cases are declined where it has not."""

    class Told(Reference):
        def encode(self, name, x, weights, outliers=0):
            return super().encode(name, x, weights) + np.uint8(outliers)

    suite = SUITES["Q8_0.encode"]
    first = suite.cases[0]
    case = cases.Case("x", "contexts", (), "valid", first.given, first.expected + np.uint8(3), {"outliers": 3})
    suite = cases.Suite(suite.layout, "encode", (case,))
    assert judge.judge_suite(InProcess(Told()), suite).counts == {judge.EXACT: 1}
    assert judge.judge_suite(InProcess(Reference()), suite).declined == 1
