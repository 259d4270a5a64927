"""A file of another build: that build is named, damage in it is found, and a strict file is never taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.formats import FORMATS, builds, hard_inputs
from hifi_ref.lanes import numpy_lane
from hifi_ref.quantize import command as quantize
from tests.check.helpers import compare, different
from tests.hostile import build
from tests.sources import write_imatrix
from tools import make_sample

SAYS = {
    "clang-arm64": "arm64, compiled by Clang",
    "gcc-x86-fma": "x86-64 with fused multiply-adds before b4234, compiled by GCC for AMD's Zen",
    "gcc-x86-fma-intel": "x86-64 with fused multiply-adds before b4234, compiled by GCC for Intel or for any x86-64",
}
every_profile = pytest.mark.parametrize("profile", SAYS)
FORMATS_HERE = ("Q2_K", "Q4_K", "Q6_K", "IQ4_XS", "Q8_0")


def weights() -> np.ndarray:
    """Of heavy tails, where the searches of the two builds end otherwise in many blocks."""
    return hard_inputs.weights("heavy tails", np.random.default_rng(0), 64, 512)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source, and what all builds make of it."""
    folder = tmp_path_factory.mktemp("profiles")
    x = weights()
    written = {"source": build([(name, 0, (512, 64), x.tobytes()) for name in FORMATS_HERE])}
    for profile in ("strict", *SAYS):
        made = [(n, FORMATS[n].type_id, (512, 64), hr.encode(n, x, profile=profile).tobytes()) for n in FORMATS_HERE]
        written[profile] = build(made)
    for name, content in written.items():
        (folder / f"{name}.gguf").write_bytes(content)
    return {name: folder / f"{name}.gguf" for name in written}


@every_profile
def test_the_build_is_named(models: dict[str, Path], profile: str) -> None:
    code, report, out = compare(models[profile], models["source"])
    found = different(report)
    assert code == 1 and "Q4_K" in found and "Q8_0" not in found
    assert set(found.values()) == {("differs", "profile")}
    for tensor in report["tensors"]:
        assert (profile in tensor["source"]["profile"].split(" or ")) == (tensor["name"] in found)
    assert f"each what {profile} ({SAYS[profile]}) writes" in " ".join(out.split())


def test_builds_that_compute_alike_are_asked_as_one() -> None:
    assert builds.told_apart("Q4_K", False) == ("clang-arm64", "gcc-x86-fma", "gcc-x86-fma-intel")
    assert builds.told_apart("Q2_K", True) == ("clang-arm64", "gcc-x86-fma or gcc-x86-fma-intel")
    assert builds.told_apart("IQ1_M", True) == ("clang-arm64",)


@every_profile
def test_asked_for_it_is_reproduced(models: dict[str, Path], profile: str) -> None:
    _, report, out = compare(models[profile], models["source"], f"--profile={profile}")
    assert different(report) == {} and f"profile {profile}" in " ".join(out.split())
    assert report["source"]["profile"] == profile


@every_profile
def test_a_strict_file_is_strict(models: dict[str, Path], profile: str) -> None:
    assert different(compare(models["strict"], models["source"])[1]) == {}
    found = different(compare(models["strict"], models["source"], f"--profile={profile}")[1])
    assert "Q4_K" in found


@every_profile
def test_one_bit_is_still_found(models: dict[str, Path], tmp_path: Path, profile: str) -> None:
    """In a tensor whose other differences are all the build's."""
    x = weights()
    whole = models[profile].read_bytes()
    blocks = hr.encode("Q4_K", x, profile=profile).tobytes()
    at, (block, byte) = whole.index(blocks), (37, 21)
    damaged = bytearray(whole)
    damaged[at + block * 144 + byte] ^= 4
    (tmp_path / "q.gguf").write_bytes(damaged)
    code, report, out = compare(tmp_path / "q.gguf", models["source"], "--tensors=^Q4_K$")
    result = next(tensor["source"] for tensor in report["tensors"] if tensor["name"] == "Q4_K")
    assert (code, result["meaning"], result["profile"]) == (1, "damage", profile), out
    assert (result["blocks_differing"], result["first"]["block"]) == (1, block)
    assert f"{profile} writes {result['first']['expected']}" in " ".join(out.split())


def test_another_encoder_is_no_build(models: dict[str, Path], tmp_path: Path) -> None:
    x = weights()
    other = hr.encode("Q4_K", x, np.ones(512, np.float32)).tobytes()
    (tmp_path / "q.gguf").write_bytes(build([("Q4_K", 12, (512, 64), other)]))
    _, report, _ = compare(tmp_path / "q.gguf", models["source"], "--tensors=^Q4_K$")
    result = next(tensor["source"] for tensor in report["tensors"] if "source" in tensor)
    assert result["meaning"] == "encoder" and result["profile"] == ""


def test_a_build_near_a_known_one_is_neither_it_nor_damaged(tmp_path: Path) -> None:
    """It fuses one product more than gcc-x86-fma does, and writes six of 512 blocks otherwise."""
    x = make_sample.made_weights(7, 256, 512)
    known = builds.arithmetic("gcc-x86-fma", "Q4_K", importance=False)
    assert known is not None
    near = known._replace(rounded=known.rounded - {"sum of w l"})
    blocks = numpy_lane.encode(FORMATS["Q4_K"], x, None, near)
    assert not np.array_equal(blocks.reshape(256, -1), hr.encode("Q4_K", x, profile="gcc-x86-fma"))
    (tmp_path / "s.gguf").write_bytes(build([("t", 0, (512, 256), x.tobytes())]))
    (tmp_path / "q.gguf").write_bytes(build([("t", 12, (512, 256), blocks.tobytes())]))
    _, report, out = compare(tmp_path / "q.gguf", tmp_path / "s.gguf")
    result = report["tensors"][0]["source"]
    assert (result["meaning"], result["profile"]) == ("profile", ""), out


def test_what_a_build_left_to_chance_is_not_judged_and_not_written(tmp_path: Path, capsys: Any) -> None:
    """Importance of 0 for a sub-block of IQ2_S: the sentence names tensor and profile, and nothing is written."""
    x, row = make_sample.made_weights(3, 2, 256), np.repeat(np.float32([0, 1]), [16, 240])
    source, path, out = (tmp_path / name for name in ("s.gguf", "q.gguf", "out.gguf"))
    source.write_bytes(build([("blk.0.ffn_up.weight", 0, (256, 2), x.tobytes())]))
    path.write_bytes(build([("blk.0.ffn_up.weight", 22, (256, 2), hr.encode("IQ2_S", x, row).tobytes())]))
    write_imatrix(tmp_path / "i.gguf", {"blk.0.ffn_up.weight": row})
    flags = (f"--imatrix={tmp_path / 'i.gguf'}", "--profile=gcc-x86-fma")
    result = compare(path, source, *flags)[1]["tensors"][0]["source"]
    assert result["meaning"] == "format" and "profile gcc-x86-fma is not known for these weights" in result["why"]
    assert quantize.main(["--type=IQ2_S", *flags, str(source), str(out)]) == 2 and not out.exists()
    assert "tensor blk.0.ffn_up.weight cannot be written as IQ2_S: the build keeps chance" in capsys.readouterr().err
