"""Figures are those of the release's own logits; verdicts are true on both sides; bad input is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hifi_ref import models
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.models import divergence
from hifi_ref.models.divergence import Compared, figures
from hifi_ref.quality import command, grade, measure, tensors
from reference.language_model import Question, ask
from tests.models import small
from tests.paths import ROOT

CONTEXT, CHUNKS = 32, 3
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "hifi_ref/quality/report.schema.json").read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a model quantized from it, and another one; a text, and ids."""
    folder = tmp_path_factory.mktemp("quality")
    (folder / "text.txt").write_bytes(small.TEXT.encode() + b"\n")
    (folder / "ids.txt").write_text(" ".join(map(str, np.random.default_rng(1).integers(3, 300, CONTEXT * 8))))
    for name, mixed, seed in (("base", False, 0), ("quantized", True, 0), ("other", False, 5)):
        small.write(folder / f"{name}.gguf", "llama", mixed, seed)
    return folder


def run(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> tuple[int, str, str]:
    given = any(a.startswith(("--text", "--tokens")) for a in arguments)
    ids = [] if given else [f"--tokens={folder}/ids.txt"]
    code = command.main([*arguments, *ids, f"--context={CONTEXT}"])
    return code, *capsys.readouterr()


def of_json(capsys: pytest.CaptureFixture[str], folder: Path, name: str, *arguments: str) -> dict:
    code, out, err = run(capsys, folder, f"{folder}/{name}.gguf", f"--base={folder}/base.gguf", "--json=-", *arguments)
    assert (code, err) == (0, "")
    SCHEMA.validate(json.loads(out))
    return json.loads(out)


def test_against_the_logits_of_the_release(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = of_json(capsys, folder, "quantized", f"--chunks={CHUNKS}")
    ids = [int(word) for word in (folder / "ids.txt").read_text().split()]
    chunks = [ids[i * CONTEXT : (i + 1) * CONTEXT] for i in range(CHUNKS)]
    questions = [Question(str(folder / f"{n}.gguf"), [1, *c[1:]]) for n in ("base", "quantized") for c in chunks]
    answers = [answer["logits"][CONTEXT // 2 : -1] for answer in ask(questions)]
    base, ours = np.concatenate(answers[:CHUNKS]), np.concatenate(answers[CHUNKS:])
    targets = np.concatenate([c[CONTEXT // 2 + 1 :] for c in chunks])
    p, q = (z - np.logaddexp.reduce(z.astype(np.float64), axis=1, keepdims=True) for z in (base, ours))
    of_each = (np.exp(p) * (p - q)).sum(axis=1)
    exact = report["figures"]["exact"]
    assert exact["positions"] == len(targets) == CHUNKS * 15 and report["grade"] is None
    assert exact["divergence"]["value"] == pytest.approx(of_each.mean(), rel=1e-9)
    assert exact["quantiles"]["maximum"] == pytest.approx(of_each.max(), rel=1e-9)
    assert exact["quantiles"]["median"] == pytest.approx(np.median(of_each), rel=1e-9)
    assert exact["same_top"]["value"] == pytest.approx((base.argmax(1) == ours.argmax(1)).mean())
    rows = np.arange(len(targets))
    change = np.exp(q[rows, targets]) - np.exp(p[rows, targets])
    assert exact["rms_change_of_p"]["value"] == pytest.approx(math.sqrt((change**2).mean()), rel=1e-9)
    ratio = p[rows, targets] - q[rows, targets]
    assert exact["change"]["value"] == pytest.approx(100 * math.expm1(ratio.mean()), rel=1e-9)
    assert exact["log_ratio"]["uncertainty"] == pytest.approx(ratio.std() / math.sqrt(len(ratio) - 1), rel=1e-6)
    assert len(report["divergence_by_position"]) == 15
    assert report["divergence_by_position"]["16"] == pytest.approx(of_each[::15].mean(), rel=1e-9)
    assert report["figures"]["tool"]["divergence"]["value"] == pytest.approx(by_the_tool(base, ours), rel=1e-5)


def by_the_tool(base: np.ndarray, ours: np.ndarray) -> float:
    """Id after id, as the tool's loops go."""
    f = np.float32
    total = 0.0
    for row, other in zip(base, ours, strict=True):
        top, low = row.max(), max(row.min(), row.max() - f(16))
        log_sum = f(math.log(sum(math.exp(float(z - top)) for z in row)))
        scale, least = (top - low) / f(65535), low - top - log_sum
        whole = other.max() + f(math.log(sum(math.exp(float(z - other.max())) for z in other)))
        for z, z_other in zip(row, other, strict=True):
            code = f(round(float((f(1) / scale) * (z - low)))) if z > low else f(0)
            kept = scale * code + least
            if kept > -16:
                total += float(f(math.exp(float(kept))) * (kept - z_other + whole))
    return total / len(base)


def test_rows_that_are_flat() -> None:
    """Where all logits are equal the tool keeps no steps."""
    flat, targets = np.zeros((2, 8), np.float32), np.array([0, 3])
    for rule in divergence.RULES:
        found = divergence.compared(flat, flat, targets, rule)
        np.testing.assert_allclose(found.divergence, 0, atol=1e-6)
        np.testing.assert_allclose(found.nll, math.log(8), rtol=1e-6)


# VERDICTS, ON BOTH SIDES


def test_a_model_is_its_own_equal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = of_json(capsys, folder, "base")
    exact = report["figures"]["exact"]
    assert report["grade"] == "A" and report["more_than_chance"] is False
    assert exact["divergence"]["value"] == exact["change"]["value"] == 0 and exact["same_top"]["value"] == 1
    assert all(tensor["relative"] == tensor["share"] == 0 for tensor in report["tensors"])


def test_another_model_is_no_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = of_json(capsys, folder, "other")
    assert report["grade"] == "E" and report["verdict"].startswith("grade E: divergence ")
    assert report["figures"]["exact"]["same_top"]["value"] < 0.2


@pytest.mark.parametrize(
    ("mean", "letter"), [(0.0099, "A"), (0.0101, "B"), (0.049, "B"), (0.19, "C"), (0.99, "D"), (1.01, "E")]
)
def test_the_rule_of_grades(mean: float, letter: str) -> None:
    def of(values: np.ndarray) -> divergence.Figures:
        one = np.ones(len(values))
        return figures(Compared(one, one, values, one > 0, one, one))

    assert grade.grade(of(np.full(200, mean))) == letter
    assert grade.grade(of(np.full(99, mean))) is None
    # As large on average, but not known as well.
    assert grade.grade(of(np.where(np.arange(200) < 2, 100 * mean, 0))) != "A"


def test_chance() -> None:
    rng = np.random.default_rng(0)
    nll, noise = rng.exponential(2, 400), rng.standard_normal(400) * 0.1
    for shift, sure in ((0.0, False), (0.05, True), (-0.05, True)):
        other = nll + noise - noise.mean() + shift
        found = figures(Compared(other, nll, nll * 0, nll > 0, np.exp(-other), np.exp(-nll)))
        assert grade.is_more_than_chance(found) is sure
        assert f"({'more' if sure else 'no more'} than chance)" in grade.verdict(found)


# TENSORS, PAGE, INTERRUPTION


def test_errors_of_tensors(folder: Path) -> None:
    found = tensors.errors(str(folder / "quantized.gguf"), str(folder / "base.gguf"))
    by_name = {e.name: e for e in found}
    assert sum(e.share for e in found) == pytest.approx(1)
    assert by_name["blk.1.ffn_norm.weight"].mse == 0
    up = next(e for e in found if e.type_name == "Q2_K")
    assert 0.01 < up.relative < 0.2 and up.bits_per_weight == 2.625 and up.base_type == "F32"
    size = sum(t.nbytes for t in open_gguf(folder / "quantized.gguf").tensors)
    assert tensors.bits_per_weight(found) == pytest.approx(8 * size / sum(e.weights for e in found))


def test_the_page_and_the_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = [f"{folder}/quantized.gguf", f"--base={folder}/base.gguf", "--chunks=2"]
    code, text, _ = run(capsys, folder, *model, f"--html={folder}/page.html")
    assert code == 0 and text.startswith("no grade, of 30 positions: divergence ")
    assert "\ndivergence " in text and grade.RULE in text
    page = (folder / "page.html").read_text()
    assert page.count('<rect class="bar"') == 15 and "blk.1.ffn_down.weight" in page and "http" not in page


def test_it_goes_on(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    whole = of_json(capsys, folder, "quantized", f"--chunks={CHUNKS}")
    seen: list[str] = []

    def logits(path: str, ids: list[int], mode: str) -> np.ndarray:
        seen.append(path)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return models.logits(path, ids, mode)

    monkeypatch.setattr(measure, "logits", logits)
    arguments = [f"{folder}/quantized.gguf", f"--base={folder}/base.gguf", f"--chunks={CHUNKS}", "--json=-"]
    assert run(capsys, folder, *arguments) == (130, "", "hifi_ref.quality: interrupted\n")
    assert of_json(capsys, folder, "quantized", f"--chunks={CHUNKS}") == whole
    assert len(seen) == 4 + 2 * (CHUNKS - 1) and not (folder / "quantized.gguf.quality").exists()


def test_bad_input(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, base = f"{folder}/quantized.gguf", f"--base={folder}/base.gguf"
    small.write(tmp_path / "qwen2.gguf", "qwen2")
    small.write(tmp_path / "less.gguf", "llama", leave_out=["blk.1.ffn_up.weight"])
    small.write(tmp_path / "bare.gguf", "llama", leave_out=["tokenizer.ggml.model"])
    text = f"--text={folder}/text.txt"
    before = set(folder.iterdir())
    for arguments, message in (
        ((base,), "one quantized model is needed, but 0 paths are given (--help tells the usage)"),
        ((model,), "--base is needed (--help tells the usage)"),
        (
            (model, base, text, "--tokens=x"),
            "either --text or --tokens is needed (--help tells the usage)",
        ),
        (
            (model, f"--base={tmp_path}/qwen2.gguf", text),
            f"quantized.gguf and qwen2.gguf make other ids of {folder}/text.txt: they are different models",
        ),
        (
            (model, f"--base={tmp_path}/less.gguf"),
            "quantized.gguf and less.gguf are different models: quantized.gguf alone has the tensor"
            " blk.1.ffn_up.weight",
        ),
        ((f"{tmp_path}/bare.gguf", base, text), "bare.gguf: there is no tokenizer in it"),
        ((model, f"--base={folder}/none.gguf"), f"{folder}/none.gguf: No such file or directory"),
        ((model, base, f"--html={folder}/none/x"), f"cannot write {folder}/none/x: No such file or directory"),
    ):
        assert run(capsys, folder, *arguments) == (2, "", f"hifi_ref.quality: {message}\n")
    assert set(folder.iterdir()) == before
