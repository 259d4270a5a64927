"""What shipped implementations do otherwise is accepted, counted and named; what is nearly the same is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.conform import cases, half_sums, judge, row_encoders
from hifi_ref.conform.deviations import FLAGS
from reference import fetch
from tests.conform.helpers import SCHEMA, SUITES, InProcess, Reference, cell_of, run

Encode = Callable[[str, np.ndarray], np.ndarray]


class Encoder(Reference):
    """Encodes rows without importance by ``make(name, x f32[n]) -> u8[bytes]``."""

    def __init__(self, make: Encode):
        self.make = make

    def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return super().encode(name, x, weights) if weights is not None else self.make(name, x[0])[None]


class Negates(Reference):
    """Multiplies magnitudes by activations that take the weights' signs: in 8 bits -128 has no negative."""

    def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        blocks = a.reshape(-1, 34).copy()
        codes = blocks[:, 2:].view(np.int8)
        codes[codes == -128] = 127
        return super().dot(name, w, blocks.reshape(-1))


def test_activations_that_no_encoder_writes() -> None:
    cell = cell_of(Negates(), "Q4_0.dot")
    assert cell.deviations["unreachable-activations"] >= 3 and not cell.failures
    strict = judge.judge_suite(InProcess(Negates()), SUITES["Q4_0.dot"], ())
    assert len(strict.failures) == cell.deviations.total() and not strict.deviations

    class WrongBesides(Negates):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            return super().dot(name, w, a) * np.float32(1.01)

    assert len(cell_of(WrongBesides(), "Q4_0.dot").failures) >= 10


