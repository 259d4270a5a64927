"""A tensor of a file, and a block of it: numbers against a direct count, and both sides of every difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import hifi_ref as hr
from golden import places as golden_places
from hifi_ref.explain import command
from hifi_ref.explain.files import report
from hifi_ref.explain.files.place import open_place
from hifi_ref.explain.files.survey import survey
from hifi_ref.explain.reading import read_blocks
from hifi_ref.explain.steps import steps
from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.model_files.files import InputError
from tests.explain.schema import SCHEMA
from tests.paths import SAMPLE
from tools import make_sample

ROWS, ROW = 8, 512
NAMES = ("Q4_K", "Q6_K", "IQ2_XXS", "IQ4_XS", "Q8_0", "MXFP4", "NVFP4", "TQ1_0", "Q4_1", "F16", "BF16")


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return make_sample.made_weights(3, ROWS, ROW)


def blocks_of(name: str, x: np.ndarray, **more: Any) -> np.ndarray:
    importance = np.ones(x.shape[-1], np.float32) if FORMATS[name].requires_weights else None
    return hr.encode(name, x, importance, lane="numpy", **more)


def write(path: Path, **tensors: tuple[str, np.ndarray]) -> str:
    """A file with tensors of raw rows, u8[rows, row bytes], each of the type that is named."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, (kind, rows) in tensors.items():
        writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def of_tensor(*arguments: str, **more: str) -> dict[str, Any]:
    found = report.of_tensor(*arguments, **more)
    SCHEMA.validate(json.loads(json.dumps(found)))
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(arguments)
    return code, *capsys.readouterr()


# READING


@pytest.mark.parametrize("name", [name for name in LLAMA_CPP if golden_places.bits(name)])
def test_numbers_are_read_as_the_golden_places_say(name: str) -> None:
    blocks = np.random.default_rng(1).integers(0, 256, (33, FORMATS[name].type_size)).astype(np.uint8)
    ours, theirs = read_blocks(name, blocks), golden_places.read(name, blocks)
    if name == "TQ1_0":
        theirs = {"digits": np.concatenate([theirs["byte"], theirs["tail"]], axis=1)}
    for kind, numbers in theirs.items():
        found = ours["e" if (name, kind) == ("MXFP4", "scale") else kind]
        assert np.array_equal(found.astype(int) & ((1 << golden_width(name, kind)) - 1), numbers)


def golden_width(name: str, kind: str) -> int:
    return 8 if kind == "digits" else golden_places.bits(name)[kind].shape[1]


# A TENSOR


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_is_counted_rightly(name: str, x: np.ndarray, tmp_path: Path) -> None:
    rows = blocks_of(name, x)
    found = survey(open_place(write(tmp_path / "m.gguf", t=(name, rows)), "t"))
    w = hr.decode(name, rows, lane="numpy")
    size = FORMATS[name].block_size
    assert found["weights"] == x.size and found["blocks"] == x.size // size and found["blocks_not_finite"] == 0
    assert found["root_mean_square"] == pytest.approx(np.sqrt((w.astype(float) ** 2).mean()), rel=1e-5)
    assert found["zero_share"] == (w == 0).mean()
    largest = abs(w).reshape(-1, size).max(axis=1)
    assert found["largest"][0]["block"] == largest.argmax() and abs(found["largest"][0]["value"]) == largest.max()
    assert found["blocks_with_outliers"] == (largest > 6 * np.sqrt((w.astype(float) ** 2).mean())).sum()
    numbers = read_blocks(name, rows.reshape(-1, FORMATS[name].type_size))
    for use in found["codes"]:
        values = numbers[use["kind"]].astype(int).reshape(-1)
        counts = np.bincount(values - use["lowest_value"], minlength=1 << use["bits"])
        assert use["counts"] == counts.tolist()
        share = counts[counts > 0] / counts.sum()
        assert use["entropy"] == pytest.approx(-(share * np.log2(share)).sum(), rel=1e-3, abs=1e-9)
        assert use["lowest_share"] == counts[0] / counts.sum() and use["highest_share"] == counts[-1] / counts.sum()
    if size > 1:
        by_hand = [next(s.values for s in steps(name, b) if s.name in STEP_NAMES[name]) for b in each_block(name, rows)]
        assert found["steps"]["50 %"] == pytest.approx(np.median(abs(np.concatenate(by_hand))), rel=1e-4)
    else:
        assert found["steps"] is None


