"""Every damage of both tables, and every changed entry of the metadata, is found, plain and with the source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hifi_ref import api
from reference.loader import outcomes
from tests.check.damages import DAMAGES
from tests.check.helpers import different
from tests.check.injuries import INJURIES, Patient, Sound
from tests.check.rewrite import read, write
from tests.check.test_reports import schema
from tests.hostile import run_check

# What was damaged of one file stays in one process, which makes it and encodes its weights once.
OF_Q4_K_M = pytest.mark.xdist_group("15.gguf")


@pytest.fixture(autouse=True, scope="module")
def encoded_once() -> Iterator[None]:
    """The same weights are encoded again for every damage of a file."""
    encode, known = api.encode, {}

    def kept(name: str, x: np.ndarray, weights: np.ndarray | None = None, **context: Any) -> np.ndarray:
        given = [None if a is None else hashlib.sha256(a.tobytes()).digest() for a in (x, weights)]
        key = (name, x.shape, *given, *sorted(context.items()))
        if key not in known:
            known[key] = encode(name, x, weights, **context)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "encode", kept)
        yield


def report_of(path: Path, *flags: str) -> tuple[int, dict]:
    code, out, err = run_check(path, "--json", *flags)
    assert err == ""
    report = json.loads(out)
    assert list(schema().iter_errors(shortened(report))) == []
    return code, report


def shortened(part: Any) -> Any:
    """Of whole numbers, as of blocks that differ, the least and the largest: the schema asks no more of the others."""
    if isinstance(part, dict):
        return {name: shortened(one) for name, one in part.items()}
    if isinstance(part, list) and part and all(type(one) is int for one in part):
        return [min(part), max(part)]
    return [shortened(one) for one in part] if isinstance(part, list) else part


@OF_Q4_K_M
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_found(tmp_path: Path, folder: Path, name: str) -> None:
    damage, path = DAMAGES[name], tmp_path / "q.gguf"
    damage.spoil(folder / "15.gguf", path)
    code, report = report_of(path)
    assert (set(report["counts"]), report["verdict"]["kind"]) == (damage.plain, damage.kind[0])
    assert code == (1 if damage.plain - {"G025"} else 0)
    (outcome,) = outcomes([path])
    assert report["loading"]["kind"] in ("loads" if outcome.loads else "will not load", "not judged")
    assert outcome.loads or code == 1
    code, report = report_of(path, f"--source={folder / 'f32.gguf'}")
    assert (set(report["counts"]), report["verdict"]["kind"]) == (damage.plain | damage.sourced, damage.kind[1])
    assert code == 1 and ": every tensor is" not in report["verdict"]["sentence"]


@pytest.mark.parametrize("name", ["15.gguf", "7.gguf", "weighted.gguf", "f32.gguf"])
def test_what_is_sound_loads(folder: Path, name: str) -> None:
    (outcome,) = outcomes([folder / name])
    code, report = report_of(folder / name)
    assert outcome.loads and code == 0
    assert (report["verdict"]["kind"], report["loading"]["kind"]) == ("sound", "loads")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(INJURIES[n][0])) for n in INJURIES])
def test_an_injury_is_found(tmp_path: Path, sound: Callable[[str], Sound], name: str) -> None:
    """Plain by its codes; with the source it is told which tensors were changed, these and no others."""
    kind, injure, expected = INJURIES[name]
    before, path = sound(kind), tmp_path / "damaged.gguf"
    patient = Patient(before.path)
    injure(patient)
    path.write_bytes(patient.data)
    code, report = report_of(path, "--ignore=L")
    assert code == 1 and expected <= set(report["counts"]), report["findings"]
    assert report["verdict"]["kind"] in ("broken", "not sound")
    flags = [f"--source={before.source}", *([f"--imatrix={before.imatrix}"] if before.imatrix else [])]
    # The searches of these take seconds.
    slow = kind.startswith(("IQ1", "IQ2", "IQ3"))
    code, report = report_of(path, "--ignore=L", *flags, *(["--tensors=attn_q"] if slow else []))
    assert code == 1 and expected <= set(report["counts"])
    changed = patient.changed(before.path)
    assert set(different(report)) == ({name for name in changed if "attn_q" in name} if slow else changed)
    assert ": every tensor is" not in report["verdict"]["sentence"]


# What llama.cpp computes by in the model of these tests.
READ = [
    *(f"llama.{key}" for key in (
        "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "rope.dimension_count", "attention.layer_norm_rms_epsilon", "vocab_size",
    )),
    *(f"tokenizer.ggml.{key}" for key in ("model", "tokens", "scores", "token_type")),
    "general.architecture",
]  # fmt: skip


@OF_Q4_K_M
@pytest.mark.parametrize("change", ["changed", "lost"])
@pytest.mark.parametrize("key", READ)
def test_a_changed_entry_is_found(tmp_path: Path, folder: Path, key: str, change: str) -> None:
    """With the source by its name; without it, where llama.cpp does not load the file."""
    content, path = read(folder / "15.gguf"), tmp_path / "q.gguf"
    value, *kinds = content.metadata.pop(key)
    if change == "changed":
        content.metadata[key] = (another(value), *kinds)
    write(path, content)
    code, report = report_of(path)
    (outcome,) = outcomes([path])
    assert outcome.loads or (code == 1 and report["verdict"]["kind"] == "will not load in llama.cpp")
    assert report["loading"]["kind"] in ("loads" if outcome.loads else "will not load", "not judged")
    code, report = report_of(path, f"--source={folder / 'f32.gguf'}")
    assert code == 1 and "E014" in report["counts"]
    assert key in {word for f in report["findings"] if f["code"] == "E014" for word in f["message"].split()}
    assert ": every tensor is" not in report["verdict"]["sentence"]


def another(value: Any) -> Any:
    if isinstance(value, list):
        return [another(value[0]), *value[1:]]
    return value + "x" if isinstance(value, str) else value * 2 + 1
