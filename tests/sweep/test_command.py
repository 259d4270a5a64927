"""The command: its report, its sources, what goes on after an interruption, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import struct
from pathlib import Path

import gguf
import jsonschema
import ml_dtypes
import numpy as np
import pytest

from hifi_ref.sweep import command, hyper, measure, weights
from hifi_ref.sweep.report import SCHEMA_FILE
from tests.paths import DATA

GOLDEN = DATA / "sweep.json"
SMALL = ("gauss", "--sample=4096", "--families=llama.cpp,hyper-single")
FORMATS = "--families=llama.cpp"
X = np.random.default_rng(3).standard_normal((8, 512)).astype(ml_dtypes.bfloat16)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(list(arguments))
    return code, *capsys.readouterr()


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    code, out, err = run(capsys, *arguments, "--json=-")
    assert (code, err) == (0, ""), err
    found = json.loads(out)
    jsonschema.validate(found, json.loads(SCHEMA_FILE.read_text()))
    return found


def losses(found: dict, name: str) -> dict[str, float]:
    (line,) = [c for c in found["configurations"] if c["name"] == name]
    return line["losses"]


def test_the_golden_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Written by `python -m hifi_ref.sweep gauss --sample=4096 --families=llama.cpp,hyper-single --json=FILE`."""
    found, golden = report(capsys, *SMALL), json.loads(GOLDEN.read_text())
    assert found.keys() == golden.keys() and found["frontier"] == golden["frontier"]
    for a, b in zip(found["configurations"], golden["configurations"], strict=True):
        assert a["losses"] == pytest.approx(b["losses"], rel=1e-6)
        assert a | {"losses": 0} == b | {"losses": 0}
    assert [v["holds"] for v in found["verdicts"]] == [v["holds"] for v in golden["verdicts"]]
    assert found["left_out"] == {}


def test_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    call = ("student-t:3", "--sample=2048", "--families=hyper-single,neighbours")
    assert run(capsys, *call, "--json=-") == run(capsys, *call, "--json=-")


def test_text_and_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "sweep.csv"
    code, out, err = run(capsys, *SMALL, f"--json={tmp_path / 'x.json'}", f"--csv={table}")
    assert (code, err) == (0, "")
    assert out.startswith("411 configurations on 4096 weights of gauss; loss: normalized\n")
    assert "\nwhat ggml lacks most: " in out and "\nnot judged: super-blocks of 8 x 8" in out
    lines = list(csv.DictReader(io.StringIO(table.read_text())))
    found = json.loads((tmp_path / "x.json").read_text())
    assert [line["name"] for line in lines] == [c["name"] for c in found["configurations"]]
    assert all(
        float(line["rmse"]) == c["losses"]["rmse"] for line, c in zip(lines, found["configurations"], strict=True)
    )


def files(folder: Path) -> list[str]:
    """The same weights in each form, among tensors that are no matrices of floats."""
    np.save(folder / "x.npy", X.astype(np.float32))
    writer = gguf.GGUFWriter(str(folder / "x.gguf"), "llama")
    writer.add_tensor("blk.0.norm.weight", np.ones(512, np.float32))
    writer.add_tensor("blk.0.attn.weight", X.view(np.uint8).reshape(8, -1), raw_dtype=gguf.GGMLQuantizationType.BF16)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    header = {
        "a": {"dtype": "BF16", "shape": [2, 4, 512], "data_offsets": [0, X.nbytes]},
        "b": {"dtype": "I32", "shape": [1, 1], "data_offsets": [X.nbytes, X.nbytes + 4]},
    }
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + X.tobytes() + bytes(4))
    return [str(folder / "x.npy"), str(folder / "x.gguf"), str(folder / "model.safetensors"), str(folder)]


def test_all_sources_give_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reports = [report(capsys, source, FORMATS) for source in files(tmp_path)]
    assert [r["weights"] for r in reports] == [X.size] * 4
    assert all(r["configurations"] == reports[0]["configurations"] for r in reports)
    assert [r["source"] for r in reports] == ["x.npy", "x.gguf", "model.safetensors", tmp_path.name]


def test_drawn_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        report(capsys, source, "--sample=65536", "--families=neighbours")
        for source in ("gauss", "gauss@0.02", "laplace", "student-t:3")
    ]
    spread = [losses(r, "fp8.tensor scale_type=f32") for r in found]
    assert spread[1]["rmse"] == pytest.approx(0.02 * spread[0]["rmse"], rel=0.02)
    nf4 = [losses(r, "bitsandbytes.nf4 block_size=64 nested=False")["normalized"] for r in found]
    assert nf4[0] == pytest.approx(nf4[1], rel=1e-3) and nf4[0] < nf4[2] < nf4[3]


