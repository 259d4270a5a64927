"""Which recipe a file follows: as it is named wherever the release wrote it so, and its own wherever it is."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from hifi_ref.check.command import check_file
from hifi_ref.check.recipe import Recipe, recipe_of
from hifi_ref.check.report_json import SCHEMA_FILE
from hifi_ref.mixtures.hifi import FORK_FILE_TYPES
from hifi_ref.mixtures.llama_quantize import Options, default_type, file_types
from hifi_ref.model_files.dialects import REFERENCE
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import map_file, scan
from reference import quantizer
from tests.check import rewrite
from tests.hostile import run_check
from tests.loading.models import TYPES, Model
from tests.mixtures import asked, models
from tests.paths import SAMPLE

Q4_K_M = 15


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of nine layers, some of whose rows are too short for most formats."""
    model = Model(models.metadata("llama", 9, 8, 1))
    names = [f"blk.{i}.{name}.weight" for i in range(9) for name in models.DENSE]
    model.tensors = {name: ((256, 2), "F16") for name in ("token_embd.weight", "output.weight", *names)}
    model.tensors |= {f"blk.{i}.attn_norm.weight": ((256,), "F32") for i in range(9)}
    model.tensors |= {"blk.8.ffn_down.weight": ((128, 2), "F16"), "blk.0.ffn_gate_inp.weight": ((256, 2), "F32")}
    return model.write(tmp_path_factory.mktemp("source") / "f16.gguf")


def written(source: Path, folder: Path, number: int, importance: bool = False, **options: Any) -> Path:
    """What the release writes."""
    columns = {name: np.ones(shape[0], np.float32) for name, (shape, _) in shapes(source).items()}
    out = folder / "q.gguf"
    answer = quantizer.quantize(source, out, number, columns if importance else None, **options)
    assert not answer.problem, answer.problem
    return out


