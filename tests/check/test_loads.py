"""Whether llama.cpp would load a file, as check reports it: models, what is none, and what cannot be judged."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from hifi_ref.formats import FORMATS
from tests import sources
from tests.check import rewrite
from tests.check.helpers import one_tensor
from tests.check.test_reports import schema
from tests.hostile import build, run_check
from tools import make_sample

STRING, ARCHITECTURE = gguf.GGUFValueType.STRING, "general.architecture"


def report_of(path: Path, *flags: str) -> tuple[int, dict]:
    code, out, err = run_check(path, "--json", *flags)
    report = json.loads(out)
    assert err == "" and list(schema().iter_errors(report)) == []
    return code, report


def test_what_the_last_lines_say(tmp_path: Path, folder: Path) -> None:
    content = rewrite.read(folder / "15.gguf")
    content.metadata[ARCHITECTURE] = ("mamba", STRING, None)
    path = rewrite.write(tmp_path / "q.gguf", content)
    code, out, _ = run_check(path)
    assert code == 0 and "\nsound: 1 note\n" in out
    why = "general.architecture is mamba, which llama.cpp knows and the tables here do not hold"
    assert (
        out.endswith(f"\nloading: not judged, architecture mamba: {why}\n") and "note L010 loading not judged. " in out
    )
    assert run_check(path, "--fail-on=note")[0] == 1
    content.metadata[ARCHITECTURE] = ("flux", STRING, None)
    code, out, _ = run_check(rewrite.write(path, content))
    assert code == 1 and "\nwill not load in llama.cpp: not a model of this release (1)\n" in out
    why = "general.architecture is 'flux', which llama.cpp does not know"
    assert out.endswith(f"\nloading: will not load, architecture flux: {why}\n")
    code, report = report_of(path, "--ignore=L")
    assert (code, report["verdict"]["kind"], report["ignored"]) == (0, "sound", {"L001": 1})


def test_every_tensor_of_a_model_that_is_not_judged(tmp_path: Path, folder: Path) -> None:
    """The sentence speaks of the file; the last line says that loading was not judged."""
    for name in ("15.gguf", "f32.gguf"):
        content = rewrite.read(folder / name)
        content.metadata[ARCHITECTURE] = ("mamba", STRING, None)
        rewrite.write(tmp_path / name, content)
    code, out, _ = run_check(tmp_path / "15.gguf", f"--source={tmp_path / 'f32.gguf'}")
    assert code == 0 and ": every tensor is bit for bit" in out
    assert "\nloading: not judged, architecture mamba: " in out


def imatrix(path: Path) -> None:
    sources.write_imatrix(path, make_sample.importance())


def control_vector(path: Path) -> None:
    path.write_bytes(
        build([("direction.1", 0, (8,), np.ones(8, np.float32).tobytes())], [(ARCHITECTURE, 8, b"controlvector")])
    )


def projector(path: Path) -> None:
    metadata = [(ARCHITECTURE, 8, b"clip"), ("general.type", 8, b"mmproj")]
    path.write_bytes(build([("v.patch_embd.weight", 0, (8,), np.ones(8, np.float32).tobytes())], metadata))


NO_MODELS = {
    imatrix: "an importance matrix: llama-quantize takes it, with --imatrix",
    control_vector: "a control vector: llama.cpp adds it to a model's layers, with --control-vector",
    projector: "a projector for images or sound: llama.cpp takes it beside a model, with --mmproj",
}


@pytest.mark.parametrize("make", NO_MODELS, ids=lambda make: make.__name__)
def test_what_is_no_model_is_named(tmp_path: Path, folder: Path, make) -> None:
    make(tmp_path / "other.gguf")
    code, report = report_of(tmp_path / "other.gguf")
    assert (code, report["counts"], report["verdict"]["kind"]) == (0, {"L012": 1}, "sound")
    assert (report["loading"]["kind"], report["loading"]["sentence"]) == ("no model", f"this is {NO_MODELS[make]}")
    # Beside models it is looked at, and has no source.
    (tmp_path / "model.gguf").write_bytes((folder / "7.gguf").read_bytes())
    code, report = report_of(tmp_path, f"--source={folder / 'f32.gguf'}")
    assert code == 0
    assert [one["verdict"]["kind"] for one in report] == ["reproduced", "sound"]


def test_an_adapter_that_lacks_a_half(tmp_path: Path) -> None:
    path, half = tmp_path / "lora.gguf", ("blk.0.attn_q.weight.lora_a", 0, (8, 2), np.ones(16, np.float32).tobytes())
    metadata = [(ARCHITECTURE, 8, b"llama"), ("general.type", 8, b"adapter"), ("adapter.type", 8, b"lora")]
    path.write_bytes(build([half], metadata))
    code, report = report_of(path)
    assert code == 1 and report["loading"]["kind"] == "no model"
    assert report["counts"]["L004"] == 1 and report["verdict"]["kind"] == "will not load in llama.cpp"


def test_files_of_a_fork_are_not_judged(tmp_path: Path) -> None:
    size = FORMATS["Q4_K_HIFI"].type_size
    path = one_tensor(tmp_path / "q.gguf", "F32", (1, 256), np.zeros(256, np.float32))
    path.write_bytes(build([("t.weight", 46, (256, 1), bytes(size))]))
    code, report = report_of(path, "--dialect=hifi")
    assert (code, report["loading"]["kind"]) == (0, "not judged")
    assert "the HIFI fork of llama.cpp, March 2026" in report["loading"]["sentence"]
