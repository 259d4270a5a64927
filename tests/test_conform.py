"""`python -m hifi_ref.conform`: who is judged, how, what is said, and that every known bug is caught and named."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from hifi_ref import api, exact, known_bugs
from hifi_ref.conform import bulk, cases, command, diagnose, judge, report, serve, targets, xfail
from hifi_ref.conform.line_target import LineTarget, NoAnswerError, NotOfferedError
from reference import fetch

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples" / "conform"
SUITES = {suite.name: suite for suite in cases.golden_suites(cases.vectors_folder())}
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "hifi_ref" / "conform" / "report.schema.json").read_text()))


class InProcess:
    """A module-like thing as a target, without a process of its own."""

    def __init__(self, module: Any):
        self.module = module

    def ask(
        self, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float]
    ) -> np.ndarray:
        return serve.call(self.module, operation, name, given, context)


class Reference:
    """hifi_ref itself; a subclass spoils something."""

    def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
        return api.decode(name, blocks, lane="numpy")

    def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return api.encode(name, x, weights, lane="numpy")

    def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        return api.dot(name, w, a, lane="numpy")


def cell_of(module: Any, name: str) -> judge.Cell:
    return judge.judge_suite(InProcess(module), SUITES[name])


def reported(module: Any, name: str) -> report.CellReport:
    return report.cell_report(cell_of(module, name), "python:spoilt", target=InProcess(module))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(arguments)
    return code, *capsys.readouterr()


# JUDGING


@pytest.mark.parametrize("name", ["F16.decode", "Q4_0.encode", "Q4_K.dot", "IQ2_XS.decode", "NVFP4.encode"])
def test_the_reference_conforms_to_itself(name: str) -> None:
    cell = cell_of(Reference(), name)
    assert cell.counts == {judge.EXACT: len(SUITES[name].cases)}


def test_another_order_of_additions_is_within_the_bound_and_a_wrong_code_is_not() -> None:
    class OtherOrder(Reference):
        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            w, a = w.reshape(-1, 18)[::-1].reshape(w.shape), a.reshape(-1, 34)[::-1].reshape(-1)
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


def test_another_choice_is_open_where_the_profile_decides_and_a_worse_one_is_wrong() -> None:
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

    assert judged(1) == {judge.OPEN: 1} and judged(0xFF) == {judge.DIFFERS: 1}


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
    assert all((x.expected == y.expected).all() and x.id == y.id for x, y in zip(first, again, strict=True))
    assert any((x.expected != y.expected).any() for x, y in zip(first, other, strict=True))
    assert len({case.id for case in first}) == len(first)


# WHERE, AND WHY


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
    with np.errstate(all="ignore"):
        found = reported(spoilt_decode(change), "Q5_K.decode").diagnosis
    assert found.kind == kind and found.bug is None and 0.5 <= found.matches / found.of <= 1


def test_a_property_that_only_failing_vectors_have_is_named() -> None:
    class Odd(Reference):
        def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
            blocks = super().encode(name, x, weights)
            blocks[..., 0] ^= 0 if weights is None else 0x55
            return blocks

    assert reported(Odd(), "Q4_0.encode").diagnosis.kind in ("Importance", "importance")


# Of dot products these are sound kernels, which no judge may call wrong.
SOUND = ("order of additions", "fused multiply-add", "half precision")


def test_every_known_bug_is_caught_and_nearly_all_are_named() -> None:
    missed, named, caught = [], 0, 0
    # One cell after another: the answers of its bugs are kept meanwhile.
    for bug in sorted(known_bugs.BUGS, key=lambda bug: (bug.format, bug.operation)):
        suite = SUITES[f"{bug.format}.{bug.operation}"]
        answers = diagnose.bug_answers(bug, suite)
        found = [judge.compare(suite, c, np.ascontiguousarray(answers[c.id]).view(np.uint8)) for c in suite.cases]
        cell = judge.Cell(suite, found)
        if not cell.failures:
            # Some show only where C leaves the result open: the report counts that, and calls it conforming.
            if not cell.counts[judge.OPEN] and (bug.operation != "dot" or bug.kind not in SOUND):
                missed.append(bug.name)
            continue
        caught += 1
        diagnosis = diagnose.diagnose(cell)
        named += diagnosis is not None and diagnosis.bug == bug.name
    assert not missed
    assert caught >= 500 and named >= 0.9 * caught, (named, caught)


# PROGRAMS


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kernels") / "kernels"
    source = str(EXAMPLES / "kernels.c")
    subprocess.run(["cc", "-O2", "-ffp-contract=off", "-Wall", "-Werror", "-o", str(out), source, "-lm"], check=True)
    return out


@pytest.mark.parametrize("language", ["c", "js"])
def test_the_example_programs_conform(language: str, compiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = str(compiled) if language == "c" else f"node {EXAMPLES / 'kernels.mjs'}"
    code, out, err = run(capsys, f"exec:{program}", "--formats=Q4_0,Q8_0", "--level=2")
    assert (code, err) == (0, ""), out
    assert "example kernels in" in out and "declined" in out


# What a program does with the decoding questions, in Python; it answers the others with "no".
MISBEHAVIOUR = {
    "hangs": ("import time; time.sleep(60)", "no answer within 0.5 s"),
    "dies": ("import os; os.abort()", "died of SIGABRT"),
    "exits": ("sys.exit('error: out of luck')", "ended with exit code 1: 'error: out of luck'"),
    "answers rubbish": ("print('banana')", "answered 'banana', not ok and hexadecimal digits, no, or error"),
    "answers half a byte": ("print('ok 123')", "answered 'ok 123', not ok"),
    "answers too little": ("print('ok 00')", "answered 1 bytes, not 128"),
    "answers nothing": ("print()", "answered ''"),
    "answers twice": (r"sys.stdout.write('no\nno\n')", "without being asked"),
    "answers no text": ("sys.stdout.buffer.write(bytes([255, 0, 10]))", r"answered '\\xff\x00'"),
    "answers without end": ("[print('0' * 2**20, end='') for _ in range(80)]", "answers without end"),
    "refuses": ("print('error no such thing')", "refused: 'no such thing'"),
    "closes its output": ("os.close(1); time.sleep(60)", "closed its output"),
}


@pytest.mark.parametrize("how", MISBEHAVIOUR)
def test_a_program_that_misbehaves_is_described_in_one_sentence(how: str, tmp_path: Path) -> None:
    does, says = MISBEHAVIOUR[how]
    script = tmp_path / "program.py"
    script.write_text(
        "import os, sys, time\n"
        "for line in sys.stdin:\n"
        "    if line.startswith('hello'): print('ok odd')\n"
        f"    elif line.startswith('decode Q4_0'): {does}\n"
        "    else: print('no')\n"
        "    sys.stdout.flush()\n"
    )
    target = LineTarget([sys.executable, "-S", str(script)], seconds=0.5 if "hangs" in how or "closes" in how else 10)
    given = {"blocks": np.zeros(18, np.uint8)}
    suite = cases.Suite(SUITES["Q4_0.decode"].layout, "decode", SUITES["Q4_0.decode"].cases[:2])
    verdicts = judge.judge_suite(target, suite).verdicts
    assert says in verdicts[-1].detail and "\n" not in verdicts[-1].detail
    # The rest is judged all the same.
    with pytest.raises(NotOfferedError):
        target.ask("decode", "Q8_0", given, {})
    target.close()


def test_a_program_that_never_answers_is_not_asked_for_ever(tmp_path: Path) -> None:
    script = tmp_path / "program.sh"
    script.write_text("read line; echo ok; read line; kill -9 $$\n")
    target = LineTarget(["sh", str(script)])
    cell = judge.judge_suite(target, SUITES["Q4_0.decode"])
    assert len(cell.verdicts) == judge.PATIENCE and cell.not_asked == len(SUITES["Q4_0.decode"].cases) - judge.PATIENCE
    assert report.cell_report(cell, "exec:sh").failed == len(SUITES["Q4_0.decode"].cases)
    target.close()


def test_a_program_that_does_not_start() -> None:
    with pytest.raises(NoAnswerError, match="cannot run /nowhere: No such file"):
        LineTarget("/nowhere").hello()
    with pytest.raises(NoAnswerError, match="banana"):
        LineTarget("echo banana").hello()


def test_a_question_larger_than_a_pipe(tmp_path: Path) -> None:
    """Both sides write at once: neither may wait for the other."""
    script = tmp_path / "echo.py"
    script.write_text("import sys\nfor line in sys.stdin: print('ok', line.split()[-1], flush=True)\n")
    target = LineTarget([sys.executable, str(script)])
    blocks = np.arange(2_000_000, dtype=np.uint32).view(np.uint8)
    np.testing.assert_array_equal(target.ask("decode", "X", {"blocks": blocks}, {}), blocks)
    target.close()


# LIBRARIES


def test_the_release_conforms_and_its_avx2_kernels_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    folder = fetch.library_dir()
    code, out, _ = run(capsys, f"ggml:{folder}#base", "--formats=Q4_0,Q8_1,Q6_K,TQ1_0,BF16")
    assert code == 0, out
    code, out, _ = run(capsys, f"ggml:{folder}#haswell", "--formats=Q1_0", "--operations=dot", "--json")
    content = json.loads(out)
    SCHEMA.validate(content)
    (cell,) = content["subjects"][0]["cells"]
    assert code == 1 and cell["diagnosis"]["kind"] in ("code -128", "activation -128")
    assert [lib["file"] for lib in content["subjects"][0]["libraries"]] == ["libggml-base.so", "libggml-cpu-haswell.so"]
    assert content["subjects"][0]["libraries"][0]["sha256"] == SUITES_REFERENCE["sha256"]


SUITES_REFERENCE = json.loads((cases.vectors_folder() / "llama.cpp" / "Q4_0.decode.json").read_text())["reference"]


def test_each_part_of_a_folder_is_a_subject() -> None:
    opened, cannot = targets.open_targets(f"ggml:{fetch.library_dir()}", 10)
    names = [one.spelling.rpartition("#")[2] for one in opened]
    assert names[0] == "base" and {"x64", "haswell"} <= set(names)
    assert len(opened) + len(cannot) == 15
    assert set(cannot.values()) <= {"needs instructions that this processor does not have"}


# THE COMMAND


def test_gguf_py(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "gguf-py", "--formats=Q8_0,Q6_K", "--operations=decode")
    assert (code, err) == (0, "") and out.startswith("gguf-py: gguf-py 0.") and "conforms (" in out


@pytest.fixture
def spoilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that swaps nibbles and can do nothing else."""
    (tmp_path / "spoilt.py").write_text(
        "from hifi_ref import api\n"
        "def decode(name, blocks):\n"
        "    if name != 'Q4_0': raise NotImplementedError\n"
        "    blocks = blocks.copy()\n"
        "    blocks[:, 2:] = blocks[:, 2:] >> 4 | blocks[:, 2:] << 4\n"
        "    return api.decode(name, blocks, lane='numpy')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return "python:spoilt"


def test_a_failure_is_diagnosed_and_can_be_reproduced(spoilt: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, spoilt, "--formats=Q4_0,Q4_1")
    assert (code, err) == (1, "") and "Q4_0.decode swapped nibbles: matches" in out and "field qs[" in out
    line = next(line for line in out.splitlines() if "reproduce: " in line).split("reproduce: ")[1]
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "hifi_ref.conform"]
    code, out, _ = run(capsys, *words[3:])
    assert code == 1 and "1 of 1 wrong" in out


