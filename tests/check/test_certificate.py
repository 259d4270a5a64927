"""The sentence that a publisher signs: it is there for what is whole, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import sources
from tests.check import rewrite
from tests.check.helpers import compare
from tests.hostile import run_check
from tools import make_sample

SENTENCE = ": every tensor is bit for bit what the reference encoder"


def imatrix(path: Path, rows: dict[str, np.ndarray]) -> str:
    path.write_bytes(sources.dat_imatrix(rows))
    return f"--imatrix={path}"


def test_a_file_that_is_written_again_gets_it(tmp_path: Path, folder: Path) -> None:
    """The other tests' tool changes nothing of its own."""
    path = rewrite.write(tmp_path / "q.gguf", rewrite.read(folder / "15.gguf"))
    code, report, out = compare(path, folder / "f32.gguf")
    assert code == 0 and SENTENCE in out and report["verdict"]["kind"] == "reproduced"


def test_how_far_the_importance_goes(tmp_path: Path, folder: Path) -> None:
    whole = make_sample.importance()
    code, report, out = compare(folder / "weighted.gguf", folder / "f32.gguf", imatrix(tmp_path / "i.dat", whole))
    assert code == 0 and SENTENCE in out
    assert "from f32.gguf with the importance matrix i.dat (used for 9 of 9 tensors that take one) (12 tensors" in out
    # Of two layers the file has one.
    assert report["source"]["coverage"] == {"entries": len(whole), "matched": 9, "used": 9, "of": 9}
    # Q8_0 takes none.
    code, report, out = compare(folder / "7.gguf", folder / "f32.gguf", imatrix(tmp_path / "i.dat", whole))
    assert code == 0 and SENTENCE in out
    assert "from f32.gguf without the importance matrix i.dat, which none of them takes (12 tensors" in out
    assert report["source"]["coverage"]["of"] == 0


@pytest.mark.parametrize("file", ["15.gguf", "7.gguf"])
def test_importance_of_another_model(tmp_path: Path, folder: Path, file: str) -> None:
    flag = imatrix(tmp_path / "i.dat", {f"other.{name}": row for name, row in make_sample.importance().items()})
    code, report, out = compare(folder / file, folder / "f32.gguf", flag)
    assert code == 1 and report["counts"] == {"E012": 1} and SENTENCE not in out
    assert "\nnot reproduced: importance of another model (1)\n" in out


def test_importance_of_another_width(tmp_path: Path, folder: Path) -> None:
    rows = make_sample.importance()
    narrow = rows | {"blk.0.attn_q.weight": np.ones(255, np.float32)}
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf", imatrix(tmp_path / "i.dat", narrow))
    assert code == 1 and report["counts"]["E013"] == 1 and SENTENCE not in out
    assert "tensor blk.0.attn_q.weight: the importance matrix has 255 values, and the tensor needs 256" in out
    # Where the release goes on without it.
    one = {"token_embd.weight": np.ones(255, np.float32)}
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf", imatrix(tmp_path / "i.dat", one))
    assert (code, report["source"]["coverage"]["used"]) == (0, 0) and SENTENCE in out


@pytest.mark.parametrize("lost", [["output.weight"], ["output_norm.weight"], "half"])
def test_a_file_that_lacks_tensors(tmp_path: Path, folder: Path, lost: list[str] | str) -> None:
    content = rewrite.read(folder / "15.gguf")
    for name in list(content.tensors)[6:] if lost == "half" else lost:
        del content.tensors[name]
    path = rewrite.write(tmp_path / "q.gguf", content)
    code, report, out = compare(path, folder / "f32.gguf")
    assert code == 1 and SENTENCE not in out and report["source"]["reproduced"] is False
    assert report["counts"]["E007"] == 12 - len(content.tensors)
    assert f"\nnot reproduced: left out ({12 - len(content.tensors)})\n" in out


def test_a_layer_that_only_the_checkpoint_has(tmp_path: Path, folder: Path) -> None:
    """Its tensors have names in GGUF, though the file has no such layer."""
    source = tmp_path / "model.safetensors"
    tensors = sources.checkpoint(layers=2)
    one = {n: sources.as_dtype(x, "F32") for n, x in sources.checkpoint().items()}
    two = {n: sources.as_dtype(x, "F32") for n, x in tensors.items() if ".layers.1." in n}
    source.write_bytes(sources.safetensors(one | two))
    code, report, out = compare(folder / "15.gguf", source)
    assert code == 1 and report["counts"] == {"E007": 9} and SENTENCE not in out
    # What the converter leaves out may be there, and what has no name is spoken of.
    for name, sentence in {"model.layers.0.self_attn.rotary_emb.inv_freq": True, "model.extra": False}.items():
        source.write_bytes(sources.safetensors(one | {name: ("F32", (1,), bytes(4))}))
        code, report, out = compare(folder / "15.gguf", source)
        assert code == 0 and (SENTENCE in out) is sentence
    assert "; 1 of the source has no name in GGUF.\n" in out


@pytest.mark.parametrize("flag", ["--tensors=.", "--sample=1000000"])
def test_what_was_chosen_is_no_whole(folder: Path, flag: str) -> None:
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf", flag)
    assert code == 0 and SENTENCE not in out and report["verdict"]["kind"] == "compared in part"


def test_names_are_not_broken_over_lines(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / ("a-model with a name that is-" + "very-" * 20 + "long\nand has two lines.gguf")
    path.write_bytes((folder / "7.gguf").read_bytes())
    code, out, _ = run_check(path, f"--source={folder / 'f32.gguf'}", "--quiet")
    (line,) = [line for line in out.splitlines() if SENTENCE in line]
    assert code == 0 and line.startswith("a-model with a name that is-very-")
    assert "long\\nand has two lines.gguf" in line and line.endswith(" weights).")
