"""Which findings count: --fail-on and --ignore, and that a verdict names what was passed over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from tests.check.helpers import compare
from tests.check.test_reports import schema
from tests.hostile import run_check
from tests.paths import SAMPLE


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Two tensors with a scale that is NaN, an error, and bytes behind the last, a warning."""
    damaged = bytearray(SAMPLE.read_bytes()) + bytes(64)
    for tensor in [t for t in open_gguf(SAMPLE).tensors if t.type_name == "Q4_K"][:2]:
        damaged[tensor.start : tensor.start + 2] = b"\x00\x7e"
    path = tmp_path / "spoilt.gguf"
    path.write_bytes(damaged)
    return path


@pytest.mark.parametrize(
    ("flags", "code", "counts", "ignored"),
    [
        ([], 1, {"P001": 2, "G020": 1}, {}),
        (["--fail-on=error"], 1, {"P001": 2, "G020": 1}, {}),
        (["--ignore=P001"], 1, {"G020": 1}, {"P001": 2}),
        (["--ignore=P001", "--fail-on=error"], 0, {"G020": 1}, {"P001": 2}),
        (["--ignore=P", "--ignore=G020"], 0, {}, {"P001": 2, "G020": 1}),
        (["--ignore=P001:^token_embd"], 1, {"P001": 1, "G020": 1}, {"P001": 1}),
        (["--ignore=P001:nothing", "--ignore=G020:bytes follow"], 1, {"P001": 2}, {"G020": 1}),
    ],
)
def test_what_counts(spoilt: Path, flags: list[str], code: int, counts: dict, ignored: dict) -> None:
    found, out, _ = run_check(spoilt, "--json", *flags)
    report = json.loads(out)
    assert (found, report["counts"], report["ignored"]) == (code, counts, ignored)
    assert list(schema().iter_errors(report)) == []
    marked = [t["name"] for t in report["tensors"] if t["findings"]]
    assert len(marked) == counts.get("P001", 0)


def test_the_verdict_names_what_was_ignored(spoilt: Path, folder: Path, tmp_path: Path) -> None:
    out = run_check(spoilt, "--ignore=P", "--ignore=G")[1]
    assert "\nsound: no findings; ignored: trailing bytes (1), non-finite scale (2)\n" in out
    # A difference that is ignored gives no certificate; bytes behind the last tensor are no difference.
    path = tmp_path / "q.gguf"
    path.write_bytes((folder / "15.gguf").read_bytes() + bytes(64))
    code, report, out = compare(path, folder / "f32.gguf", "--ignore=G020")
    assert code == 0 and "\nreproduced: every block of every tensor; ignored: trailing bytes (1)\n" in out
    damaged = bytearray((folder / "15.gguf").read_bytes())
    damaged[-5000] ^= 1
    path.write_bytes(damaged)
    code, report, out = compare(path, folder / "f32.gguf", "--ignore=E010")
    assert code == 0 and "every tensor is" not in out and report["source"]["reproduced"] is False
    assert "\nnot reproduced: ignored: changed blocks (1)\n" in out


def test_notes_fail_where_asked_for() -> None:
    assert run_check(SAMPLE, "--fail-on=note")[0] == 0
    for flag, message in [
        ("--fail-on=nothing", "flag --fail-on=nothing: value should be one of <error|warning|note>"),
        ("--ignore=X001", "--ignore=X001: X001 is no finding code"),
        ("--ignore=", "--ignore=:  is no finding code"),
        ("--ignore=P001:[", "--ignore=P001:[: [ is no regular expression: unterminated character set at position 0"),
    ]:
        code, out, err = run_check(SAMPLE, flag)
        assert (code, out, err) == (2, "", f"hifi_ref.check: {message} (--help tells the usage)\n")
