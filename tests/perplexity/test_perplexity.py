"""Its numbers are those of the release's own logits; it goes on after an interruption; bad input is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hifi_ref import models
from hifi_ref.model_files.files import InputError
from hifi_ref.models import measures
from hifi_ref.perplexity import command
from reference.language_model import Question, ask
from tests.models import small
from tests.paths import ROOT

CONTEXT = 16


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_bytes(small.TEXT.encode() + b"\n")
    return small.write(tmp_path / "llama.gguf", "llama")


def run(capsys: pytest.CaptureFixture[str], model: Path, *arguments: str) -> tuple[int, str, str]:
    code = command.main([str(model), f"--context={CONTEXT}", *arguments])
    return code, *capsys.readouterr()


def text(model: Path) -> str:
    return f"--text={model.parent / 'text.txt'}"


def test_against_the_logits_of_the_release(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, model, text(model), "--chunks=3", "--json=-")
    assert (code, err) == (0, "")
    report = json.loads(out)
    jsonschema.validate(report, json.loads((ROOT / "hifi_ref/perplexity/report.schema.json").read_text()))
    # The text ends with the byte before its last line end.
    ids = models.tokenize(model, small.TEXT.encode(), True, False)
    chunks = [ids[i * CONTEXT : (i + 1) * CONTEXT] for i in range(3)]
    values = []
    for chunk, answer in zip(chunks, ask([Question(str(model), [1, *chunk[1:]]) for chunk in chunks]), strict=True):
        for at in range(CONTEXT // 2, CONTEXT - 1):
            z = answer["logits"][at].astype(np.float64)
            values.append(z.max() + math.log(np.exp(z - z.max()).sum()) - z[chunk[at + 1]])
    mean, spread = np.mean(values), np.std(values) / math.sqrt(len(values) - 1)
    assert report["scored"] == len(values) == 21 and report["chunks"] == 3
    assert report["nll"] == pytest.approx(mean, rel=1e-6)
    assert report["perplexity"] == pytest.approx(math.exp(mean), rel=1e-6)
    assert report["uncertainty"] == pytest.approx(math.exp(mean) * spread, rel=1e-5)
    assert report["after_each_chunk"][0] == pytest.approx(math.exp(np.mean(values[:7])), rel=1e-6)
    assert report["after_each_chunk"][2] == report["perplexity"]


def test_ids_of_a_file_and_the_text_shown(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_text = run(capsys, model, text(model))
    ids = model.parent / "ids.json"
    ids.write_text(json.dumps(models.tokenize(model, small.TEXT.encode(), True, False)))
    assert run(capsys, model, f"--tokens={ids}") == of_text
    assert of_text[0] == 0 and of_text[1].startswith("perplexity ")
    assert "; llama.cpp v0.5.0 x64, flash attention off, K/V cache F32; " in of_text[1]


def test_the_fast_mode(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exact, fast = (
        json.loads(run(capsys, model, text(model), "--chunks=2", "--json=-", f"--mode={mode}")[1])
        for mode in models.MODES
    )
    assert (exact["mode"], fast["mode"]) == models.MODES
    assert fast["perplexity"] == pytest.approx(exact["perplexity"], rel=1e-4)
    _, out, _ = run(capsys, model, text(model), "--mode=fast")
    assert "; llama.cpp v0.5.0 in fast mode, sums in any order; jax " in out


def test_it_goes_on(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    whole = run(capsys, model, text(model), "--json=-")
    assert whole[0] == 0
    seen: list[int] = []
    state = model.parent / "llama.gguf.perplexity"

    def logits(path: str, ids: list[int], mode: str) -> np.ndarray:
        if len(seen) == 2:
            seen.append(-1)
            raise KeyboardInterrupt
        seen.append(ids[1])
        return models.logits(path, ids, mode)

    monkeypatch.setattr(command, "logits", logits)
    assert run(capsys, model, text(model), "--json=-") == (130, "", "hifi_ref.perplexity: interrupted\n")
    with np.load(state) as kept:
        assert len(kept["nll"]) == 2
    assert run(capsys, model, text(model), "--json=-") == whole
    chunks = json.loads(whole[1])["chunks"]
    # The call that was interrupted, and each chunk once.
    assert len(seen) == chunks + 1
    assert not state.exists()


def test_what_is_kept_of_another_measurement(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = model.parent / "state"
    np.savez(state, digest="another", nll=np.ones((1, 7)))
    (state.parent / "state.npz").rename(state)
    assert run(capsys, model, text(model), f"--resume={state}") == run(capsys, model, text(model))
    state.write_text("a diary")
    assert run(capsys, model, text(model), f"--resume={state}") == (
        2, "", f"hifi_ref.perplexity: {state} is there, and is not what an interrupted run keeps\n"
    )  # fmt: skip
    assert state.read_text() == "a diary"


def test_bad_input(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent
    (folder / "short.txt").write_text("too short")
    (folder / "words.txt").write_text("1 2 three")
    (folder / "large.txt").write_text(" ".join(["999999"] * 40))
    bare = small.write(folder / "bare.gguf", "llama", leave_out=["tokenizer.ggml.model"])
    before = set(folder.iterdir())
    for arguments, message in (
        ([text(model), "--tokens=x"], "either --text or --tokens is needed (--help tells the usage)"),
        (
            [f"--text={folder}/short.txt"],
            f"{folder}/short.txt has 10 ids, and at least 32, two chunks of 16, are needed",
        ),
        ([f"--tokens={folder}/words.txt"], f"{folder}/words.txt: 'three', at place 2, is no id"),
        ([f"--tokens={folder}/large.txt"], "llama.gguf: id 999999 at place 1 is not in the vocabulary of 359"),
        ([f"--text={folder}/none.txt"], f"{folder}/none.txt: No such file or directory"),
        (
            [text(model), f"--json={folder}/none/x.json"],
            f"cannot write {folder}/none/x.json: No such file or directory",
        ),
    ):
        assert run(capsys, model, *arguments) == (2, "", f"hifi_ref.perplexity: {message}\n")
    assert run(capsys, bare, text(model)) == (2, "", "hifi_ref.perplexity: bare.gguf: there is no tokenizer in it\n")
    assert run(capsys, folder / "text.txt", text(model))[0] == 2
    assert set(folder.iterdir()) == before


def test_what_no_number_holds() -> None:
    with pytest.raises(InputError, match="the perplexity is e to 800.0, more than a number holds"):
        measures.estimate([900.0, 700.0])
    assert measures.estimate([2.0, 2.0]) == (math.exp(2), 0.0, 2.0, 2)
