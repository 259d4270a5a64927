"""`check` from end to end: exact findings, exit codes, no false alarm on the reference's own files, hostile files."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.check import command as check
from hifi_ref.check.command import FILE_TYPES, check_file
from hifi_ref.check.payload import BYTE_RULES
from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.model_files.findings import CODES
from hifi_ref.model_files.gguf_file import TENSOR_TYPES, open_gguf
from reference import fetch, release
from tests import hostile, sources
from tests.hostile import build, run_check
from tools import make_sample

SAMPLE = Path(__file__).parent / "data" / "sample.gguf"
ROOT = Path(__file__).resolve().parent.parent
BLOCKS = 5

SCALES = [(f.name, field) for f in LLAMA_CPP.values() for field in f.layout.fields if field.dtype in ("f16", "f32")]
QUANT_SCALES = [(name, field) for name, field in SCALES if name not in ("F16", "F32")]


def blocks_file(path: Path, name: str, blocks: np.ndarray, order: str = "<") -> int:
    """Write a file with one tensor t of these blocks, uint8[n, type_size]; return where its data starts."""
    type_id, kind = next((i, kind) for i, kind in TENSOR_TYPES.items() if kind.name == name)
    path.write_bytes(build([("t", type_id, (len(blocks) * kind.block_size,), blocks.tobytes())], order=order))
    return open_gguf(path).tensors[0].start


def findings_of(path: Path) -> list[tuple[str, str, int | None, str]]:
    return [(f.code, f.message, f.count, f.field) for f in check_file(path).findings.kept]


def test_the_sample_is_sound() -> None:
    code, out, err = run_check(SAMPLE)
    assert (code, err) == (0, "")
    assert out.endswith("\nsound: no findings\n")
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
    assert "error P001 non-finite scale. " in out and out.endswith("\nnot sound: 1 error\n")
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
    assert run_check(SAMPLE, str(SAMPLE))[0] == 2
    code, out, err = run_check("--help")
    assert (code, err) == (0, "")
    assert all(f"  {code}  {entry.severity}" in out for code, entry in CODES.items())


def test_our_own_fault_exits_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(check, "check_payload", fail)
    code, out, err = run_check(SAMPLE)
    assert (code, out) == (3, "")
    wanted = "a fault of hifi_ref itself (KeyError: 'x'); please report it, with the output of --debug"
    assert err == f"hifi_ref.check: {wanted}\n"
    assert "Traceback" in run_check(SAMPLE, "--debug")[2]


def test_json(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    code, out, _ = run_check(SAMPLE, f"--json={target}", "--quiet")
    assert code == 0 and out.endswith("sound: no findings\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
    report = json.loads(target.read_text())
    assert report == json.loads(run_check(SAMPLE, "--json")[1]) == check.to_json(check_file(SAMPLE))
    assert (report["schema"], report["sound"], report["findings"], report["counts"]) == (check.SCHEMA, True, [], {})
    assert report["file_type"] == {"number": 15, "name": "Q4_K_M"}
    assert (report["version"], report["byte_order"], report["alignment"]) == (3, "little", 32)
    assert report["types"]["Q6_K"] == {"tensors": 3, "elements": 163840, "bytes": 134400, "bits_per_weight": 6.5625}
    assert report["totals"]["tensors"] == len(report["tensors"]) == 21
    assert report["tensors"][0] == {
        "name": "output.weight", "type": "Q6_K", "shape": [256, 256], "offset": 7680, "bytes": 53760, "blocks": 256,
        "bits_per_weight": 6.5625, "findings": [],
    }  # fmt: skip
    code, out, err = run_check(SAMPLE, f"--json={tmp_path}/no/such/folder.json")
    assert (code, out) == (2, "") and err.count("\n") == 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "what"), [("nan", "NaN"), ("inf", "infinite"), ("-inf", "infinite")])
@pytest.mark.parametrize(("name", "field"), QUANT_SCALES, ids=lambda v: getattr(v, "name", v))
def test_every_scale_of_every_format(tmp_path: Path, name: str, field, bits: str, what: str, order: str) -> None:
    layout = FORMATS[name].layout
    size = 2 if field.dtype == "f16" else 4
    blocks = np.zeros((BLOCKS, layout.type_size), np.uint8)
    path = tmp_path / "f.gguf"
    blocks_file(path, name, blocks, order)
    base = findings_of(path)
    at = layout.offset(field.name) + (field.count - 1) * size
    value = np.array(float(bits), f"{order}f{size}").tobytes()
    blocks[2, at : at + size] = blocks[4, at : at + size] = np.frombuffer(value, np.uint8)
    start = blocks_file(path, name, blocks, order) + 2 * layout.type_size + at
    item = f"{field.name}[{field.count - 1}]" if field.count > 1 else field.name
    message = f"tensor t: field {item} of block 2, at byte {start}, is {what} (the first of 2 such blocks)"
    assert [f for f in findings_of(path) if f not in base] == [("P001", message, 2, field.name)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_spread_scale_of_iq1_m(tmp_path: Path, order: str) -> None:
    layout = FORMATS["IQ1_M"].layout
    path = tmp_path / "f.gguf"
    words = np.zeros((BLOCKS, 4), f"{order}u2")
    blocks = np.zeros((BLOCKS, layout.type_size), np.uint8)
    at = layout.offset("scales")
    # 0x7C01, the lowest nibble in the first word, and 0x7BFF, the largest finite.
    words[1] = [0x1FFF, 0x0FFF, 0xCFFF, 0x7FFF]
    words[2] = [0xFFFF, 0xFFFF, 0xBFFF, 0x7FFF]
    blocks[:, at : at + 8] = words.view(np.uint8)
    start = blocks_file(path, "IQ1_M", blocks, order)
    message = (
        f"tensor t: field scales[0] of block 1, at byte {start + layout.type_size + at}, "
        "holds a top nibble of a non-finite d"
    )
    assert findings_of(path) == [("P001", message, 1, "scales")]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("name", "kind", "bad"),
    [
        ("F32", "f4", np.inf),
        ("F16", "f2", np.nan),
        ("F64", "f8", -np.inf),
        ("BF16", None, 0x7F81),
        ("BF16", None, 0xFF80),
    ],
)
def test_floats(tmp_path: Path, name: str, kind: str | None, bad: float, order: str) -> None:
    kind = order + (kind or "u2")
    values = np.zeros(1000, kind)
    values[7] = values[999] = bad
    path = tmp_path / "f.gguf"
    start = blocks_file(path, name, values.view(np.uint8).reshape(1000, -1), order)
    what = "NaN" if bad in (0x7F81,) or np.isnan(bad) else "infinite"
    message = f"tensor t: weight 7, at byte {start + 7 * values.itemsize}, is {what} (the first of 2 such weights)"
    assert findings_of(path) == [("P002", message, 2, "weight")]
    values[7] = values[999] = np.finfo(kind).max if name != "BF16" else 0x7F7F
    blocks_file(path, name, values.view(np.uint8).reshape(1000, -1), order)
    assert findings_of(path) == []


ILLEGAL = {
    ("Q8_0", "qs"): {"P005": [0x80]},
    ("Q8_1", "qs"): {"P005": [0x80]},
    ("Q8_K", "qs"): {"P005": [0x80]},
    ("Q2_0", "qs"): {"P005": [b for b in range(256) if 3 in (b & 3, b >> 2 & 3, b >> 4 & 3, b >> 6)]},
    ("TQ2_0", "qs"): {"P005": [b for b in range(256) if 3 in (b & 3, b >> 2 & 3, b >> 4 & 3, b >> 6)]},
    ("TQ1_0", "qs"): {"P005": sorted(set(range(256)) - {(v * 256 + 242) // 243 for v in range(243)})},
    ("TQ1_0", "qh"): {"P005": sorted(set(range(256)) - {(v * 256 + 242) // 243 for v in range(0, 243, 3)})},
    ("MXFP4", "e"): {"P003": [0xFF]},
    ("NVFP4", "d"): {"P004": [0x7F, 0xFF], "P005": list(range(0x80, 0xFF))},
}


@pytest.mark.parametrize(("name", "field"), ILLEGAL)
def test_bytes_that_no_encoder_writes(tmp_path: Path, name: str, field: str) -> None:
    layout = FORMATS[name].layout
    count = next(f.count for f in layout.fields if f.name == field)
    path = tmp_path / "f.gguf"
    found: dict[str, list[int]] = {}
    for byte in range(256):
        blocks = np.zeros((BLOCKS, layout.type_size), np.uint8)
        at = layout.offset(field) + count - 1
        blocks[3, at] = byte
        start = blocks_file(path, name, blocks)
        for code, message, n, where in findings_of(path):
            found.setdefault(code, []).append(byte)
            item = f"{field}[{count - 1}]" if count > 1 else field
            place = f"tensor t: field {item} of block 3, at byte {start + 3 * layout.type_size + at}, is {byte:#04x}: "
            assert message.startswith(place) and (n, where) == (1, field)
    assert found == ILLEGAL[name, field]
    assert all((rule_name, rule.field) in ILLEGAL for rule_name, rules in BYTE_RULES.items() for rule in rules)


@pytest.mark.parametrize("name", sorted(BYTE_RULES))
def test_the_encoders_never_write_them(tmp_path: Path, name: str) -> None:
    """Random, ternary, constant, huge and tiny weights through the reference encoder.

    Below 2**-125 the reference's MXFP4 exponent wraps around; llama.cpp itself refuses some of these blocks.
    """
    rng = np.random.default_rng(5)
    lowest = 1e-37 if name == "MXFP4" else 1e-45
    rows = [rng.standard_normal(256) * scale for scale in 10.0 ** np.arange(-40, 5)]
    rows += [rng.integers(-1, 2, 256) * 0.7, np.zeros(256), np.full(256, -3.0), np.full(256, 1e-20)]
    rows += [np.where(rng.random(256) < 0.5, lowest, -lowest), np.full(256, 6.1e4), np.full(256, -6.1e4)]
    x = np.array(rows, np.float32)
    x = x[(np.abs(x).max(axis=1) >= lowest) | ~x.any(axis=1)]
    if name == "Q8_1":
        # Its second number is a scaled sum, which overflows f16 before the scale does.
        x = np.clip(x, -2000, 2000)
    blocks = release.encode(name, np.repeat(x, 4, axis=0)).reshape(-1, FORMATS[name].type_size)
    path = tmp_path / "f.gguf"
    blocks_file(path, name, blocks)
    assert findings_of(path) == []


@pytest.fixture(scope="module")
def f32_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "f32.gguf"
    make_sample.write_model(path, layers=1, rows=64)
    return path


@pytest.mark.parametrize("file_type", sorted(set(FILE_TYPES) - {39}))
def test_no_false_alarm_on_any_file_type(tmp_path: Path, f32_model: Path, file_type: int) -> None:
    """Every file type that the release's quantizer accepts: all of ours but NVFP4, which it does not offer."""
    path = tmp_path / "q.gguf"
    assert make_sample.quantize(fetch.library_dir(), f32_model, path, file_type, threads=2) == 0
    report = check_file(path)
    assert [f.message for f in report.findings.kept] == []
    assert len(report.gguf.tensors) == 12
    # And it is what the source gives; formats that search a grid are slow, so a row of each tensor will do.
    imatrix = tmp_path / "imatrix.dat"
    imatrix.write_bytes(sources.dat_imatrix(make_sample.importance()))
    sample = ["--sample=1"] if FILE_TYPES[file_type][0].startswith("IQ") else []
    code, out, err = run_check(path, f"--source={f32_model}", f"--imatrix={imatrix}", *sample)
    assert (code, err) == (0, "") and "is bit for bit what the reference encoder" in " ".join(out.split()), out


