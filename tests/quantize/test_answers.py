"""--assign --text: errors count by what they do to the model's answers; kept, gone on with, refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.models import model as models
from hifi_ref.models.model import ModelError, nobody
from hifi_ref.models.run import forward, observed
from hifi_ref.quantize import answers, tensor_errors
from hifi_ref.quantize import command as quantize
from hifi_ref.quantize.source import open_model
from tests.models import small

TRIED = ("blk.0.attn_k.weight", "blk.1.ffn_down.weight", "output.weight")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers")
    small.write(path / "model.gguf", "llama")
    (path / "text.txt").write_text(small.TEXT * 2)
    return path


@pytest.fixture(autouse=True)
def exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ids, without a compiler, and a type that is quickly encoded."""
    for name, value in (("MODE", "exact"), ("CONTEXT", 16), ("CHUNKS", 2), ("PROBE", "Q4_0")):
        monkeypatch.setattr(answers, name, value)


def flags(folder: Path, *more: str, **fields: object) -> list[str]:
    kept = {rf"^(?!{'|'.join(map(re.escape, TRIED))})": "F16"}
    (folder / "asked.json").write_text(json.dumps({"types": kept, "candidates": ["Q4_0", "Q8_0"], **fields}))
    return [f"--assign={folder / 'asked.json'}", f"--text={folder / 'text.txt'}", "--dry-run", *more,
            str(folder / "model.gguf")]  # fmt: skip


def test_an_effect_is_what_a_file_shows(folder: Path) -> None:
    """A file in which that one tensor is quantized diverges by so much."""
    source = open_model(str(folder / "model.gguf"))
    tensors = {tensor.name: tensor for tensor in source.whole.tensors if tensor.name in TRIED}
    found = answers.effects(source, tensors, None, str(folder / "text.txt"), None)
    one = folder / "one.json"
    one.write_text(json.dumps({"types": {TRIED[1]: "Q4_0", "": "F32"}}))
    assert quantize.main([f"--assign={one}", "--quiet", str(folder / "model.gguf"), str(folder / "one.gguf")]) == 0
    bos, chunks = 1, answers.texts.chunks_of(answers.texts.ids_of_text(str(folder / "model.gguf"),
                                             str(folder / "text.txt")), 16, 2, "")  # fmt: skip
    own = []
    for ids in (answers.texts.fed(chunk, bos) for chunk in chunks):
        z_base, z = (observed(folder / name, ids, nobody) for name in ("model.gguf", "one.gguf"))
        own.append(answers._divergence(z_base, z, ids))
    x = np.array(dict(small.tensors(small.MODELS["llama"], 0))[TRIED[1]])
    noise = float(np.square(x - hr.decode("Q4_0", hr.encode("Q4_0", x)).reshape(x.shape)).sum() / np.square(x).sum())
    assert found[TRIED[1]] * noise == pytest.approx(np.mean(own), rel=1e-3)
    assert all(effect > 0 for effect in found.values())


def test_types_follow_the_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is foretold is the sum of effects times errors, and the tensors that matter get the bits."""
    assert quantize.main(flags(folder, "--target-bpw=14", f"--errors={folder / 'errors'}")) == 0
    out = capsys.readouterr().out
    (foretold,) = re.findall(r"expected divergence, nats: ([\d.e-]+), at least", out)
    kinds = dict(re.findall(r"^(\S+): F32 -> (Q\d_0)", out, re.MULTILINE))
    assert kinds.keys() == set(TRIED) and set(kinds.values()) == {"Q4_0", "Q8_0"}
    effects, errors = dict(np.load(folder / "errors.text")), dict(np.load(folder / "errors"))
    by_name = {
        name: float(effects[name]) / float(errors[json.dumps([name, "Q4_0", []])]) * float(
            errors[json.dumps([name, kind, []])]
        )
        for name, kind in kinds.items()
    }  # fmt: skip
    assert float(foretold) == pytest.approx(sum(by_name.values()), rel=1e-4)
    # Without the text another assignment is the best, or none is foretold.
    given = [flag for flag in flags(folder, "--target-bpw=14") if not flag.startswith("--text")]
    assert quantize.main(given) == 0 and "expected divergence" not in capsys.readouterr().out


def test_it_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "errors.text").unlink(missing_ok=True)
    tried: list[str] = []
    encoded = answers._encoded

    def counted(plan: tensor_errors.Plan, *rest: object) -> object:
        tried.append(plan.tensor.name)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return encoded(plan, *rest)

    monkeypatch.setattr(answers, "_encoded", counted)
    given = flags(folder, "--target-bpw=14", "--quiet", f"--errors={folder / 'errors'}")
    assert quantize.main(given) == 130 and quantize.main(given) == 0
    assert tried == [*tried[:3], tried[2]] and set(tried) == set(TRIED)
    assert quantize.main(given) == 0 and len(tried) == 4
    (folder / "text.txt").write_text(small.TEXT[::-1] * 2)
    assert quantize.main(given) == 0 and len(tried) == 7


def test_what_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "text.txt").write_text("short")
    assert quantize.main(flags(folder, "--target-bpw=14")) == 2
    assert "two chunks of 16, are needed" in capsys.readouterr().err
    assert quantize.main(["--mixture=Q4_0", "--text=x", "--dry-run", str(folder / "model.gguf")]) == 2
    assert "--text goes with --assign" in capsys.readouterr().err
    assert quantize.main(["--assign=ends-high", "--text=x", "--dry-run", str(folder / "model.gguf")]) == 2
    assert "--text does not go with --assign=ends-high" in capsys.readouterr().err


def test_what_stands_in_has_the_shape(folder: Path) -> None:
    path, ids = folder / "model.gguf", [1, 5, 6]
    tensor = next(t for t in open_gguf(path).tensors if t.name == TRIED[1])
    own = answers.Matrix("F32", open_gguf(path).blocks(tensor).reshape(256, -1), 256)
    model = models.open_model(path)
    changed = replace(model, replaced={TRIED[1]: own})
    assert np.array_equal(forward(changed, ids), forward(model, ids))
    with pytest.raises(ModelError, match="does not fit the model's other sizes"):
        forward(replace(model, replaced={TRIED[1]: own._replace(blocks=own.blocks[:7])}), ids)
