"""Programs, shared libraries and packages as targets, however they misbehave."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hifi_ref.conform import cases, diagnose, judge, report, report_lines, targets
from hifi_ref.conform.line_target import LineTarget, NoAnswerError, NotOfferedError
from reference import fetch
from tests.conform.helpers import SCHEMA, SUITES, InProcess, Reference, run

# What a program does with the decoding questions, in Python; it answers the others with "no".
MISBEHAVIOUR = {
    "hangs": ("import time; time.sleep(60)", "no answer within 0.5 s"),
    "dies": ("import os; os.abort()", "died of SIGABRT"),
    "exits": ("sys.exit('error: out of luck')", "ended with exit code 1: 'error: out of luck'"),
    "answers rubbish": ("print('banana')", "answered 'banana', not ok and hexadecimal digits, no, or error"),
    "answers half a byte": ("print('ok 123')", "answered 'ok 123', not ok"),
    "answers too little": ("print('ok 00')", "answered 1 bytes, not 128"),
    "answers in binary64": ("print('ok', '00' * 256)", "answered 256 bytes, not 128: as many as binary64 has"),
    "answers in binary16": ("print('ok', '00' * 64)", "answered 64 bytes, not 128: as many as binary16 has"),
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
    cell_report = report.cell_report(cell, "exec:sh")
    asked, left = judge.PATIENCE, len(SUITES["Q4_0.decode"].cases) - judge.PATIENCE
    assert report_lines.summary(cell_report) == f"{asked} of {asked} wrong, {left} not asked"
    target.close()


def test_blanks_behind_an_answer_are_no_fault(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys\nfor line in sys.stdin: print('ok 00112233 ', flush=True)\n")
    target = LineTarget([sys.executable, "-S", str(script)])
    assert target.ask("dot", "X", {"w": np.zeros(1, np.uint8)}, {}).tobytes().hex() == "00112233"
    target.close()


def test_only_what_was_said_since_the_question_explains_a_death(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    warned, last = (
        "print('a warning', file=sys.stderr)",
        "if line.startswith('decode Y'): print('too bad', file=sys.stderr)",
    )
    script.write_text(
        f"import os, sys\nfor line in sys.stdin:\n    if 'X' in line: {warned}\n    {last}\n"
        "    if line.startswith('decode'): os.abort()\n    print('ok 00', flush=True)\n"
    )
    target = LineTarget([sys.executable, "-S", str(script)])
    for name, words in (("Z", "died of SIGABRT"), ("Y", "died of SIGABRT: 'too bad'")):
        target.ask("dot", "X", {}, {})
        with pytest.raises(NoAnswerError) as error:
            target.ask("decode", name, {}, {})
        assert str(error.value) == words
    target.close()


def test_what_is_refused_throughout_may_not_be_offered() -> None:
    """A module's table without the format raises; one that answers with other floats does offer it."""

    class Refuses:
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            raise KeyError(name)

    class Doubles(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            return super().decode(name, blocks).astype(np.float64)

    class RefusesOne(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            if blocks.size > 18:
                raise KeyError(name)
            return super().decode(name, blocks)

    class Protocol(InProcess):
        """Words as LineTarget has them."""

        def ask(self, *question: Any) -> np.ndarray:
            try:
                return super().ask(*question)
            except NoAnswerError as error:
                raise NoAnswerError(f"refused: {str(error)!r}", ended=False) from None

    kinds = []
    for module in (Refuses(), Doubles(), RefusesOne()):
        found = diagnose.diagnose(judge.judge_suite(Protocol(module), SUITES["Q4_0.decode"]))
        kinds.append(None if found is None else found.kind)
    assert kinds == ["not offered", None, None]


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


def test_the_release_conforms_and_strictly_its_avx2_kernels_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    folder = fetch.library_dir()
    code, out, _ = run(capsys, f"ggml:{folder}#base", "--formats=Q4_0,Q8_1,Q6_K,TQ1_0,BF16")
    assert code == 0, out
    code, out, _ = run(capsys, f"ggml:{folder}#haswell", "--formats=Q1_0", "--operations=dot", "--strict", "--json")
    content = json.loads(out)
    SCHEMA.validate(content)
    (cell,) = content["subjects"][0]["cells"]
    assert code == 1 and cell["diagnosis"]["kind"] in ("code -128", "activation -128", "integer overflow")
    assert [lib["file"] for lib in content["subjects"][0]["libraries"]] == ["libggml-base.so", "libggml-cpu-haswell.so"]
    assert content["subjects"][0]["libraries"][0]["sha256"] == SUITES_REFERENCE["sha256"]


SUITES_REFERENCE = json.loads((cases.vectors_folder() / "llama.cpp" / "Q4_0.decode.json").read_text())["reference"]


def test_each_part_of_a_folder_is_a_subject() -> None:
    opened, cannot = targets.open_targets(f"ggml:{fetch.library_dir()}", 10)
    names = [one.spelling.rpartition("#")[2] for one in opened]
    assert names[0] == "base" and {"x64", "haswell"} <= set(names)
    assert len(opened) + len(cannot) == 15
    assert set(cannot.values()) <= {"needs instructions that this processor does not have"}


def test_gguf_py(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "gguf-py", "--formats=Q8_0,Q6_K", "--operations=decode")
    assert (code, err) == (0, "") and out.startswith("gguf-py: gguf-py 0.") and "conforms (" in out


def test_a_subject_that_cannot_start_does_not_conform(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "python:broken", "--formats=Q4_0")
    assert (code, err) == (1, "") and "No module named 'no_such_module'" in out


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("python:no_such_module", "there is no module 'no_such_module', neither here nor installed"),
        ("exec:/nowhere --fast", "there is no program '/nowhere' that can be run"),
        ("exec:'", "is no command: No closing quotation"),
        ("ggml:/nowhere", "there is no /nowhere"),
    ],
)
def test_a_target_that_is_not_there(target: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, target)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
