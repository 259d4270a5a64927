"""A smoothed model computes the same; what stood out stands out no more; where nothing did, nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hifi_ref import models
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.models import exact_mode
from hifi_ref.models.model import open_model
from hifi_ref.models.run import observed
from hifi_ref.smooth import command, write
from hifi_ref.smooth.groups import groups_of
from reference.language_model import Question, ask
from tests.models import small
from tests.models.test_refused import rewritten
from tests.paths import ROOT

CONTEXT, CHUNKS = 16, 2
IDS = np.random.default_rng(1).integers(3, 300, CONTEXT * CHUNKS).tolist()
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "hifi_ref/smooth/report.schema.json").read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smooth")
    (folder / "ids.txt").write_text(" ".join(map(str, IDS)))
    small.write(folder / "llama.gguf", "llama")
    return folder


def run(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> tuple[int, str, str]:
    given = [str(argument) for argument in arguments]
    ids = [] if any(a.startswith(("--text", "--tokens")) for a in given) else [f"--tokens={folder}/ids.txt"]
    code = command.main([*given, *ids, f"--context={CONTEXT}"])
    return code, *capsys.readouterr()


def smoothed(capsys: pytest.CaptureFixture[str], folder: Path, model: Path, out: Path, *arguments: str) -> dict:
    code, shown, err = run(capsys, folder, model, f"--out={out}", "--json=-", *arguments)
    assert (code, err) == (0, "")
    report = json.loads(shown)
    SCHEMA.validate(report)
    return report


def fed(model: Path) -> list[int]:
    bos = models.bos_of(model)
    return IDS[:CONTEXT] if bos is None else [bos, *IDS[1:CONTEXT]]


def weights(model: Path) -> dict[str, np.ndarray]:
    """Of each tensor float32, rows first."""
    opened = open_model(model)
    return {name: np.array(exact_mode.decoded(opened.matrix(name))) for name in opened.tensors}


# THE SAME FUNCTION


@pytest.mark.parametrize("name", small.MODELS)
def test_the_same_logits(name: str, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By powers of two no product and no sum is rounded otherwise."""
    model, out = small.write(tmp_path / "model.gguf", name), tmp_path / "smooth.gguf"
    report = smoothed(capsys, folder, model, out, "--powers-of-two")
    assert report["logits"]["largest_change"] == 0
    np.testing.assert_array_equal(models.logits(out, fed(model)), models.logits(model, fed(model)))
    before, after = weights(model), weights(out)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    opened = open_model(model)
    expected = {name for group in groups_of(opened) for name in (group.giver, *group.takers)}
    biases = {name for name in before if name.endswith("attn_v.bias")}
    routers = {name for name in before if "gate_inp" in name}
    assert changed == expected | biases | routers
    assert report["mean_errors"]["w8a8"]["after"] < report["mean_errors"]["w8a8"]["before"]


