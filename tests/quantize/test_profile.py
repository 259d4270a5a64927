"""--profile: the blocks that another build writes, in the file that llama-quantize lays out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.formats import FORMATS, builds
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.quantize import command as quantize
from tests.check.helpers import compare, different
from tests.quantize import builds as whole_files
from tools import make_sample

PROFILE = "clang-arm64"


def test_a_build_s_blocks(tmp_path: Path) -> None:
    source, own, strict = (tmp_path / f"{name}.gguf" for name in ("source", "own", "strict"))
    make_sample.write_model(source, layers=1)
    for out, flags in ((own, [f"--profile={PROFILE}"]), (strict, [])):
        assert quantize.main(["--mixture=Q4_K_M", "--quiet", *flags, str(source), str(out)]) == 0
    given, made, plain = (open_gguf(path) for path in (source, own, strict))
    assert made.data[: made.data_start] == plain.data[: plain.data_start]
    weights = {tensor.name: tensor for tensor in given.tensors}
    for tensor in made.tensors:
        x = given.blocks(weights[tensor.name]).view(np.float32).reshape(-1, tensor.shape[0])
        expected = hr.encode(tensor.type_name, x, profile=PROFILE)
        assert np.array_equal(made.blocks(tensor).reshape(expected.shape), expected), tensor.name
    assert set(different(compare(own, source)[1]).values()) == {("differs", "profile")}
    assert different(compare(own, source, f"--profile={PROFILE}")[1]) == {}


@pytest.mark.parametrize("profile", builds.BUILDS)
def test_whole_files_have_the_tensors_that_the_build_itself_wrote(tmp_path: Path, profile: str) -> None:
    """Without importance and with it, by the digests of its llama_model_quantize."""
    source, kept = whole_files.model(tmp_path), json.loads(whole_files.DIGESTS.read_text())[profile]
    for weighted in (False, True):
        assert whole_files.quantized(source, tmp_path / "{type}.gguf", ",".join(kept), weighted, profile) == 0
        found = {name: whole_files.digest(tmp_path / f"{name}.gguf") for name in kept}
        assert found == {name: digests[weighted] for name, digests in kept.items()}


def test_what_is_not_known_of_a_build(tmp_path: Path, capsys: Any) -> None:
    source, out = tmp_path / "source.gguf", tmp_path / "out.gguf"
    make_sample.write_model(source, layers=1)
    assert "Q4_K_HIFI" in FORMATS
    assert quantize.main(["--type=Q4_K_HIFI", f"--profile={PROFILE}", str(source), str(out)]) == 2
    assert f"profile {PROFILE} is not known for Q4_K_HIFI" in capsys.readouterr().err and not out.exists()
    assert quantize.main(["--mixture=Q4_K_M", f"--profile={PROFILE}", "--dry-run", str(source)]) == 0
    shown = capsys.readouterr().out
    assert f"-> Q4_K, profile {PROFILE}" in shown and "encoding takes" not in shown