def test_a_file_type_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    value = open_gguf(SAMPLE).metadata["general.file_type"]
    for number, wanted in [
        (7, "general.file_type is 7 (Q8_0), but 88% of the weights in matrices are Q4_K"),
        (5, f"general.file_type, at byte {value.start}, is 5, which stands for no file type in use"),
    ]:
        damaged = bytearray(SAMPLE.read_bytes())
        damaged[value.start : value.start + 4] = struct.pack("<I", number)
        path.write_bytes(damaged)
        assert findings_of(path) == [("G021", wanted, 1, None)]


def test_the_converted_sample_is_sound_and_its_scales_are_read_big_endian(tmp_path: Path) -> None:
    path = sources.big_endian(SAMPLE, tmp_path / "big.gguf")
    code, out, _ = run_check(path)
    assert code == 0 and "GGUF v3, big-endian, " in out
    tensor = next(t for t in open_gguf(path).tensors if t.type_name == "Q6_K")
    at = tensor.start + 3 * 210 + 208
    damaged = bytearray(path.read_bytes())
    damaged[at : at + 2] = b"\x7c\x00"
    path.write_bytes(damaged)
    message = f"tensor {tensor.name}: field d of block 3, at byte {at}, is infinite"
    assert findings_of(path) == [("P001", message, 1, "d")]


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