@pytest.mark.parametrize(("name", "change"), [("llama", 1e-4), ("gemma2", 0.03)])
def test_nearly_the_same_logits(
    name: str, change: float, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Scales as the formula has them round each weight once; then inputs and the weights that they meet are alike.

    gemma's gate is rounded to binary16, which may go either way.
    """
    model, out = small.write(tmp_path / "model.gguf", name), tmp_path / "smooth.gguf"
    report = smoothed(capsys, folder, model, out)
    found = np.abs(models.logits(out, fed(model)) - models.logits(model, fed(model))).max()
    assert 0 < report["logits"]["largest_change"] == found < change
    seen: dict[str, np.ndarray] = {}

    def look(name: str, x: np.ndarray, chosen: np.ndarray | None) -> None:
        if chosen is None:
            seen[name] = np.maximum(seen.get(name, 0), np.abs(x).max(axis=0))

    for chunk in (fed(model), [1, *IDS[CONTEXT + 1 :]]):
        observed(out, chunk, look)
    after = weights(out)
    for layer in range(2):
        block = f"blk.{layer}."
        met = np.max([np.abs(after[f"{block}attn_{letter}.weight"]).max(axis=0) for letter in "qkv"], axis=0)
        np.testing.assert_allclose(seen[f"{block}attn_q.weight"], met, rtol=1e-2 if name == "gemma2" else 1e-4)
        # Two heads of q share a head of v, and so its scales.
        met, x = (
            each.reshape(-1, 4 // small.MODELS[name].kv, 64).max(axis=1)
            for each in (np.abs(after[f"{block}attn_output.weight"]).max(axis=0), seen[f"{block}attn_output.weight"])
        )
        np.testing.assert_allclose(x, met, rtol=1e-2 if name == "gemma2" else 1e-4)


def test_the_release_agrees(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It loads the file, and computes what this computes."""
    out = tmp_path / "smooth.gguf"
    smoothed(capsys, folder, folder / "llama.gguf", out, "--alpha=0.7")
    theirs = ask([Question(str(out), fed(out))])[0]["logits"]
    np.testing.assert_array_equal(models.logits(out, fed(out)), theirs)


# OUTLIERS


def test_planted_outliers_are_gone(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With channels that stand out a hundredfold, and meet smaller weights, the model smoothed is the very same."""
    llama = folder / "llama.gguf"
    planted = weights(llama)
    for layer, channel in ((0, 17), (1, 200)):
        for giver, takers in (("attn_norm", "attn_q attn_k attn_v"), ("ffn_norm", "ffn_gate ffn_up")):
            planted[f"blk.{layer}.{giver}.weight"][channel] *= 128
            for taker in takers.split():
                planted[f"blk.{layer}.{taker}.weight"][:, channel] /= 128
        planted[f"blk.{layer}.ffn_up.weight"][channel] *= 128
        planted[f"blk.{layer}.ffn_down.weight"][:, channel] /= 128
    model = rewritten(llama, tmp_path / "planted.gguf", **planted)
    plain = smoothed(capsys, folder, llama, tmp_path / "plain.smooth.gguf")
    report = smoothed(capsys, folder, model, tmp_path / "smooth.gguf")
    for group, without in zip(report["groups"], plain["groups"], strict=True):
        if group["name"] != "output_norm" and not group["name"].endswith("attn_v"):
            assert group["activations"]["before"]["over_median"] > 10 * group["activations"]["after"]["over_median"]
            assert group["errors"]["w8a8"]["before"] > 10 * group["errors"]["w8a8"]["after"]
        # The planted rows of ffn_up have a larger part in its own products.
        for target in ("w8a8", "Q4_0") if not group["name"].endswith("ffn_norm") else ():
            assert group["errors"][target]["after"] == pytest.approx(without["errors"][target]["after"], rel=0.05)
    expected, found = weights(tmp_path / "plain.smooth.gguf"), weights(tmp_path / "smooth.gguf")
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6 * np.abs(values).max())


def test_no_harm_where_nothing_stands_out(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    even = {}
    for name, values in weights(folder / "llama.gguf").items():
        matrix = values.ndim == 2 and name != "token_embd.weight"
        even[name] = (rng.normal(size=values.shape) / 16).astype(np.float32) if matrix else np.sign(values)
    even["token_embd.weight"] = rng.normal(size=even["token_embd.weight"].shape).astype(np.float32)
    model = rewritten(folder / "llama.gguf", tmp_path / "even.gguf", **even)
    report = smoothed(capsys, folder, model, tmp_path / "smooth.gguf")
    for pair in report["mean_errors"].values():
        assert pair["after"] < 1.1 * pair["before"]
    for target in ("w8a8", "Q4_0"):
        tried = smoothed(capsys, folder, model, tmp_path / "auto.gguf", "--alpha=auto", f"--target={target}")
        for group in tried["groups"]:
            assert group["errors"][target]["after"] <= group["errors"][target]["before"] * 1.001
        assert tried["mean_errors"][target]["after"] <= report["mean_errors"][target]["after"] * 1.01


# THE FILE


def in_type(source: Path, target: Path, kind: str) -> Path:
    """Its matrices as F16 or BF16."""
    import gguf

    writer = gguf.GGUFWriter(target, "llama")
    small_kind = small.MODELS["llama"]
    for key, value in [*small.numbers(small_kind), *small.vocabulary(small_kind.pre)]:
        small._add(writer, key, value)
    writer.add_file_type({"F16": 1, "BF16": 32}[kind])
    for name, values in weights(source).items():
        stored = kind if values.ndim == 2 else "F32"
        type_id = gguf.GGMLQuantizationType[stored]
        writer.add_tensor(name, gguf.quantize(values, type_id), raw_dtype=type_id)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def types_of(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.type_name for tensor in open_gguf(path).tensors}


def test_types(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A tensor keeps its type where no number is rounded."""
    for kind in ("F16", "BF16"):
        model, out = in_type(folder / "llama.gguf", tmp_path / f"{kind}.gguf", kind), tmp_path / "smooth.gguf"
        before = types_of(model)
        report = smoothed(capsys, folder, model, out)
        matrices = {name for name in before if before[name] == kind and name != "token_embd.weight"}
        assert report["widened"] == dict.fromkeys(matrices, kind)
        assert types_of(out) == before | dict.fromkeys(matrices, "F32")
        assert open_gguf(out).metadata["general.file_type"].scalar == 0
    report = smoothed(capsys, folder, model, out, "--powers-of-two")
    assert report["widened"] == {} and types_of(out) == before and report["logits"]["largest_change"] == 0
    assert open_gguf(out).metadata["general.file_type"].scalar == 32


def test_what_the_file_says(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of a split source one file is made, with its metadata and how it was smoothed."""
    rewritten(folder / "llama.gguf", tmp_path / "model.gguf", shard=8)
    shards, out = sorted(tmp_path.glob("model-*.gguf")), tmp_path / "smooth.gguf"
    report = smoothed(capsys, folder, shards[1], out, "--alpha=auto", "--target=Q4_0")
    ours, theirs = open_gguf(out), open_gguf(folder / "llama.gguf")
    assert [(t.name, t.shape, t.type_name) for t in ours.tensors] == [
        (t.name, t.shape, t.type_name) for t in theirs.tensors
    ]
    own = {write.ALPHA: "auto", write.TARGET: "Q4_0", write.TEXT: "ids.txt"}
    assert {key: ours.text(key) for key in own} == own
    numbers = {write.IDS: CONTEXT * CHUNKS, write.POWERS: False}
    assert {key: ours.metadata[key].scalar for key in numbers} == numbers
    assert ours.metadata.keys() - theirs.metadata.keys() == own.keys() | numbers.keys()
    change = np.abs(models.logits(out, fed(out)) - models.logits(folder / "llama.gguf", fed(out))).max()
    assert change == report["logits"]["largest_change"] < 1e-3
    assert run(capsys, folder, out, f"--out={tmp_path}/again.gguf") == (
        2, "", "hifi_ref.smooth: smooth.gguf was smoothed before, as its hifi_ref.smooth.alpha says: take the model"
        " that it was made from\n",
    )  # fmt: skip


def test_the_text_report(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, folder, folder / "llama.gguf", f"--out={tmp_path}/smooth.gguf")
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0].startswith("channels of      alpha  inputs: largest / middle")
    assert [line.split()[0] for line in lines[1:10]] == [
        *(f"blk.{layer}.{part}" for layer in (0, 1) for part in ("attn_norm", "attn_v", "ffn_norm", "ffn_up")),
        "output_norm",
    ]
    assert lines[-1] == "smooth.gguf is written" and lines[-2].startswith("alpha 0.5; 2 chunks of 16 ids of ids.txt; ")


# BAD INPUT


def test_nothing_half_written(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "logits", interrupted)
    assert run(capsys, folder, folder / "llama.gguf", f"--out={tmp_path}/smooth.gguf") == (
        130, "", "hifi_ref.smooth: interrupted\n",
    )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_bad_input(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    llama, out = folder / "llama.gguf", f"--out={tmp_path}/out.gguf"
    values = weights(llama)["blk.1.ffn_down.weight"]
    values[3, 4] = np.nan
    models_dir = tmp_path / "models"
    models_dir.mkdir()
    small.write(models_dir / "mixed.gguf", "llama", mixed=True)
    small.write(models_dir / "bare.gguf", "llama", leave_out=["tokenizer.ggml.model"])
    small.write(models_dir / "less.gguf", "llama", leave_out=["blk.1.ffn_up.weight"])
    rewritten(llama, models_dir / "mamba.gguf", "mamba")
    rewritten(llama, models_dir / "nan.gguf", **{"blk.1.ffn_down.weight": values})
    unread = weights(llama)["token_embd.weight"]
    unread[2] = np.nan
    rewritten(llama, models_dir / "unread.gguf", **{"token_embd.weight": unread})
    (models_dir / "short.txt").write_text("1 2 3")
    for arguments, message in (
        ((out,), "one model is needed, but 0 paths are given (--help tells the usage)"),
        ((llama,), "--out is needed (--help tells the usage)"),
        ((llama, out, "--alpha=2"), "--alpha must be a number from 0 to 1, or auto, not '2' (--help tells the usage)"),
        ((llama, out, "--alpha=x"), "--alpha must be a number from 0 to 1, or auto, not 'x' (--help tells the usage)"),
        ((llama, f"--out={llama}"), f"{llama} is the source itself"),
        ((llama, f"--out={tmp_path}/none/x"), f"cannot write {tmp_path}/none/x: No such file or directory"),
        (
            (models_dir / "mixed.gguf", out),
            "mixed.gguf: the tensor token_embd.weight is Q4_K, and only models in F32, F16 and BF16 are smoothed:"
            " smooth the model first, and quantize it then",
        ),
        (
            (models_dir / "mamba.gguf", out),
            "mamba.gguf: the architecture mamba is none of those known: llama, qwen2, qwen3, qwen3moe, phi3, gemma2,"
            " gemma3",
        ),
        ((models_dir / "less.gguf", out), "less.gguf: the tensor blk.1.ffn_up.weight is missing"),
        (
            (models_dir / "nan.gguf", out),
            "nan.gguf: what output.weight is to be multiplied with is not finite at token 0",
        ),
        (
            (models_dir / "unread.gguf", out),
            "unread.gguf: the tensor token_embd.weight has weights that are no numbers",
        ),
        ((models_dir / "bare.gguf", out, f"--text={folder}/ids.txt"), "bare.gguf: there is no tokenizer in it"),
        (
            (llama, out, f"--tokens={models_dir}/short.txt"),
            f"{models_dir}/short.txt has 3 ids, and at least 32, two chunks of 16, are needed",
        ),
    ):
        assert run(capsys, folder, *arguments) == (2, "", f"hifi_ref.smooth: {message}\n")
    assert set(tmp_path.iterdir()) == {models_dir}
