"""Where a pass first leaves the release: nowhere, or where a fault was planted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.models import compare, exact_mode
from hifi_ref.models.compare import differences, main
from tests.models import small

IDS = list(range(3, 25))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small.write(tmp_path_factory.mktemp("models") / "llama.gguf", "llama"))


@pytest.mark.parametrize("name", ["mixtral", "gemma2", "phi3"])
def test_nothing_differs(tmp_path: Path, name: str) -> None:
    """Experts, caps, fused matrices."""
    count, found = differences(str(small.write(tmp_path / "model.gguf", name)), IDS)
    assert found == [] and count > 20


def rotated_otherwise(q, turn):
    return exact_mode.rope.rotate(q, turn._replace(cos=np.nextafter(turn.cos, np.float32(2))))


def swiglu_by_numpy(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    return (gate / (1 + np.exp(-gate.astype(np.float64))) * up).astype(np.float32)


def normed_in_binary32(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(eps)) * weight


@pytest.mark.parametrize(
    ("step", "fault", "first", "node"),
    [
        ("rms_norm", normed_in_binary32, "rms_norm behind the embedding", "attn_norm-0"),
        ("rotate", rotated_otherwise, "rotate behind blk.0.attn_v.weight", "Qcur-0"),
        ("swiglu", swiglu_by_numpy, "swiglu behind blk.0.ffn_gate.weight", "ffn_swiglu-0"),
    ],
)
def test_a_fault_is_found_where_it_is(
    llama: str, step: str, fault, first: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_mode, "ARITHMETIC", exact_mode.ARITHMETIC._replace(**{step: fault}))
    _, found = differences(llama, IDS)
    assert (found[0].name, found[0].node) == (first, node)
    assert 0 < found[0].differing <= found[0].of and found[0].largest < 1e-3
    assert found[-1].name == "product with output.weight"


def test_the_command(llama: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(small.TEXT)
    text = f"--text={tmp_path}/text.txt"
    assert main([llama, text, "--ids=8"]) == 0
    assert capsys.readouterr().out == "8 ids, 29 steps: each has the bits of a node of the release\n"
    assert main([llama, text, "--ids=8", "--mode=fast"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 ids, 29 steps: the first that differs is ") and lines[1].startswith("  then ")


def test_bad_input(
    llama: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(small.TEXT)
    needed = "one model and --text=FILE are needed; --ids=N and --mode=exact|fast are known besides"
    monkeypatch.setitem(sys.modules, "reference.language_model", None)
    away = "the release is asked by the package reference of hifi_ref's repository: run this there"
    for arguments, message in (
        ((), needed),
        ((llama,), needed),
        ((llama, f"--text={tmp_path}/none"), f"{tmp_path}/none: No such file or directory"),
        ((str(tmp_path / "text.txt"), f"--text={tmp_path}/text.txt"), None),
        ((llama, f"--text={tmp_path}/text.txt", "--ids=4"), away),
    ):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("hifi_ref.models.compare: ") and err.count("\n") == 1
        assert message is None or err == f"hifi_ref.models.compare: {message}\n"


def test_a_step_that_no_node_is_like() -> None:
    step = compare.Step("swiglu behind x", "GLU", np.ones(3, np.float32))
    assert compare.lines(1, 1, [compare._difference(step, [])]) == [
        "1 ids, 1 steps: the first that differs is swiglu behind x, which no node of the release is like"
    ]