def test_samples_and_rows_of_other_lengths(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "odd.npy", np.random.default_rng(0).standard_normal((100, 130)).astype(np.float32))
    assert report(capsys, str(tmp_path / "odd.npy"), FORMATS)["weights"] == 100 * 130 // 1024 * 1024
    assert report(capsys, str(tmp_path / "odd.npy"), FORMATS, "--sample=2000")["weights"] == 15 * 130 // 1024 * 1024
    np.save(tmp_path / "few.npy", np.ones((3, 1024), np.float32))
    found = report(capsys, str(tmp_path / "few.npy"), "--families=neighbours")
    assert found["left_out"] and not found["left_out"].keys() & {c["name"] for c in found["configurations"]}


def test_the_optimum(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    code, out, _ = run(capsys, "gauss", "--sample=4096", FORMATS, "--optimum=300", f"--json={path}")
    found = json.loads(path.read_text())
    jsonschema.validate(found, json.loads(SCHEMA_FILE.read_text()))
    assert {d["encoder"] for d in found["optimum"]} == {"llama.cpp"} and all(d["ratio"] >= 1 for d in found["optimum"])
    assert code == 0 and "least loss that a format's blocks can hold" in out and "d and dmin" in out


def test_importance(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = files(tmp_path)[1]
    row = np.where(np.arange(512) < 64, 1000, 1).astype("<f4")
    name = b"blk.0.attn.weight"
    entry = struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 1, 512) + row.tobytes()
    (tmp_path / "x.dat").write_bytes(entry)
    plain = report(capsys, source, FORMATS)
    found = report(
        capsys, source, f"--imatrix={tmp_path / 'x.dat'}", "--loss=weighted", "--families=llama.cpp,hyper-single"
    )
    assert losses(plain, "Q4_K")["weighted"] is None and found["loss"] == "weighted"
    assert losses(found, "Q4_K")["weighted"] < losses(found, "Q4_K")["normalized"]
    q4_0, same = losses(found, "Q8_0"), losses(found, "hyper 8s/32 fp16")
    assert q4_0["weighted"] == pytest.approx(same["weighted"], rel=0.1)
    assert losses(found, "IQ2_XXS") != losses(plain, "IQ2_XXS")


def test_it_goes_on(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyper, "CHUNK", 2048)
    monkeypatch.setattr(weights, "PIECE", 1024)
    call = ("gauss", "--sample=4096", "--families=neighbours", f"--resume={tmp_path / 'state'}")
    whole, real, seen = report(capsys, *call), measure._measured, []

    def stopping(*arguments: object) -> object:
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(measure, "_measured", stopping)
    assert run(capsys, *call) == (130, "", "hifi_ref.sweep: interrupted\n")
    assert json.loads((tmp_path / "state").read_text())["groups"] == 1
    assert report(capsys, *call) == whole and len(seen) == 3
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "state").write_text("a diary")
    assert run(capsys, *call)[:2] == (2, "")
    (tmp_path / "state").write_text(json.dumps({"digest": "another"}))
    assert report(capsys, *call) == whole


def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    np.save(tmp_path / "int.npy", np.arange(5000))
    np.save(tmp_path / "nan.npy", np.where(np.arange(4096) == 3000, np.nan, 0.5).astype(np.float32).reshape(4, -1))
    source = files(tmp_path)[1]
    usage = " (--help tells the usage)"
    known = "llama.cpp hifi hyper-single hyper-double neighbours"
    bracket = "missing ), unterminated subpattern at position 0"
    text, whole, nan = (str(tmp_path / name) for name in ("text", "int.npy", "nan.npy"))
    for arguments, message in (
        ([], f"one source is needed, but 0 are given{usage}"),
        (["gauss", "--families=k"], f"--families=k: there are {known}{usage}"),
        (["gauss", "--loss=weighted"], f"--loss=weighted needs importance: --imatrix=FILE{usage}"),
        (["gauss", "--tensors=("], f"--tensors=( is no regular expression: {bracket}{usage}"),
        (["gauss", "--csv=/none/x"], "cannot write /none/x: No such file or directory"),
        (["none"], "none: No such file or directory"),
        ([text], f"{text} is no GGUF, safetensors or .npy; numbers are gauss, laplace, student-t:3"),
        ([whole], f"{whole} holds 5000 numbers of int64, and 1024 floats or more are needed"),
        ([nan, FORMATS], "nan.npy holds a weight that is not finite, in row 2"),
        ([source, "--tensors=ffn"], f"no tensor of {source} is a matrix of floats like ffn"),
    ):  # fmt: skip
        assert run(capsys, *arguments) == (2, "", f"hifi_ref.sweep: {message}\n"), arguments