def shapes(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    return {t.name: (t.shape, t.type_name) for t in check_file(path).gguf.tensors}


def recipe(path: Path, dialect: str | None = None) -> Recipe:
    """The recipe, of which no finding is anything but a note on each tensor that it names."""
    report = check_file(path, dialect=dialect)
    found = report.recipe
    assert report.findings.counts["G021"] == 0
    assert report.findings.counts["G025"] == len(found.raised) + len(found.lowered) + len(found.exchanged)
    return found


@pytest.mark.parametrize("name", sorted(file_types()))
def test_whatever_the_release_writes_is_as_named(source: Path, tmp_path: Path, name: str) -> None:
    sentences = set()
    for importance in (True, False):
        try:
            path = written(source, tmp_path, file_types()[name], importance)
        except AssertionError as refused:
            assert not importance and "imatrix" in str(refused)
            continue
        # Of so few blocks the type ids alone do not always say whose they are.
        found = recipe(path, REFERENCE)
        assert found.kind == "as named" and found.importance in (importance, None)
        sentences.add(found.sentence)
    guided = {"Q4_0", "Q5_0", "IQ4_NL", "IQ4_XS"}
    expected = {f"{name}, as llama-quantize chooses{how}" for how in ("", " with importance", " without importance")}
    assert sentences <= expected and (len(sentences) == 2) == (name in guided), sentences
    path = written(source, tmp_path, file_types()[name], True, pure=True)
    if recipe(path, REFERENCE).kind != "as named":
        assert recipe(path, REFERENCE).sentence == f"{name} by name, but all matrices {default_type(name)} (--pure)"


@pytest.mark.parametrize("architecture", ["llama", "falcon", "qwen3moe", "bailingmoe3", "deepseek2", "mamba", "clip"])
def test_models_of_all_kinds_are_as_named(tmp_path: Path, architecture: str) -> None:
    """Types that the release chose for drawn models, with and without importance, also in the order of shards."""
    draw = random.Random(architecture)
    cases = list(asked.cases(tmp_path, draw, [architecture], 4, draw.sample(sorted(file_types()), 12)))
    plain = [case._replace(options=Options(pure=i % 4 == 0, keep_split=i % 5 == 0)) for i, case in enumerate(cases)]
    kinds = Counter()
    for case, answer in zip(plain, quantizer.chosen_types([asked.question(case) for case in plain]), strict=True):
        if answer.problem:
            continue
        held = Model(dict(case.model.keys), {n: (case.model.tensors[n][0], kind) for n, kind in answer.types.items()})
        held.keys["general.file_type"] = ("u32", file_types()[case.file_type])
        path = held.write(tmp_path / "held.gguf")
        findings = Findings()
        found = recipe_of(scan(map_file(path), findings, REFERENCE), findings)
        assert found.kind in ("as named", "pure") and not findings.kept, (case, found)
        kinds[found.kind] += 1
    assert kinds["as named"] > 15 and kinds["pure"] > 0


def test_pure_is_told_from_the_mixture(source: Path, tmp_path: Path) -> None:
    assert recipe(written(source, tmp_path, Q4_K_M, pure=True)).kind == "pure"
    assert recipe(written(source, tmp_path, 7, pure=True)).kind == "as named"


@pytest.mark.parametrize(
    ("overrides", "params", "wanted"),
    [
        ([("attn_v", "Q8_0")], {}, "9 tensors raised"),
        ([("attn_q", "Q8_0"), (r"ffn_up", "Q2_K")], {}, "9 tensors raised, 9 lowered"),
        ([(r"blk\.3\.attn_k", "IQ4_NL")], {}, "1 tensor exchanged"),
        ([], {"quantize_output_tensor": False}, "1 tensor raised"),
        ([], {"output_tensor_type": "Q8_0", "token_embedding_type": "Q2_K"}, "1 tensor raised, 1 lowered"),
        ([("attn_q", "Q8_0")], {"pure": True}, ""),
    ],
)
def test_a_mixture_of_its_own_is_a_note(
    source: Path, tmp_path: Path, overrides: Sequence[tuple[str, str]], params: dict[str, Any], wanted: str
) -> None:
    numbers = {name: TYPES[kind][0] if isinstance(kind, str) else kind for name, kind in params.items()}
    path = written(source, tmp_path, Q4_K_M, overrides=[(p, TYPES[kind][0]) for p, kind in overrides], **numbers)
    found = recipe(path)
    assert found.kind == "its own" and found.sentence.startswith("Q4_K_M by name, a mixture of its own: ")
    assert found.sentence.endswith(wanted)
    code, out, err = run_check(path, "--quiet", "--ignore=L", "--ignore=P")
    assert (
        (code, err) == (0, "") and f"\nrecipe: {found.sentence}\n" in out and "note G025 a mixture of its own." in out
    )
    assert run_check(path, "--quiet", "--ignore=L", "--ignore=P", "--fail-on=note")[0] == 1


def test_keys_of_llama_quantize_say_whether_importance_was_used(source: Path, tmp_path: Path) -> None:
    """Both ways are tried, the likelier one first; a file may lie about it."""
    keys = {"quantize.imatrix.file": "m.dat", "quantize.imatrix.entries_count": 3}
    assert recipe(written(source, tmp_path, 2, True, keys=keys)).sentence.endswith(" with importance")
    assert recipe(written(source, tmp_path, 2, False, keys=keys)).sentence.endswith(" without importance")
    path = written(source, tmp_path, 2, True, keys=keys, overrides=[("attn_q", TYPES["Q8_0"][0])])
    assert recipe(path).sentence == "Q4_0 by name, a mixture of its own: 9 tensors raised"


def test_shards_are_one_model(source: Path, tmp_path: Path) -> None:
    paths = rewrite.split(tmp_path, "m", rewrite.read(written(source, tmp_path, Q4_K_M)), 3)
    code, out, _ = run_check(paths[1], "--ignore=L", "--ignore=P")
    assert code == 0 and "\nrecipe: Q4_K_M, as llama-quantize chooses\n" in out
    paths[2].unlink()
    assert "\nrecipe: Q4_K_M by name, not judged: not all tensors and types are known\n" in run_check(paths[1])[1]


def test_what_contradicts(source: Path, tmp_path: Path) -> None:
    """The name of a type that no tensor has; but not where the mixture has none of it either."""
    content = rewrite.read(written(source, tmp_path, Q4_K_M))
    value, kind, items = content.metadata["general.file_type"]
    for number, wanted in [(9, "Q5_1"), (24, "IQ1_S"), (1, "F16"), (38, None), (15, None)]:
        content.metadata["general.file_type"] = (number, kind, items)
        report = check_file(rewrite.write(tmp_path / "c.gguf", content))
        messages = [f.message for f in report.findings.kept if f.code == "G021"]
        assert [m.split(", but ")[1] for m in messages] == ([f"no tensor is {wanted}"] if wanted else [])


@pytest.mark.parametrize("name", sorted(FORK_FILE_TYPES))
def test_the_forks_file_types(tmp_path: Path, name: str) -> None:
    from hifi_ref.quantize.command import main

    model = Model(models.metadata("llama", 4, 8, 2))
    model.tensors = {f"blk.{i}.{kind}.weight": ((256, 2), "F16") for i in range(4) for kind in models.DENSE}
    model.tensors |= {"token_embd.weight": ((256, 2), "F16"), "blk.0.attn_norm.weight": ((256,), "F32")}
    out = tmp_path / "fork.gguf"
    assert main([f"--fork={name}", "--quiet", str(model.write(tmp_path / "f16.gguf")), str(out)]) == 0
    found = recipe(out)
    assert (found.kind, found.sentence) == ("as named", f"{name}, as the HIFI fork chooses")
    content = rewrite.read(SAMPLE)
    content.metadata["hifi_ref.dialect"] = ("hifi-lite", *content.metadata["general.name"][1:])
    other = recipe(rewrite.write(tmp_path / "other.gguf", content))
    assert other.sentence.startswith("Q4_K_M by name, not judged: its types were chosen by the HIFI fork")


def test_what_is_not_judged(tmp_path: Path) -> None:
    content = rewrite.read(SAMPLE)
    kept = dict(content.metadata)
    for changes, wanted in [
        ({"general.file_type": None}, "none named, there is no general.file_type"),
        ({"llama.block_count": None}, "Q4_K_M by name, not judged: the metadata have no number of layers"),
        ({"general.file_type": 39}, "NVFP4 by name, not judged: llama-quantize offers no file type NVFP4"),
    ]:
        metadata = {k: (changes.get(k, v), *more) for k, (v, *more) in kept.items() if changes.get(k, v) is not None}
        path = rewrite.write(tmp_path / "n.gguf", content._replace(metadata=metadata))
        assert recipe(path).sentence.startswith(wanted)


def test_the_reports_have_it(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert run_check(SAMPLE, f"--json={path}", f"--html={tmp_path / 'report.html'}")[0] == 0
    report = json.loads(path.read_text())
    jsonschema.validate(report, json.loads(SCHEMA_FILE.read_text()))
    assert report["recipe"] == {
        "kind": "as named", "file_type": "Q4_K_M", "importance": None, "raised": [], "lowered": [], "exchanged": [],
        "sentence": "Q4_K_M, as llama-quantize chooses",
    }  # fmt: skip
    assert "Recipe: Q4_K_M, as llama-quantize chooses" in (tmp_path / "report.html").read_text()