class Halves(Reference):
    """Adds F16 products by ``sums(w f16[rows, n], a f16[n])``."""

    def __init__(self, sums: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        self.sums = sums

    def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        return self.sums(w.view(np.float16), a.reshape(-1).view(np.float16)).astype(np.float32)


def test_sums_in_binary16() -> None:
    cell = cell_of(Halves(half_sums.dot_in_halves), "F16.dot")
    assert cell.deviations["half-sums"] >= 15 and not cell.failures

    def rounds_products(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return half_sums.dot_in_halves(w * a, np.ones_like(a))

    def forgets_a_lane(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        return half_sums.dot_in_halves(w, np.where(np.arange(a.size) % 8 == 7, np.float16(0), a))

    for wrong in (rounds_products, forgets_a_lane):
        assert len(cell_of(Halves(wrong), "F16.dot").failures) >= 8


@pytest.mark.parametrize("name", ["Q8_0", "Q8_1"])
@pytest.mark.parametrize("inverse", [0, 1])
def test_ties_that_go_to_the_even_code(name: str, inverse: int) -> None:
    cell = cell_of(Encoder(lambda name, x: row_encoders.q8_to_even(name, x)[inverse]), f"{name}.encode")
    assert cell.deviations["simd-ties"] >= 1 and not cell.failures, cell.failures


@pytest.mark.parametrize("name", ["Q8_0", "Q8_1"])
@pytest.mark.parametrize("rounding", [np.trunc, np.floor, lambda t: np.ceil(abs(t) - np.float32(0.5)) * np.sign(t)])
def test_other_roundings_are_wrong(name: str, rounding: Callable[[np.ndarray], np.ndarray]) -> None:
    def make(name: str, x: np.ndarray) -> np.ndarray:
        right = Reference().encode(name, x[None], None)[0].copy()
        d = abs(x.reshape(-1, 32)).max(axis=1) / np.float32(127)
        with np.errstate(all="ignore"):
            codes = rounding(x.reshape(-1, 32) * (1 / d)[:, None]).astype(np.int8)
        right.reshape(len(d), -1)[:, -32:] = np.where(d[:, None] > 0, codes, np.int8(0)).view(np.uint8)
        return right

    assert cell_of(Encoder(make), f"{name}.encode").failures


def test_the_sign_of_a_scale_that_is_zero() -> None:
    def other_zero(name: str, x: np.ndarray) -> np.ndarray:
        blocks = Reference().encode(name, x[None], None)[0].copy().reshape(-1, 18)
        zero = (blocks[:, 0] == 0) & (blocks[:, 1] & 0x7F == 0)
        blocks[zero, 1] ^= 0x80
        return blocks.reshape(-1)

    def other_sign(name: str, x: np.ndarray) -> np.ndarray:
        blocks = Reference().encode(name, x[None], None)[0].copy().reshape(-1, 18)
        blocks[:, 1] ^= 0x80
        return blocks.reshape(-1)

    cell = cell_of(Encoder(other_zero), "Q4_0.encode")
    assert cell.deviations["zero-scale-sign"] >= 1 and not cell.failures
    assert cell_of(Encoder(other_sign), "Q4_0.encode").failures


def test_the_row_encoder_of_iq4_nl() -> None:
    cell = cell_of(Encoder(lambda name, x: row_encoders.iq4_nl_of_one_trial(x)), "IQ4_NL.encode")
    assert cell.deviations["row-encoder"] >= 10 and not cell.failures

    class WithImportanceToo(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            return row_encoders.iq4_nl_of_one_trial(x[0])[None]

    assert cell_of(WithImportanceToo(), "IQ4_NL.encode").failures


def test_another_choice_is_acceptable_where_the_profile_decides_and_a_worse_one_is_wrong() -> None:
    def judged(change: int) -> dict[str, int]:
        class Other(Reference):
            def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
                blocks = super().encode(name, x, weights)
                blocks[..., 0] ^= change
                return blocks

        first = SUITES["Q4_K.encode"].cases[0]
        case = cases.Case("x", "profile", ("Any",), "profile-dependent", first.given, first.expected)
        suite = cases.Suite(SUITES["Q4_K.encode"].layout, "encode", (case,))
        return judge.judge_suite(InProcess(Other()), suite).counts

    assert judged(1) == {judge.ACCEPTABLE: 1} and judged(0xFF) == {judge.DIFFERS: 1}


def test_the_release_conforms_to_itself_in_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    target = f"ggml:{fetch.library_dir()}"
    code, out, _ = run(capsys, target, "--formats=Q8_0,Q8_1,IQ4_NL,Q1_0,IQ2_XXS,F16,Q4_K", "--json")
    content = json.loads(out)
    SCHEMA.validate(content)
    assert code == 0 and content["conforms"] and len(content["subjects"]) >= 5
    base, *variants = content["subjects"]
    assert base["target"].endswith("#base") and all(cell["deviations"] == {} for cell in base["cells"])
    found = {flag for subject in variants for cell in subject["cells"] for flag in cell["deviations"]}
    assert found == {"unreachable-activations", "simd-ties", "row-encoder"}


def test_strict_and_flags(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["gguf-py", "--formats=Q4_0", "--operations=encode"]
    code, out, _ = run(capsys, *words)
    rests = "(1 of 1 cells offered, 50 of 85 vectors asked of llama.cpp, level 1"
    assert code == 0 and f"conforms, with acceptable deviations: zero-scale-sign (1) {rests}" in out
    assert "acceptable: zero-scale-sign, 1 case of Q4_0.encode: a scale that is zero has the other sign" in out
    code, out, _ = run(capsys, *words, "--strict")
    assert code == 1 and "1 of 50 wrong" in out
    line = next(line for line in out.splitlines() if "reproduce: " in line)
    assert "--flags= " in line and run(capsys, *line.split()[4:])[0] == 1
    assert run(capsys, *words, "--flags=simd-ties,fused-build")[0] == 1
    assert run(capsys, *words, "--flags=zero-scale-sign")[0] == 0
    code, out, err = run(capsys, *words, "--flags=banana")
    assert (code, out) == (2, "") and "no deviation is called 'banana'; there are unreachable-activations" in err
    (tmp_path / "xfail").write_text("*.encode zero-scale-sign: gguf-py divides otherwise\n")
    assert run(capsys, *words, "--strict", f"--xfail={tmp_path / 'xfail'}")[0] == 0
    assert all(flag in run(capsys, "--help")[1] for flag in FLAGS)
