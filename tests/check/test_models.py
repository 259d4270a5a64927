"""Models in several files, and several models: what belongs together is judged together, and told apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from reference import quantizer
from tests.check import rewrite
from tests.check.helpers import compare, different, outcomes
from tests.check.test_reports import schema
from tests.hostile import run_check
from tests.paths import SAMPLE
from tools import make_sample


@pytest.fixture
def shards(tmp_path: Path, folder: Path) -> list[Path]:
    return rewrite.split(tmp_path, "m", rewrite.read(folder / "15.gguf"), 3)


def codes(path: Path | str, *flags: str) -> tuple[int, dict[str, int]]:
    code, out, err = run_check(path, "--json", *flags)
    assert err == ""
    report = json.loads(out)
    assert list(schema().iter_errors(report)) == []
    return code, report["counts"]


def test_any_shard_stands_for_the_whole(folder: Path, shards: list[Path]) -> None:
    for path in shards:
        code, out, _ = run_check(path)
        assert code == 0 and f"{shards[0]} and 2 more shards: GGUF v3, little-endian, " in out
        assert "12 tensors, file type Q4_K_M\n" in out and "\nsound: no findings\n" in out
    assert run_check(str(shards[2]), str(shards[0]))[1] == run_check(shards[0])[1]
    assert run_check(str(shards[0].parent / "m-*.gguf"))[1] == run_check(shards[0])[1]
    code, report, out = compare(shards[1], folder / "f32.gguf")
    assert (code, different(report), len(outcomes(report))) == (0, {}, 12)
    assert "m-00001-of-00003.gguf: every tensor is bit for bit" in out
    assert [file["tensors"] for file in report["files"]] == [4, 4, 4]
    assert [t["file"] for t in report["tensors"]] == [0] * 4 + [1] * 4 + [2] * 4
    assert sum(file["size"] for file in report["files"]) == report["size"]


def test_damage_names_its_shard(folder: Path, shards: list[Path]) -> None:
    tensor = next(t for t in open_gguf(shards[1]).tensors if t.type_name == "Q4_K")
    damaged = bytearray(shards[1].read_bytes())
    damaged[tensor.start + 3 * 144 + 20] ^= 0x40
    damaged[tensor.start + 5 * 144 : tensor.start + 5 * 144 + 2] = b"\x00\x7e"
    shards[1].write_bytes(damaged)
    code, report, out = compare(shards[0], folder / "f32.gguf")
    found = {f["code"]: f for f in report["findings"]}
    assert code == 1 and set(found) == {"P001", "E010"}
    assert all(f["file"] == "m-00002-of-00003.gguf" and f["tensor"] == tensor.name for f in found.values())
    assert (found["P001"]["offset"], found["E010"]["offset"]) == (tensor.start + 720, tensor.start + 432 + 20)
    assert f"  m-00002-of-00003.gguf: tensor {tensor.name}: field d of block 5" in out


def lose(shards: list[Path]) -> None:
    shards[1].unlink()


def lose_all_others(shards: list[Path]) -> None:
    shards[0].unlink()
    shards[1].unlink()


def double(shards: list[Path]) -> None:
    shutil.copy(shards[0], shards[1])


def exchange(shards: list[Path]) -> None:
    first, second = shards[1].read_bytes(), shards[2].read_bytes()
    shards[1].write_bytes(second)
    shards[2].write_bytes(first)


def change(shards: list[Path], which: int, edit: Callable[[rewrite.Content], object]) -> None:
    content = rewrite.read(shards[which])
    edit(content)
    rewrite.write(shards[which], content)


def mix(shards: list[Path]) -> None:
    count = (13, gguf.GGUFValueType.INT32, None)
    change(shards, 2, lambda content: content.metadata.update({"split.tensors.count": count}))


def mix_names(shards: list[Path]) -> None:
    kind = gguf.GGUFValueType.STRING
    change(shards, 1, lambda content: content.metadata.update({"general.name": ("another", kind, None)}))


def lose_a_tensor(shards: list[Path]) -> None:
    change(shards, 1, lambda content: content.tensors.popitem())


def repeat_a_tensor(shards: list[Path]) -> None:
    other = rewrite.read(shards[0]).tensors
    change(shards, 2, lambda content: content.tensors.update(dict([other.popitem()])))


def unmark(shards: list[Path]) -> None:
    change(shards, 1, lambda content: content.metadata.pop("split.no"))


SETS = {
    lose: {"S001": 1},
    lose_all_others: {"S001": 2},
    double: {"S001": 1, "S002": 1, "S003": 1, "S006": 4},
    exchange: {"S003": 2},
    mix: {"S004": 1},
    mix_names: {"S004": 1},
    lose_a_tensor: {"S005": 1},
    repeat_a_tensor: {"S006": 1},
    unmark: {"S007": 1},
}


@pytest.mark.parametrize("damage", SETS, ids=lambda damage: damage.__name__)
def test_what_is_wrong_with_a_set(folder: Path, shards: list[Path], damage: Callable[[list[Path]], None]) -> None:
    damage(shards)
    whole = {code: n for code, n in SETS[damage].items() if code != "E007"}
    # The weights of the first shard alone do not tell a file type.
    assert codes(shards[2]) == (1, whole), run_check(shards[2])[1]
    code, report, out = compare(shards[2], folder / "f32.gguf")
    assert code == 1 and "every tensor is" not in out and report["source"]["reproduced"] is False


@pytest.fixture(scope="module")
def taller(tmp_path_factory: pytest.TempPathFactory) -> dict[str, rewrite.Content]:
    """A model of eight layers in two file types, in one whose ffn_down are all raised, and in one called otherwise."""
    folder = tmp_path_factory.mktemp("taller")
    make_sample.write_model(folder / "f32.gguf", layers=8)
    raised = [(r"ffn_down", int(gguf.GGMLQuantizationType.Q6_K))]
    made = {}
    for name, number, overrides in (("Q4_K_M", 15, []), ("Q5_K_S", 16, []), ("raised", 15, raised)):
        answer = quantizer.quantize(folder / "f32.gguf", folder / f"{name}.gguf", number, overrides=overrides)
        assert not answer.problem
        made[name] = rewrite.read(folder / f"{name}.gguf")
    assert not quantizer.quantize(folder / "f32.gguf", folder / "small.gguf", 14).problem
    made["small, by another name"] = rewrite.read(folder / "small.gguf")
    _, *kind = made["small, by another name"].metadata["general.file_type"]
    made["small, by another name"].metadata["general.file_type"] = (15, *kind)
    return made


def test_shards_of_two_quantizations(tmp_path: Path, taller: dict[str, rewrite.Content]) -> None:
    for name, content in taller.items():
        (tmp_path / name).mkdir()
        code, found = codes(rewrite.split(tmp_path / name, "m", content, 3)[0])
        assert code == 0 and "S004" not in found, found
    shutil.copy(tmp_path / "Q5_K_S" / "m-00002-of-00003.gguf", tmp_path / "Q4_K_M")
    code, found = codes(tmp_path / "Q4_K_M" / "m-00001-of-00003.gguf")
    assert code == 1 and found["S004"] == 1
    _, out, _ = run_check(tmp_path / "Q4_K_M" / "m-00001-of-00003.gguf")
    types = "its tensors have the types that llama-quantize chooses for Q5_K_S, and the model is Q4_K_M"
    assert f"m-00002-of-00003.gguf: {types}" in out


def test_a_shard_that_is_named_otherwise(tmp_path: Path, shards: list[Path]) -> None:
    alone = tmp_path / "alone.gguf"
    alone.write_bytes(shards[1].read_bytes())
    code, found = codes(alone)
    assert (code, found) == (1, {"S001": 2, "S003": 1})


@pytest.fixture
def batch(tmp_path: Path, folder: Path) -> Path:
    """Two quantizations, one of them in shards, and a file that is no GGUF."""
    models = tmp_path / "models"
    models.mkdir()
    rewrite.split(models, "a", rewrite.read(folder / "15.gguf"), 2)
    shutil.copy(folder / "7.gguf", models / "b.gguf")
    (models / "readme.md").write_text("not looked at")
    return models


def test_a_folder(folder: Path, batch: Path) -> None:
    code, out, err = run_check(batch, f"--source={folder / 'f32.gguf'}")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["model", "files", "type", "tensors", "bytes", "bits/weight", "loading", "verdict"]
    assert lines[1].split()[:4] == [f"{batch}/a-00001-of-00002.gguf", "2", "Q4_K_M", "12"]
    assert lines[2].split()[:4] == [f"{batch}/b.gguf", "1", "Q8_0", "12"]
    assert all(line.endswith("  loads    reproduced: every block of every tensor") for line in lines[1:3])
    assert [": every tensor is bit for bit" in line for line in lines[4:6]] == [True, True]
    assert lines[6].startswith("encoded again on: cpu (") and len(lines) == 7
    report = json.loads(run_check(batch, "--json")[1])
    assert list(schema().iter_errors(report)) == [] and [len(one["files"]) for one in report] == [2, 1]


def test_the_worst_of_a_folder_counts(folder: Path, batch: Path) -> None:
    damaged = bytearray((batch / "b.gguf").read_bytes())
    damaged[-5000] ^= 1
    (batch / "b.gguf").write_bytes(damaged)
    code, out, err = run_check(batch, f"--source={folder / 'f32.gguf'}")
    assert (code, err) == (1, "") and "damaged against its source: changed blocks (1)" in out
    assert f"{batch}/b.gguf: GGUF v3" in out and "error E010 changed blocks. " in out
    (batch / "c.gguf").write_text("hello")
    (batch / "d.gguf").write_bytes(b"")
    code, out, err = run_check(batch, "--json")
    assert (code, err) == (2, "")
    report = json.loads(out)
    assert list(schema().iter_errors(report)) == []
    assert report[2]["refused"] == f"{batch}/c.gguf is no GGUF: it starts with b'hell', not b'GGUF'"
    code, out, err = run_check(batch)
    assert (code, err) == (2, "") and out.count("cannot be checked") == 2 and f"{batch}/d.gguf is empty" in out


def test_a_page_of_each(tmp_path: Path, batch: Path) -> None:
    (batch / "c.gguf").write_text("hello")
    pages = tmp_path / "new" / "pages"
    assert run_check(batch, f"--html={pages}", str(SAMPLE), str(_copy(SAMPLE, tmp_path / "other")))[0] == 2
    names = ["a-00001-of-00002.gguf.html", "b.gguf.html", "sample.gguf.1.html", "sample.gguf.html"]
    assert sorted(path.name for path in pages.iterdir()) == names
    assert str(batch / "b.gguf") in (pages / "b.gguf.html").read_text()
    code, out, err = run_check(batch, f"--html={pages / names[0]}")
    assert (code, out) == (2, "") and err.startswith(f"hifi_ref.check: cannot write {pages / names[0]}: ")


def _copy(path: Path, folder: Path) -> Path:
    folder.mkdir()
    return Path(shutil.copy(path, folder))


def test_what_cannot_be_asked_of_several(tmp_path: Path, folder: Path, batch: Path) -> None:
    source = f"--source={folder / 'f32.gguf'}"
    for flags, message in [
        (["--html=-"], "--html needs a folder for the pages of 2 models"),
        ([f"--resume={tmp_path}/x", source], "--resume=FILE keeps the results of one model, and 2 are given"),
    ]:
        code, out, err = run_check(batch, *flags)
        assert (code, out, err) == (2, "", f"hifi_ref.check: {message} (--help tells the usage)\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    for argument, message in [
        (str(empty), f"{empty} is a directory, and there is no .gguf file in it"),
        (f"{empty}/*.gguf", f"no file is named like {empty}/*.gguf"),
    ]:
        assert run_check(argument) == (2, "", f"hifi_ref.check: {message}\n")
    assert run_check("--quiet")[0] == 2