STEP_NAMES = {name: ("step[s]", "step") if name in ("Q4_K", "Q6_K", "IQ2_XXS", "IQ4_XS", "MXFP4", "NVFP4") else ("d",)
              for name in NAMES}  # fmt: skip


def each_block(name: str, rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, FORMATS[name].type_size)


def test_blocks_that_are_not_finite_are_told_apart(x: np.ndarray, tmp_path: Path) -> None:
    rows = blocks_of("Q8_0", x).copy()
    rows[0, :2] = 0x00, 0x7C
    found = survey(open_place(write(tmp_path / "m.gguf", t=("Q8_0", rows)), "t"))
    assert found["blocks_not_finite"] == 1 and np.isfinite(found["root_mean_square"])


# BESIDE ITS SOURCE


@pytest.mark.parametrize("name", ["Q4_K", "Q8_0", "IQ2_XXS", "MXFP4"])
def test_what_the_reference_wrote_is_said_to_be_so(name: str, x: np.ndarray, tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf", t=(name, blocks_of(name, x)))
    source = write(tmp_path / "s.gguf", t=("F32", x))
    found = of_tensor(file, "t", source)
    reference = found["errors"]["reference"]
    assert reference["differing"] == 0 and reference["blocks"] == x.size // FORMATS[name].block_size
    w = hr.decode(name, blocks_of(name, x), lane="numpy").astype(float)
    relative = np.sqrt(((w - x) ** 2).sum() / (x.astype(float) ** 2).sum())
    assert found["errors"]["relative_error"] == pytest.approx(relative, rel=1e-3)
    block = of_tensor(file, "t:3", source)["block"]
    assert block["source"]["reference"]["kinds"] == [] and block["source"]["reference"]["why"] is None
    assert block["source"]["reference"]["bytes"] == block["bytes"]
    assert ("search" in block["source"] and block["source"]["search"] is not None) == (name != "Q8_0")


def test_a_changed_code_is_named(x: np.ndarray, tmp_path: Path) -> None:
    """One bit of a code of block 5: it is the worst block, and its number is listed with both values."""
    rows = blocks_of("Q4_K", x).copy()
    blocks = rows.reshape(-1, 144)
    before = int(read_blocks("Q4_K", blocks[5:6])["code"][0, 7])
    blocks[5, 16 + 7] ^= 0x08
    file = write(tmp_path / "m.gguf", t=("Q4_K", rows))
    source = write(tmp_path / "s.gguf", t=("F32", x))
    reference = of_tensor(file, "t", source)["errors"]["reference"]
    listed = [{"kind": "code", "number": 7, "file": before ^ 8, "reference": before}]
    assert reference["differing"] == 1 and reference["kinds"] == {"code": 1}
    assert reference["first"] == {"block": 5, "numbers": listed}
    assert reference["why"].startswith("Scales are the same") and "larger than" in reference["why"]
    assert of_tensor(file, "t:5", source)["block"]["source"]["reference"]["numbers"] == listed


@pytest.mark.parametrize(
    ("name", "profile", "named"),
    [
        ("Q6_K", "clang-arm64", "clang-arm64 or gcc-x86-fma or gcc-x86-fma-intel"),
        ("Q2_K", "gcc-x86-fma", "gcc-x86-fma or gcc-x86-fma-intel"),
    ],
)
def test_the_builds_that_may_have_written_a_tensor_are_named(
    tmp_path: Path, name: str, profile: str, named: str
) -> None:
    x = make_sample.made_weights(5, 64, 512)
    rows = blocks_of(name, x, profile=profile)
    assert (rows != blocks_of(name, x)).any()
    file, source = write(tmp_path / "m.gguf", t=(name, rows)), write(tmp_path / "s.gguf", t=("F32", x))
    assert of_tensor(file, "t", source)["errors"]["reference"]["profile"] == named


def test_importance_has_its_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample was quantized with importance: with it nothing differs, without it nearly all does."""
    source, imatrix = tmp_path / "s.gguf", tmp_path / "imatrix.dat"
    make_sample.write_model(source)
    name = "blk.0.attn_v.weight"
    row = make_sample.importance()[name]
    raw = name.encode()
    numbers = np.concatenate([[1, len(raw)]]).astype("<i4").tobytes()
    imatrix.write_bytes(numbers + raw + np.array([1, len(row)], "<i4").tobytes() + row.astype("<f4").tobytes())
    code, text, err = run(capsys, str(SAMPLE), name, f"--source={source}", f"--imatrix={imatrix}")
    assert (code, err) == (0, "") and "with the importance that was given: all are what the file has." in flat(text)
    without = run(capsys, str(SAMPLE), name, f"--source={source}")[1]
    assert "without importance: 128 differ." in flat(without) and "importance that is not given here" in flat(without)


def flat(text: str) -> str:
    return " ".join(text.split())


# BESIDE ANOTHER


def test_two_quantizations(x: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write(tmp_path / "a.gguf", t=("Q4_K", blocks_of("Q4_K", x)))
    other = write(tmp_path / "b.gguf", t=("Q8_0", blocks_of("Q8_0", x)))
    source = write(tmp_path / "s.gguf", t=("F32", x))
    found = of_tensor(one, "t", source, other=other)
    a, b = (hr.decode(n, blocks_of(n, x), lane="numpy").astype(float) for n in ("Q4_K", "Q8_0"))
    assert found["compared"]["relative_difference"] == pytest.approx(
        np.sqrt(((a - b) ** 2).sum() / (a**2).sum()), rel=1e-3
    )
    assert found["compared"]["correlation"] == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    assert found["compared"]["errors"]["relative_error"] < found["errors"]["relative_error"]
    block = of_tensor(one, "t:3", other=other)["compared"]
    assert np.array_equal(block["weights"][0], a.reshape(-1, 256)[3])
    assert np.array_equal(block["weights"][1], b.reshape(-1, 256)[3])
    html, data = tmp_path / "p.html", tmp_path / "p.json"
    flags = [f"--source={source}", f"--compare={other}", f"--html={html}", f"--json={data}", "--all"]
    for text in ("t", "t:3"):
        code, out, err = run(capsys, one, text, *flags)
        assert (code, err) == (0, "") and "Beside another quantization" in out
        assert json.loads(data.read_text())["tensor"] == "t" and "Beside another quantization" in html.read_text()


# WRONG USAGE


def test_what_is_not_there(x: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "m.gguf", output=("Q4_K", blocks_of("Q4_K", x)), ids=("I32", np.zeros((2, 16), np.uint8)))
    narrow = write(tmp_path / "n.gguf", output=("Q4_K", blocks_of("Q4_K", x[:, :256].copy())))
    (tmp_path / "cut.gguf").write_bytes(Path(file).read_bytes()[:-500])
    cases = [
        ((file, "outputs"), f"{file} has no tensor outputs; near it are output"),
        ((file, "output:16"), "tensor output has 16 blocks, 0 to 15, and no 16"),
        ((file, "ids"), "tensor ids is of type I32, which is no block format"),
        ((file,), f"of the file {file} a TENSOR is needed"),
        ((file, "output", "more"), "a FORMAT, or a FILE and a TENSOR, are needed, 3 are given"),
        ((file, "output", "--imatrix=x"), "--imatrix needs a --source to encode with it"),
        (("Q4_0", "--source=x"), "--source needs a FILE and a TENSOR"),
        ((str(tmp_path / "no.gguf"), "t"), f"cannot read {tmp_path}/no.gguf: No such file or directory"),
        ((str(tmp_path / "cut.gguf"), "output"), f"{tmp_path}/cut.gguf: "),
        ((file, "output", f"--compare={narrow}"), "the shape of tensor output is [512, 8], and [256, 8] in "),
        ((file, "output", f"--source={narrow}"), "the shape of tensor output is [512, 8], and [256, 8] in "),
        ((file, "output:1", f"--compare={narrow}"), "the shape of tensor output is [512, 8], and [256, 8] in "),
    ]
    for arguments, sentence in cases:
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "") and err.startswith(f"hifi_ref.explain: {sentence}") and err.count("\n") == 1, err


def test_a_source_that_is_not_finite(x: np.ndarray, tmp_path: Path) -> None:
    broken = x.copy()
    broken[2, 5] = np.nan
    file, source = (
        write(tmp_path / "m.gguf", t=("Q8_0", blocks_of("Q8_0", x))),
        write(tmp_path / "s.gguf", t=("F32", broken)),
    )
    with pytest.raises(InputError, match="tensor t of the source is not finite in rows 0 to 7"):
        of_tensor(file, "t", source)
    with pytest.raises(InputError, match="block 32 of tensor t is not finite in the source"):
        of_tensor(file, "t:32", source)
    assert of_tensor(file, "t:3", source)["block"]["source"]["reference"]["kinds"] == []


def test_a_name_with_a_colon(x: np.ndarray, tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf", **{"a:1": ("Q8_0", blocks_of("Q8_0", x))})
    assert open_place(file, "a:1").block is None and open_place(file, "a:1:7").block == 7