def test_mutants_end_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mutant.gguf"
    codes: Counter[int] = Counter()
    for mutant in hostile.mutants(SAMPLE.read_bytes(), 1500, seed=11):
        path.write_bytes(mutant.data)
        code, _, err = run_check(path)
        codes[code] += 1
        assert hostile.complaints(mutant, code, err, 0.0) == []
    assert codes[1] > 1000 and codes[2] > 20


def test_a_reader_that_stops_early_changes_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hifi_ref.check", str(SAMPLE)]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def reference_reads(path: Path) -> bool:
    """Whether the release's own reader accepts a file's structure, and its validator every tensor's bytes."""

    class Params(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]

    lib = release.base()
    lib.ggml_log_set(QUIET, None)
    lib.gguf_init_from_file.restype = ctypes.c_void_p
    lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    lib.gguf_free.argtypes = [ctypes.c_void_p]
    lib.ggml_validate_row_data.restype = ctypes.c_bool
    lib.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    context = lib.gguf_init_from_file(str(path).encode(), Params(True, None))
    if not context:
        return False
    lib.gguf_free(context)
    file = open_gguf(path)
    return all(lib.ggml_validate_row_data(t.type_id, file.blocks(t).tobytes(), t.nbytes) for t in file.tensors)


QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


def test_the_reference_reads_whatever_is_called_sound(tmp_path: Path) -> None:
    path = tmp_path / "mutant.gguf"
    sound = 0
    for mutant in hostile.mutants(SAMPLE.read_bytes(), 1000, seed=17):
        path.write_bytes(mutant.data)
        if not mutant.strict and run_check(path)[0] == 0:
            sound += 1
            assert reference_reads(path), mutant.how
    assert sound > 100