def test_the_documentation(spoilt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its example but for numbers and ids, which change where vectors are added; and every flag that needs words."""
    shutil.copy(tmp_path / "spoilt.py", tmp_path / "my_kernels.py")
    document = (ROOT / "docs" / "using-conform.md").read_text()
    words, output = re.search(r"\$ python -m hifi_ref.conform ([^\n]*)\n(.*?)```", document, re.DOTALL).groups()
    _, out, _ = run(capsys, *words.split())

    def masked(text: str) -> str:
        return re.sub(r"[0-9a-f]{16}|\d+(?= |,|$)", "#", text)

    shown = out.splitlines()[: output.count("\n")]
    heads = [[masked(line).split(": block")[0] for line in lines] for lines in (shown, output.splitlines())]
    assert heads[0] == heads[1]
    for option in set(re.findall(r"--(\w+)", command.USAGE_TEXT)) - {"vectors", "timeout", "quiet", "debug", "help"}:
        assert f"--{option}" in document


def test_every_report(spoilt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("json", "junit", "html", "markdown")}
    flags = [f"--{kind}={path}" for kind, path in paths.items()]
    assert run(capsys, spoilt, "--formats=Q4_0,Q8_0", *flags)[0] == 1
    content = json.loads(paths["json"].read_text())
    SCHEMA.validate(content)
    verdicts = {(c["format"], c["operation"]): c["verdict"] for c in content["subjects"][0]["cells"]}
    assert verdicts[("Q4_0", "decode")] == report.NOT and verdicts[("Q8_0", "dot")] == report.NOT_OFFERED

    root = ElementTree.fromstring(paths["junit"].read_text())
    assert root.tag == "testsuites" and [suite.tag for suite in root] == ["testsuite"]
    for element in (root, root[0]):
        counted = {key: int(element.get(key)) for key in ("tests", "failures", "errors", "skipped")}
        assert counted == {"tests": 6, "failures": 1, "errors": 0, "skipped": 5}
    assert len(root[0]) == 6 and {case.tag for case in root[0]} == {"testcase"}
    (failure,) = root.iter("failure")
    assert "swapped nibbles" in failure.text and "reproduce" in failure.text

    page = paths["html"].read_text()
    assert page.startswith("<!DOCTYPE html>") and "http" not in page and "swapped nibbles" in page
    balance(page)
    assert "| Q4\\_0 |" in paths["markdown"].read_text()


def balance(page: str) -> None:
    """Every element that is opened is closed, in order."""
    opened: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in ("meta", "br"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Parser().feed(page)
    assert not opened


def test_expected_failures(spoilt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "xfail.txt"

    def judged(text: str) -> tuple[int, str, str]:
        file.write_text(text)
        return run(capsys, spoilt, "--formats=Q4_0", "--operations=decode", f"--xfail={file}")

    code, out, _ = judged("# known\nQ4_0.decode: nibbles are swapped\n")
    assert code == 0 and "wrong, expected" in out and "expected: nibbles are swapped" in out
    code, out, _ = judged(f"Q4_0.decode {SUITES['Q4_0.decode'].cases[0].id}: this one\n")
    assert code == 1 and "does not conform" in out
    codes = {case.id: case.given["blocks"][2:] for case in SUITES["Q4_0.decode"].cases}
    passing = next(id for id, qs in codes.items() if (qs >> 4 == qs & 15).all())
    code, out, _ = judged(f"*.decode: all\nQ4_0.* {passing}: none\n")
    assert code == 1 and f"unexpected pass: line 2, Q4_0.* {passing}: none; remove that line" in out
    assert judged("Q4_0.decode:\n")[0::2] == (
        2, f"hifi_ref.conform: {file}, line 1: a reason is missing behind 'Q4_0.decode:'\n"
    )  # fmt: skip
    assert "is not FORMAT.OPERATION [ID]: REASON" in judged("banana\n")[2]
    with pytest.raises(xfail.XfailError, match="cannot read"):
        xfail.read_expectations(tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "one TARGET is needed, 0 are given"),
        (("banana",), "'banana' is no python:MODULE, gguf-py, exec:COMMAND or ggml:DIR[#PART]"),
        (("ggml:/nowhere",), "there is no /nowhere"),
        (("ggml:/usr",), "/usr holds no libggml-base"),
        (("gguf-py", "--formats=Q9"), "no format of llama.cpp is called 'Q9'"),
        (("gguf-py", "--operations=add"), "no operation is called 'add'"),
        (("gguf-py", "--dialect=none"), "holds no vectors of the dialect 'none'"),
        (("gguf-py", "--only=zzz", "--formats=Q4_0"), "no case has the id 'zzz'"),
        (("gguf-py", "--level=3"), "--level=3"),
        (("gguf-py", "--formats=Q4_0", "--operations=decode", "--json=/nowhere/x"), "cannot write"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1, err


def test_a_subject_that_cannot_start_does_not_conform(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "python:no_such_module", "--formats=Q4_0")
    assert (code, err) == (1, "") and "No module named 'no_such_module'" in out


def test_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(command, "suites_of", broken)
    code, out, err = run(capsys, "gguf-py")
    assert (code, out, err.count("\n")) == (3, "", 1) and "a fault of hifi_ref itself (KeyError: 'x')" in err


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


# PLUGIN AND PACKAGE


def test_the_pytest_plugin(spoilt: str, tmp_path: Path) -> None:
    (tmp_path / "xfail.txt").write_text("Q4_0.decode: nibbles are swapped\n")
    words = [sys.executable, "-m", "pytest", "-p", "hifi_ref.conform.pytest_plugin", "-p", "no:jaxtyping", "-v"]
    words += [f"--hifi-ref-target={spoilt}", "--hifi-ref-formats=Q4_0", "--hifi-ref-operations=decode,dot"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "hifi_ref[Q4_0.decode] FAILED" in done.stdout, done.stdout + done.stderr
    assert "hifi_ref[Q4_0.dot] SKIPPED" in done.stdout and "swapped nibbles" in done.stdout
    done = subprocess.run([*words, "--hifi-ref-xfail=xfail.txt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1 skipped, 1 xfailed" in done.stdout
    done = subprocess.run([*words, "--hifi-ref-formats=Q9"], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "no format of llama.cpp is called 'Q9'" in done.stderr


def test_an_installed_package_has_its_vectors(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("hifi_ref", "golden"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command_line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={out}", str(source)]
    subprocess.run(command_line, check=True, capture_output=True)
    golden = out / "hifi_ref" / "golden"
    installed = {path.relative_to(golden) for path in golden.rglob("*") if path.is_file()}
    assert installed == {path.relative_to(ROOT / "golden") for path in (ROOT / "golden").rglob("*.json")}
    program = "from hifi_ref.conform import cases; print(cases.vectors_folder())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=out,
        env={"PYTHONPATH": str(out)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(golden), done.stderr
