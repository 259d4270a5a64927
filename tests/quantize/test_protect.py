"""--protect-super-weights: a planted super weight is lost without it, and kept with it; what that costs is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.models import logits, tokenize
from hifi_ref.models.divergence import compared
from hifi_ref.quality import command as quality
from hifi_ref.quantize import command as quantize
from tests.models import planted, small

SCHEMA = Path(__file__).resolve().parents[2] / "hifi_ref" / "quality" / "super_weights.schema.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.write(tmp_path_factory.mktemp("planted") / "model.gguf")


@pytest.fixture(scope="module")
def listed(model: Path) -> Path:
    """As the command lists it."""
    path = model.parent / "list.json"
    assert quality.main([str(model), "--super-weights", f"--json={path}"]) == 0
    return path


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.type_name for tensor in open_gguf(path).tensors}


def divergence(model: Path, other: Path) -> float:
    ids = tokenize(model, small.TEXT.encode(), special=True, parse=False)[:24]
    z_base, z = logits(model, ids), logits(other, ids)
    return float(compared(z_base[:-1], z[:-1], np.array(ids[1:]), "exact", "exact").divergence.mean())


def test_the_list(model: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(listed.read_text())
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    assert [(w["tensor"], w["row"], w["column"]) for w in found["weights"]] == [
        (planted.TENSOR, planted.ROW, planted.COLUMN)
    ]
    capsys.readouterr()
    assert quality.main([str(model), "--super-weights=largest", f"--base={model}", "--json=-"]) == 0
    largest = json.loads(capsys.readouterr().out)
    jsonschema.validate(largest, json.loads(SCHEMA.read_text()))
    assert largest["kept"] == len(largest["weights"]) > 50


def test_lost_and_kept(model: Path, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, kept = tmp_path / "plain.gguf", tmp_path / "kept.gguf"
    (tmp_path / "one.json").write_text('{"types": {"blk.0.ffn_down": "Q4_0", "": "F16"}}')
    one = f"--assign={tmp_path / 'one.json'}"
    assert quantize.main([one, "--quiet", str(model), str(plain)]) == 0
    assert quality.main([str(plain), f"--base={model}", "--super-weights"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"row 17, column 201: 3 times .*; changed by 100.00%\n", out)
    assert "keeps 0 of them within 1%" in out
    # Found by a pass of its own.
    assert quantize.main([one, "--protect-super-weights", str(model), str(kept)]) == 0
    out = capsys.readouterr().out
    more, before, after = re.search(r"(\d+) bytes more, error of the tensor ([\d.e-]+) -> ([\d.e-]+)", out).groups()
    assert "super weights: 1, of which 0 are kept without more" in out and float(after) < float(before)
    assert kept.stat().st_size - plain.stat().st_size == int(more)
    changed = {name for name, kind in types(kept).items() if kind != types(plain)[name]}
    assert changed == {planted.TENSOR}
    assert quality.main([str(kept), f"--base={model}", "--super-weights"]) == 0
    assert "keeps 1 of them within 1%" in capsys.readouterr().out
    assert divergence(model, plain) > 10 and divergence(model, kept) < 0.1


def test_an_outlier_slot_is_enough(model: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flag = f"--protect-super-weights={listed}"
    assert quantize.main(["--type=Q4_K_HIFI", flag, "--dry-run", "--quiet", str(model)]) == 0
    assert "super weights: 1, of which 1 are kept without more" in capsys.readouterr().out
    # LITE keeps what it lost most of; where that is not enough a type with slots takes its place.
    assert quantize.main(["--type=Q2_K_LITE", flag, "--dry-run", "--quiet", str(model)]) == 0
    out = capsys.readouterr().out
    assert "1 are kept without more" in out or re.search(r"Q2_K_LITE -> \w+_HIFI\w* keeps 1 super weight:", out)


def test_with_an_assignment(model: Path, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tensor's type is given, the others are chosen for what is left."""
    (tmp_path / "asked.json").write_text('{"bits": 5.6, "candidates": ["Q4_0", "Q8_0"], "weights": {"ffn_down": 0.01}}')
    flags = [f"--assign={tmp_path / 'asked.json'}", "--quiet", "--dry-run", str(model)]
    assert quantize.main([f"--protect-super-weights={listed}", *flags]) == 0
    out = capsys.readouterr().out
    assert f"{planted.TENSOR}: Q4_0 -> " in out
    assert float(re.findall(r"([\d.]+) bits a weight", out)[0]) <= 5.6


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is no list of super weights"),
        ('{"weights": [{"tensor": "x"}]}', "is no list of super weights"),
        ('{"weights": [{"tensor": "x", "matrix": 0, "row": 0, "column": 0}]}', "model.gguf has no tensor x"),
        ('{"weights": [{"tensor": 3, "matrix": 0, "row": 0, "column": 0}]}', "model.gguf has no tensor 3"),
        (f'{{"weights": [{{"tensor": "{planted.TENSOR}", "matrix": 0, "row": 256, "column": 0}}]}}', "is no place in"),
        (f'{{"weights": [{{"tensor": "{planted.TENSOR}", "matrix": 1, "row": 0, "column": 0}}]}}', "is no place in"),
        (f'{{"weights": [{{"tensor": "{planted.TENSOR}", "matrix": 0, "row": 0, "column": 1.5}}]}}', "is no place in"),
    ],
)
def test_a_list_that_is_none(
    text: str, sentence: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.json").write_text(text)
    flags = [f"--protect-super-weights={tmp_path / 'list.json'}", "--mixture=Q4_0"]
    assert quantize.main([*flags, str(model), str(tmp_path / "out.gguf")]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1 and not (tmp_path / "out.gguf").exists()


def test_what_does_not_go_together(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--protect-super-weights", "--prune-layers=1", "--mixture=Q4_0", "--dry-run"]
    assert quantize.main([*flags, str(model)]) == 2 and "--prune-layers" in capsys.readouterr().err
    assert quality.main([str(model), "--super-weights=all"]) == 2
    assert "there is no --super-weights=all; there are spikes and largest" in capsys.readouterr().err
    assert quality.main([str(model), "--super-weights", "--html=x.html"]) == 2
    assert "--super-weights goes with" in capsys.readouterr().err


def test_a_model_that_cannot_be_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small.write(tmp_path / "model.gguf", "llama", leave_out=["tokenizer.ggml.model"])
    assert quantize.main(["--protect-super-weights", "--mixture=Q4_0", "--dry-run", str(path)]) == 2
    assert "there is no tokenizer in it" in capsys.readouterr().err