def test_mutants_of_a_file_with_every_type(tmp_path: Path) -> None:
    tensors = [(kind.name, i, (kind.block_size,), bytes(kind.type_size)) for i, kind in TENSOR_TYPES.items()]
    path = tmp_path / "mutant.gguf"
    for mutant in hostile.mutants(build(tensors, [("general.alignment", 4, 32), ("t", 8, b"x")]), 400, seed=3):
        path.write_bytes(mutant.data)
        code, _, err = run_check(path)
        assert code in (0, 1, 2) and "fault" not in err, mutant.how


def test_mutants_in_processes_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "mutant.gguf"
    strict = [m for m in hostile.mutants(SAMPLE.read_bytes(), 60, seed=5) if m.strict]
    for mutant in strict[:8]:
        path.write_bytes(mutant.data)
        command = [sys.executable, "-m", "hifi_ref.check", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5, check=False)
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr, mutant.how


def test_memory_does_not_grow_with_the_file_and_jax_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "zeros.gguf"
    nbytes = 600 << 20
    head = build([("t", 0, (nbytes // 4,), b"")])
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + nbytes)
    # Not ru_maxrss, which a process takes over from the one that started it.
    program = (
        "import re, sys; from hifi_ref.check import command as check; code = check.main([sys.argv[1], '--quiet']); "
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read()); "
        "print(code, int(peak[1]) >> 10, 'jax' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, mebibytes, jax = done.stdout.splitlines()[-1].split()
    assert (code, jax) == ("0", "False")
    assert int(mebibytes) < 200
