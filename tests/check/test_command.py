"""`check` from end to end: what it finds, exit codes, one sentence for what cannot be read, little memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hifi_ref.check import command as check
from hifi_ref.check import look
from hifi_ref.check.command import check_file
from hifi_ref.model_files.finding_codes import CODES
from hifi_ref.model_files.gguf_file import open_gguf
from reference import fetch
from tests.hostile import build, run_check
from tests.paths import ROOT, SAMPLE
from tools import make_sample


def test_the_sample_is_sound() -> None:
    code, out, err = run_check(SAMPLE)
    assert (code, err) == (0, "")
    assert "\nsound: no findings\n" in out
    assert "blk.1.ffn_down.weight     Q6_K  256 x 256        6.562     256  -\n" in out
    assert "Q4_K       13   753664  423936          4.5\n" in out
    assert SAMPLE.stat().st_size < 1 << 20


def test_the_sample_is_what_the_release_writes(tmp_path: Path) -> None:
    make_sample.write_model(tmp_path / "f32.gguf")
    assert make_sample.quantize(fetch.library_dir(), tmp_path / "f32.gguf", tmp_path / "q.gguf", 15) == 0
    assert (tmp_path / "q.gguf").read_bytes() == SAMPLE.read_bytes()


def test_a_nan_scale_is_named(tmp_path: Path) -> None:
    tensor = next(t for t in open_gguf(SAMPLE).tensors if t.name == "blk.0.attn_q.weight")
    at = tensor.start + 17 * 144
    damaged = bytearray(SAMPLE.read_bytes())
    damaged[at : at + 2] = b"\x00\x7e"
    path = tmp_path / "nan.gguf"
    path.write_bytes(damaged)
    code, out, _ = run_check(path, "--quiet")
    assert code == 1
    assert f"  tensor blk.0.attn_q.weight: field d of block 17, at byte {at}, is NaN\n" in out
    assert "error P001 non-finite scale. " in out and "\nbroken: non-finite scale (1)\n" in out
    finding = json.loads(run_check(path, "--json")[1])["findings"][0]
    assert {key: finding[key] for key in ("code", "severity", "tensor", "field", "block", "offset", "count")} == {
        "code": "P001", "severity": "error", "tensor": "blk.0.attn_q.weight", "field": "d", "block": 17, "offset": at,
        "count": 1,
    }  # fmt: skip


def test_a_truncated_file_is_reported_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(SAMPLE.read_bytes()[:-100])
    size = SAMPLE.stat().st_size
    code, out, _ = run_check(path)
    assert code == 1
    wanted = f"the data needs bytes {size - 36864} to {size}, but the file ends at byte {size - 100}"
    assert f"  tensor blk.1.ffn_up.weight: {wanted}\n" in out
    path.write_bytes(SAMPLE.read_bytes()[:3000])
    code, out, _ = run_check(path)
    assert code == 1
    assert "  the file ends at byte 3000 inside string 169 of the value of tokenizer.ggml.tokens\n" in out


def test_what_is_no_gguf_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    assert run_check(path) == (2, "", f"hifi_ref.check: {path} is no GGUF: it starts with b'hell', not b'GGUF'\n")
    assert run_check(tmp_path / "absent") == (
        2, "", f"hifi_ref.check: cannot read {tmp_path / 'absent'}: No such file or directory\n",
    )  # fmt: skip
    assert run_check(tmp_path)[0] == 2


def test_usage() -> None:
    code, out, err = run_check(SAMPLE, "--nonsense")
    assert (code, out) == (2, "")
    assert err == "hifi_ref.check: Unknown command line flag 'nonsense' (--help tells the usage)\n"
    assert run_check(SAMPLE, "--quiet=maybe")[0] == 2
    code, out, err = run_check("--help")
    assert (code, err) == (0, "")
    assert all(f"  {code}  {entry.severity}" in out for code, entry in CODES.items())


def test_our_own_fault_exits_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(look, "check_payload", fail)
    code, out, err = run_check(SAMPLE)
    assert (code, out) == (3, "")
    wanted = "a fault of hifi_ref itself (KeyError: 'x'); please report it, with the output of --debug"
    assert err == f"hifi_ref.check: {wanted}\n"
    assert "Traceback" in run_check(SAMPLE, "--debug")[2]


def test_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    target = tmp_path / "report.json"
    code, out, _ = run_check(SAMPLE, f"--json={target}", "--quiet")
    assert code == 0 and "\nsound: no findings\n" in out
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
    report = json.loads(target.read_text())
    assert report == json.loads(run_check(SAMPLE, "--json")[1])
    # From Python without the digests, which nobody asked for.
    assert without_digests(report) == check.to_json(check_file(SAMPLE))
    assert (report["schema"], report["sound"], report["findings"], report["counts"]) == (check.SCHEMA, True, [], {})
    assert report["file_type"] == {"number": 15, "name": "Q4_K_M"}
    assert (report["version"], report["byte_order"], report["alignment"]) == (3, "little", 32)
    assert report["types"]["Q6_K"] == {"tensors": 3, "elements": 163840, "bytes": 134400, "bits_per_weight": 6.5625}
    assert report["totals"]["tensors"] == len(report["tensors"]) == 21
    assert report["tensors"][0] == {
        "name": "output.weight", "type": "Q6_K", "shape": [256, 256], "file": 0, "offset": 7680, "bytes": 53760,
        "blocks": 256, "bits_per_weight": 6.5625, "sha256": None, "findings": [],
    }  # fmt: skip
    code, out, err = run_check(SAMPLE, f"--json={tmp_path}/no/such/folder.json")
    assert (code, out) == (2, "") and err.count("\n") == 1


def without_digests(report: dict) -> dict:
    for entry in (*report["files"], *report["tensors"]):
        assert re.fullmatch("[0-9a-f]{64}", entry["sha256"])
        entry["sha256"] = None
    return report


def test_names_reach_the_terminal_without_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    path.write_bytes(build([("\x1b]0;x\x07é", 0, (8,), bytes(32))]))
    code, out, _ = run_check(path)
    assert code == 1 and "\x1b" not in out and r"\x1b]0;x\x07é" in out
    assert json.loads(run_check(path, "--json")[1])["tensors"][0]["name"] == r"\x1b]0;x\x07é"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "hifi_ref.check", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "") and r"\x07\xe9" in done.stdout


def test_a_reader_that_stops_early_changes_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hifi_ref.check", str(SAMPLE)]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("flag", ["--quiet", "--attest=a.json"])
def test_memory_does_not_grow_with_the_file_and_jax_is_not_loaded(tmp_path: Path, flag: str) -> None:
    """Nor what reads addresses, with digests or without."""
    path = tmp_path / "zeros.gguf"
    nbytes = 600 << 20
    head = build([("t", 0, (nbytes // 4,), b"")])
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + nbytes)
    # Not ru_maxrss, which a process takes over from the one that started it.
    program = (
        "import re, sys; from hifi_ref.check import command as check; code = "
        "check.main([sys.argv[1], sys.argv[2], '--ignore=L']); "
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read()); "
        "print(code, int(peak[1]) >> 10, 'jax' in sys.modules or 'fsspec' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(path), flag.replace("a.json", str(tmp_path / "a.json"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, mebibytes, loaded = done.stdout.splitlines()[-1].split()
    assert (code, loaded) == ("0", "False")
    assert int(mebibytes) < 200
