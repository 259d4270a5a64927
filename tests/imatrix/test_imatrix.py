"""Files are those of the release, sums those of its graph; what was interrupted goes on; bad input is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hifi_ref import models
from hifi_ref.imatrix import collect, command, compare, mixing
from hifi_ref.mixtures.llama_quantize import file_types
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.imatrix import importance, read_imatrix, read_sums
from hifi_ref.quantize import command as quantize
from reference import quantizer
from tests.imatrix import of_release
from tests.models import small
from tests.paths import ROOT

CONTEXT = 16
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "hifi_ref/imatrix/report.schema.json").read_text()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_bytes(small.TEXT.encode() + b"\n")
    (tmp_path / "other.txt").write_bytes(small.TEXT[::-1].encode())
    return small.write(tmp_path / "model.gguf", "mixtral")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = command.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def collected(capsys: pytest.CaptureFixture[str], model: Path, out: Path, *arguments: str) -> Path:
    text = [f"--text={model.parent / 'text.txt'}"] if not any(a.startswith("--mix") for a in arguments) else []
    code, _, err = run(capsys, model, *text, f"--context={CONTEXT}", f"--out={out}", *arguments)
    assert (code, err) == (0, "")
    return out


def fed(model: Path, text: str, count: int) -> list[list[int]]:
    ids = models.tokenize(model, text.encode(), True, False)
    return [[1, *ids[i * CONTEXT + 1 : (i + 1) * CONTEXT]] for i in range(count)]


def test_the_files_of_the_release(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = collected(capsys, model, model.parent / "ours.gguf", "--chunks=3")
    sums = models.imatrix(model, fed(model, small.TEXT, 3))
    theirs = of_release.write(model.parent / "theirs.gguf", sums, [str(model.parent / "text.txt")], 3, CONTEXT)
    assert out.read_bytes() == theirs.read_bytes()
    assert not (model.parent / "model.gguf.imatrix").exists()


def test_the_older_form(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gguf = read_sums(collected(capsys, model, model.parent / "new.gguf", "--chunks=3"))
    path = collected(capsys, model, model.parent / "old.dat", "--chunks=3", "--format=dat")
    dat, data = read_sums(path), path.read_bytes()
    text = str(model.parent / "text.txt").encode()
    assert data.endswith(struct.pack("<ii", 3, len(text)) + text) and dat.chunks == 3
    for name, rows in importance(gguf).items():
        np.testing.assert_allclose(importance(dat)[name], rows, rtol=1e-6)
        assert dat.counts[name] == -(-gguf.counts[name].max() // CONTEXT)


def test_it_goes_on(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = collected(capsys, model, model.parent / "whole.gguf").read_bytes()
    seen: list[int] = []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return models.imatrix(*arguments)

    monkeypatch.setattr(collect, "imatrix", interrupted)
    out = model.parent / "parts.gguf"
    text = f"--text={model.parent / 'text.txt'}"
    assert run(capsys, model, text, f"--context={CONTEXT}", f"--out={out}")[0] == 130
    assert not out.exists()
    assert collected(capsys, model, out).read_bytes() == whole
    assert len(seen) == read_sums(out).chunks + 1


def test_mixtures(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = model.parent / "text.txt", model.parent / "other.txt"
    mix = f"--mix={first}:2,{second}:1"
    report = model.parent / "report.json"
    mixed = read_sums(collected(capsys, model, model.parent / "mixed.gguf", mix, "--chunks=4", f"--json={report}"))
    SCHEMA.validate(json.loads(report.read_text()))
    assert [text["chunks"] for text in json.loads(report.read_text())["texts"]] == [3, 1]
    assert mixed.datasets == (str(first), str(second)) and mixed.chunks == 4
    want = models.imatrix(model, fed(model, small.TEXT, 3) + fed(model, small.TEXT[::-1], 1))
    for name, (sums, counts) in want.items():
        np.testing.assert_array_equal(mixed.sums[name], sums)
        np.testing.assert_array_equal(mixed.counts[name], counts)


@pytest.mark.parametrize(
    ("shares", "available", "total", "counts"),
    [
        ((40, 30, 30), (99, 99, 99), 10, [4, 3, 3]),
        ((40, 30, 30), (40, 99, 99), None, [40, 30, 30]),
        ((60, 25, 15), (9, 9, 9), 7, [4, 2, 1]),
        ((1, 1), (3, 2), None, [3, 2]),
        ((1, 1, 1), (5, 5, 4), None, [5, 5, 4]),
    ],
)
def test_shares(shares, available, total, counts) -> None:
    parts = [mixing.Part(f"{share}", share) for share in shares]
    assert mixing.chunks_of_each(parts, available, total) == counts


def test_a_share_that_is_not_there() -> None:
    with pytest.raises(InputError, match="^b has 2 chunks, and 5 of 10 are its share$"):
        mixing.chunks_of_each([mixing.Part("a", 1), mixing.Part("b", 1)], (9, 2), 10)


def test_merging(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent
    a, b = (collected(capsys, model, folder / f"{n}.gguf", f"--chunks={n}") for n in (2, 3))
    code, out, _ = run(capsys, f"--merge={a},{b}", f"--out={folder / 'both.gguf'}", "--json=-")
    assert code == 0 and json.loads(out)["merged"] == ["2.gguf", "3.gguf"]
    SCHEMA.validate(json.loads(out))
    first, second, both = (read_sums(path) for path in (a, b, folder / "both.gguf"))
    assert both.chunks == 5 and both.datasets == first.datasets * 2
    for name, sums in both.sums.items():
        np.testing.assert_array_equal(sums, first.sums[name] + second.sums[name])
        np.testing.assert_array_equal(both.counts[name], first.counts[name] + second.counts[name])
    wide = small.write(folder / "dense.gguf", "llama")
    other = collected(capsys, wide, folder / "dense.out", "--chunks=2", "--context=20")
    code, _, err = run(capsys, f"--merge={a},{other}", f"--out={folder / 'no.gguf'}")
    assert (code, err) == (2, "hifi_ref.imatrix: the matrices have chunks of 16, 20 ids: --context is needed\n")
    assert not (folder / "no.gguf").exists()


def test_comparing(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent
    a, b = (collected(capsys, model, folder / f"{n}.gguf", f"--chunks={n}") for n in (2, 3))
    code, out, _ = run(capsys, f"--compare={a},{a}", "--json=-")
    assert code == 0
    SCHEMA.validate(json.loads(out))
    assert all(t["cosine"] == t["ranks"] == pytest.approx(1) for t in json.loads(out)["tensors"])
    code, out, _ = run(capsys, f"--compare={a},{b}")
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["tensor", "cosine", "ranks"] and len(lines) == 17
    assert all(0.2 < float(line.split()[1]) < 1 for line in lines[1:])


def test_quantize_takes_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent
    matrix = collected(capsys, model, folder / "matrix.gguf")
    found = read_imatrix(matrix)
    keys = {"quantize.imatrix.file": str(matrix)[:127], "quantize.imatrix.dataset": found.datasets[0][:127]}
    keys |= {"quantize.imatrix.entries_count": len(found.rows), "quantize.imatrix.chunks_count": found.chunks}
    answer = quantizer.quantize(model, folder / "theirs.gguf", file_types()["Q4_0"], found.rows, keys)
    assert not answer.problem
    arguments = ["--mixture=Q4_0", "--quiet", f"--imatrix={matrix}", str(model), str(folder / "ours.gguf")]
    assert quantize.main(arguments) == 0
    assert (folder / "ours.gguf").read_bytes() == (folder / "theirs.gguf").read_bytes()


def test_bad_input(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent
    text, out = f"--text={folder / 'text.txt'}", f"--out={folder / 'out.gguf'}"
    (folder / "short.txt").write_text("too short")
    bare = small.write(folder / "bare.gguf", "llama", leave_out=["tokenizer.ggml.model"])
    before = set(folder.iterdir())
    help_tells = " (--help tells the usage)"
    for arguments, message in (
        ((model, out), f"one of --text, --mix, --merge and --compare is needed{help_tells}"),
        ((model, text), f"--out is needed{help_tells}"),
        ((text, out), f"one model is needed with --text, but 0 paths are given{help_tells}"),
        ((f"--compare={model}",), f"--compare takes two matrices, not 1{help_tells}"),
        (
            (model, "--mix=a:1,b", out),
            f"--mix is a list of FILE:SHARE, a share being a whole number, not 'b'{help_tells}",
        ),
        ((bare, text, out), "bare.gguf: there is no tokenizer in it"),
        (
            (model, f"--text={folder / 'short.txt'}", out),
            f"{folder / 'short.txt'} has 10 ids, and at least 1024, two chunks of 512, are needed",
        ),
        ((f"--compare={model},{model}",), f"{model}: a GGUF whose general.type is not imatrix"),
        ((model, f"--text={folder / 'none'}", out), f"{folder / 'none'}: No such file or directory"),
        (
            (model, text, f"--out={folder / 'none' / 'x'}"),
            f"cannot write {folder / 'none' / 'x'}: No such file or directory",
        ),
    ):
        assert run(capsys, *arguments) == (2, "", f"hifi_ref.imatrix: {message}\n")
    assert set(folder.iterdir()) == before


def test_ranks() -> None:
    """Spearman's correlation, with ties at their mean, against one computed by hand."""
    ranks = compare._ranks(np.array([5, 1, 5, 3], np.float32))
    assert ranks.tolist() == [2.5, 0, 2.5, 1]
    row = np.arange(5, dtype=np.float32)
    assert compare._ranks_agree(row, row**3) == 1 and compare._ranks_agree(row, -row) == -1
    assert compare._ranks_agree(row, np.ones(5, np.float32)) is None
    assert compare._cosine(row, 2 * row) == pytest.approx(1)


def test_weights_that_are_not_finite(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blank = small.write(model.parent / "blank.gguf", "llama")
    tensor = next(t for t in open_gguf(blank).tensors if t.name == "blk.1.ffn_norm.weight")
    data = bytearray(blank.read_bytes())
    data[tensor.start : tensor.start + 4] = np.float32(np.nan).tobytes()
    blank.write_bytes(data)
    arguments = (blank, f"--text={model.parent / 'text.txt'}", f"--context={CONTEXT}", f"--out={model.parent / 'out'}")
    message = "what blk.1.ffn_up.weight is to be multiplied with is not finite at token 0"
    assert run(capsys, *arguments) == (2, "", f"hifi_ref.imatrix: blank.gguf: {message}\n")
    assert not (model.parent / "out").exists()
