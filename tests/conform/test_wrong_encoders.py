"""Wrong encoders are told by what they take otherwise, by what stands in a wrong place, or by what differs, truly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hifi_ref import FORMATS
from hifi_ref.conform import cases, diagnose, judge
from hifi_ref.conform.diagnose import Diagnosis
from hifi_ref.known_bugs.derived import derived_bugs, stages
from tests.conform.helpers import SUITES, InProcess, Reference

Blocks = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


def diagnosed(name: str, wrong: Blocks, every: int = 1, before: Callable = lambda row, weights: weights) -> Diagnosis:
    """What is said of an encoder whose blocks, u8[rows, blocks, bytes], are made of the right ones.

    every: of so many vectors one is asked. before: what is taken for the importance of a row.
    """

    class Wrong(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            rows = x.reshape(-1, x.shape[-1])
            each = [super(Wrong, self).encode(name, row[None], before(row, weights)) for row in rows]
            right = np.concatenate(each).reshape(len(rows), -1, FORMATS[name].type_size)
            return wrong(right.copy(), rows, weights).reshape(len(rows), -1)

    suite = SUITES[f"{name}.encode"]
    few = cases.Suite(suite.layout, "encode", suite.cases[::every], notes=suite.notes)
    found = diagnose.diagnose(judge.judge_suite(InProcess(Wrong()), few))
    assert found is not None
    return found


def as_it_is(blocks: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return blocks


# BYTES IN A WRONG PLACE


def exchanged(first: int, second: int) -> Blocks:
    def change(blocks: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        qh = blocks[..., 32:48]
        bits = np.unpackbits(qh[..., None], axis=-1, bitorder="little")
        bits[..., [first, second]] = bits[..., [second, first]]
        blocks[..., 32:48] = np.packbits(bits, axis=-1, bitorder="little")[..., 0]
        return blocks

    return change


def test_two_bits_exchanged_are_no_known_bug_that_moves_more() -> None:
    says = diagnosed("IQ1_M", exchanged(3, 7)).says
    assert "bit 3 holds what belongs in bit 7" in says and "bit 7 holds what belongs in bit 3" in says
    assert "delta < 0" in says and "bit 2" not in says
    assert "bit 2 holds what belongs in bit 7" in diagnosed("IQ1_M", exchanged(2, 7)).says


def test_rows_that_encode_the_first_again_are_told_in_the_way_of_encoding_that_does() -> None:
    def again(blocks: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return blocks if weights is None else blocks * 0 + blocks[:1]

    def nearly(blocks: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        blocks = again(blocks, x, weights)
        blocks[1:, :, 20] ^= 0 if weights is None else 1
        return blocks

    assert diagnosed("Q5_0", again).says.startswith("Every row is the first row again")
    assert "Every row" not in diagnosed("Q5_0", nearly).says
    assert "Only rows after the first of several are wrong." in diagnosed("Q5_0", nearly).says


def test_numbers_of_a_field_in_another_order_are_told_with_what_they_are() -> None:
    found = diagnosed("Q4_0", _bytes_exchanged)
    assert found.kind == "packing" and "Exchanges the numbers 3 and 9 of the field qs" in found.says


def _bytes_exchanged(blocks: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    blocks[..., [5, 11]] = blocks[..., [11, 5]]
    return blocks


# ANOTHER QUANTITY


def rooted(times: float) -> Callable:
    """Q6_K's importance times the root of a mean square and x^2, in plain arithmetic."""

    def importance(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        if weights is None:
            return None
        blocks = x.reshape(-1, 256)
        spread = []
        for block in blocks:
            total = np.float32(0)
            for value in block:
                total = total + value * value
            mean_square = total * np.float32(times) / np.float32(256)
            spread.append(np.sqrt(mean_square + block * block))
        return weights * np.concatenate(spread)

    return importance


def test_an_importance_that_a_sister_format_takes_is_named() -> None:
    with np.errstate(all="ignore"):
        found = diagnosed("Q6_K", as_it_is, 1, rooted(1))
        other = diagnosed("Q6_K", as_it_is, 1, rooted(3))
    assert found.kind == "importance" and "times the root of (mean square + x^2)" in found.says
    assert "times the root" not in other.says


# FACTS


def scaled(factor: float) -> Blocks:
    def change(blocks: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        d = blocks[..., 208:210].copy().view(np.float16)
        blocks[..., 208:210] = np.where(abs(d) > 2.0**-10, d * np.float16(factor), d).astype(np.float16).view(np.uint8)
        return blocks

    return change


def test_a_scale_that_is_off_by_one_factor_is_told_with_it() -> None:
    with np.errstate(all="ignore"):
        says, like = diagnosed("Q6_K", scaled(0.7), 3).says, diagnosed("Q6_K", scaled(1.125 / 1.033), 3).says
    assert "d is 0.7" in says and "as with a factor" not in says
    assert "In all wrong blocks ql, qh and scales are right" in says
    assert "as with a factor of 1.125 in the place of 1.033" in like


@pytest.mark.parametrize(
    ("has", "says"),
    [
        (lambda x: (x < 0).all(axis=1), "wrong blocks hold negative weights alone, and no right one does"),
        (lambda x: (x == 0).any(axis=1) & (x != 0).any(axis=1), "wrong blocks hold zeros"),
    ],
)
def test_what_all_wrong_blocks_have_is_told(has: Callable, says: str) -> None:
    def change(blocks: np.ndarray, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        blocks[:, :, 7] ^= np.where(has(x.reshape(-1, 32)), 0x35, 0).reshape(blocks.shape[:2]).astype(np.uint8)
        return blocks

    assert says in diagnosed("Q5_1", change).says


# KEPT SEARCHES


@pytest.mark.parametrize("name", ["Q3_K", "IQ1_M", "IQ4_XS"])
def test_a_bug_answers_the_same_where_searches_are_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(one for one in SUITES[f"{name}.encode"].cases if one.given["importance"] is not None)
    x, weights = case.array("weights").reshape(case.rows, -1), case.given["importance"]

    def answers() -> list[bytes]:
        found = []
        for bug in derived_bugs(name, "encode")[::23]:
            try:
                found.append(bug.run(x.copy(), weights).tobytes())
            except (ValueError, TypeError, LookupError, NameError, AttributeError):
                found.append(b"")
        return found

    kept = answers()
    monkeypatch.setattr(stages, "codes", lambda *of: {})
    assert answers() == kept and len(set(kept)) > 3


def test_searches_that_reach_a_bug_are_not_kept() -> None:
    def kept(*changed: str) -> set[str]:
        return {function.__name__ for function in stages.codes("Q5_K", "encode", frozenset(changed))}

    assert "_least_error_with_min" in kept("q5_k.encode") and "_least_error_with_min" in kept("k_scales.pack")
    assert "_least_error_with_min" not in kept("scale_and_min_search._least_error_with_min")
    assert kept("row_importance.importance") == kept("q5_k.encode")
