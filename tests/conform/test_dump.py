"""--dump: a case whole, as text and as a file of vectors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from golden import judge
from hifi_ref.conform import bulk, cases, dump
from tests.conform.helpers import SUITES, run
from tests.paths import ROOT

FOLDER = cases.vectors_folder()
# A case of each operation, with all that cases can have: rows, importance, other bytes of arm64, flags.
CASES = {
    "decode": next(c for c in SUITES["IQ2_XXS.decode"].cases if c.group == "each number at each place"),
    "rows": next(c for c in SUITES["Q4_0.dot"].cases if c.rows == 3),
    "importance": next(c for c in SUITES["Q4_K.encode"].cases if c.given["importance"] is not None),
    "arm64": next(c for s in SUITES.values() for c in s.cases if c.result == "profile-dependent"),
}


def suite_of(case: cases.Case) -> cases.Suite:
    return next(suite for suite in SUITES.values() if case in suite.cases)


def table(text: str, title: str) -> list[list[str]]:
    """The rows of the table below a title."""
    lines = text.split(f"\n{title}\n")[1].split("\n\n")[0].splitlines()
    return [re.split(r"\s{2,}", line.strip()) for line in lines[1:]]


def bits(cells: list[str]) -> np.ndarray:
    return np.array([int(cell, 16) for cell in cells], np.uint32).view(np.float32)


def test_a_decoded_block(capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES["decode"]
    code, out, err = run(capsys, f"--dump={case.id}")
    assert (code, err) == (0, "") and out.startswith(f"IQ2_XXS.decode {case.id}\ngroup: each number at each place\n")
    assert "result: valid: every implementation must give these bits\n" in out and "\nflag EachNumber: Together" in out
    rows = table(out, "expected: weights")
    assert [row[0] for row in rows] == [str(i) for i in range(256)]
    np.testing.assert_array_equal(bits([row[1] for row in rows]).view(np.uint32), case.expected.view(np.uint32))
    assert [float.fromhex(row[2]) for row in rows] == case.expected.tolist()
    np.testing.assert_array_equal(np.array([row[3] for row in rows], np.float32), case.expected)
    (d, qs) = [row for row in table(out, "given: blocks") if row[0][0].isdigit()]
    assert d[:4] == ["0-1", "d", "f16", case.array("blocks")[:2].tobytes().hex()] and " = " in d[4]
    assert qs[:4] == ["2-65", "qs", "u16[32]", case.array("blocks")[2:].tobytes().hex()]


def test_rows_and_operands_of_a_dot_product(capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES["rows"]
    _, out, _ = run(capsys, f"--dump={case.id}")
    assert "rows: 3" in out and "given: w, blocks of Q4_0, block 0" in out and "given: a, blocks of Q8_0" in out
    rows = table(out, "the same as values")
    values = [bits([row[column] for row in rows]).reshape(3, -1).astype(np.float64) for column in (1, 4)]
    assert rows[-1][0].startswith("2:") and len(table(out, "expected: one sum a row")) == 3
    sums = table(out, "expected: one sum a row")
    np.testing.assert_array_equal(bits([row[1] for row in sums]), case.expected)
    # The operands that are shown have the sums that are shown, within the bound that is shown.
    for total, row in zip((values[0] * values[1]).sum(axis=1), sums, strict=True):
        assert abs(total - float(row[3])) <= float(row[9]), row


def test_importance_and_the_bytes_of_another_build(capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES["importance"]
    rows = table(run(capsys, f"--dump={case.id}")[1], "given: weights")
    for column, name in ((1, "weights"), (4, "importance")):
        np.testing.assert_array_equal(bits([row[column] for row in rows]), case.array(name))
    case = CASES["arm64"]
    out = run(capsys, f"--dump={case.id}")[1]
    assert "expected of profile clang-arm64: blocks" in out and "builds of the release for other platforms" in out


@pytest.mark.parametrize("name", SUITES)
def test_every_vector_can_be_shown_with_its_trace(name: str) -> None:
    suite = SUITES[name]
    traced = {test["id"]: test["trace"] for test in judge.all_tests(judge.load(*name.split("."))) if "trace" in test}
    for case in (suite.cases[0], *(case for case in suite.cases if case.id in traced)):
        text = dump.to_text(suite, case, FOLDER)
        for kind, blocks in traced.get(case.id, {}).items():
            shown = re.findall(rf"^{kind}: ([\d ]+)$", text, re.MULTILINE)
            # Behind them stand those of other builds
            assert [list(map(int, line.split())) for line in shown[: len(blocks)]] == blocks


def test_a_case_of_level_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its inputs come as a file that can be judged by, whether seeded otherwise or not."""
    words = ["--level=2", "--formats=Q8_0", "--operations=dot", "--seed=3"]
    suite = bulk.with_bulk(SUITES["Q8_0.dot"], 3)
    case = suite.cases[-1]
    code, out, err = run(capsys, f"--dump={case.id}", *words)
    assert (code, err) == (0, "") and out == dump.to_text(suite, case, FOLDER)
    (tmp_path / "llama.cpp").mkdir()
    path = tmp_path / "llama.cpp" / "Q8_0.dot.json"
    assert run(capsys, f"--dump={case.id}", f"--out={path}", *words) == (0, "", "")
    again = cases.read_suite(path)
    assert [c.id for c in again.cases] == [case.id] and again.layout == suite.layout
    assert {k: v.tobytes() for k, v in again.cases[0].given.items()} == {k: v.tobytes() for k, v in case.given.items()}
    assert again.cases[0].expected.tobytes() == case.expected.tobytes()
    assert "no case has the id 'gauss-32'" in run(capsys, "--dump=gauss-32", *words)[2]


def test_a_file_of_one_golden_vector_is_as_it_was(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for case in CASES.values():
        suite = suite_of(case)
        path = tmp_path / f"{case.id}.json"
        run(capsys, f"--dump={case.id}", f"--out={path}")
        (test,) = judge.all_tests(json.loads(path.read_text()))
        content = judge.load(suite.layout.name, suite.operation)
        (was,) = [t for t in judge.all_tests(content) if t["id"] == case.id]
        assert test == {key: value for key, value in was.items() if key not in ("trace", "exact", "bound")}
        assert json.loads(path.read_text())["layout"] == content["layout"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dump=zzz",), "no case has the id 'zzz' among these "),
        ((f"--dump={CASES['decode'].id[:-1]}",), f"'; near it are {CASES['decode'].id}\n"),
        ((f"--dump=0{CASES['decode'].id[1:]}",), CASES["decode"].id),
        (("gguf-py", "--dump=1"), "--dump asks nobody: no TARGET is needed, 1 are given"),
        (("gguf-py", "--out=FILE"), "--out goes with --dump"),
        (("--dump=1", "--formats=Q9"), "no format of llama.cpp is called 'Q9'"),
        ((f"--dump={CASES['decode'].id}", "--out=/nowhere/x"), "cannot write /nowhere/x"),
        (("--dump=scales-0", "--level=2", "--operations=decode", "--formats=Q4_0,Q8_0"), "Q4_0.decode, Q8_0.decode"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1, err


def test_the_documentation_shows_the_beginning_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "using-conform.md").read_text()
    (shown,) = re.findall(r"```text\n(Q4_0.decode ([0-9a-f]{16})\n.*?)```", page, re.DOTALL)
    assert run(capsys, f"--dump={shown[1]}")[1].startswith(shown[0])
