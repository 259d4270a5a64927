"""What differs from the source is found, named and explained: damage, another arithmetic, another encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.formats import FORMATS
from hifi_ref.model_files.gguf_file import open_gguf
from reference import release
from tests.check.helpers import check_file_against, compare, different, one_tensor
from tests.hostile import build
from tests.paths import DATA
from tools import make_sample

ARM64 = DATA / "arm64_blocks.json"


def test_every_single_bit_is_found(tmp_path: Path, folder: Path) -> None:
    """Random bits of the tensors' data, in one file of many formats, each named by tensor, block and field."""
    x = make_sample.made_weights(5, 2, 256)
    names = "F32 F16 BF16 Q1_0 Q2_0 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K TQ1_0 TQ2_0 MXFP4 NVFP4".split()
    tensors = [(n, FORMATS[n].type_id, (256, 2), release.encode(n, x).tobytes()) for n in names]
    source, path = tmp_path / "s.gguf", tmp_path / "q.gguf"
    source.write_bytes(build([(n, 0, (256, 2), x.tobytes()) for n, *_ in tensors]))
    whole = build(tensors)
    path.write_bytes(whole)
    assert check_file_against(path, source) == []
    placed = open_gguf(path).tensors
    rng = np.random.default_rng(2)
    for _ in range(60):
        tensor = placed[rng.integers(len(placed))]
        at = tensor.start + int(rng.integers(tensor.nbytes))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        block, byte = divmod(at - tensor.start, tensor.type.type_size)
        field = FORMATS[tensor.type_name].layout.field_at(byte).name
        found = check_file_against(path, source, f"--tensors=^{tensor.name}$")
        assert [(f["tensor"], f["block"], f["field"], f["code"]) for f in found] == [
            (tensor.name, block, field, "E010")
        ]


@pytest.mark.parametrize("case", json.loads(ARM64.read_text())["cases"], ids=lambda case: case["format"])
def test_a_fused_build_is_recognized(tmp_path: Path, case: dict) -> None:
    """What the release's arm64 build writes is neither damage nor another encoder."""
    shape = (case["rows"], case["columns"])
    x, f = make_sample.made_weights(case["seed"], *shape), FORMATS[case["format"]]
    blocks = release.encode(f.name, x).reshape(-1, f.type_size)
    for block, raw in case["blocks"].items():
        blocks[int(block)] = np.frombuffer(bytes.fromhex(raw), np.uint8)
    source, path = one_tensor(tmp_path / "s.gguf", "F32", shape, x), tmp_path / "q.gguf"
    one_tensor(path, f.name, shape, blocks)
    code, report, out = compare(path, source)
    assert (code, different(report)) == (1, {"t.weight": ("differs", "profile")}), out
    assert report["tensors"][0]["source"]["blocks_differing"] == len(case["blocks"])
    assert "warning E002 another arithmetic. " in out
    assert report["tensors"][0]["source"]["profile"].split(" or ")[0] == "clang-arm64"
    assert "what clang-arm64 (arm64, compiled by Clang)" in " ".join(out.split())


@pytest.mark.parametrize("n", [1, 4, 40])
def test_changed_bytes_are_no_fused_build(tmp_path: Path, n: int) -> None:
    """Codes of some blocks replaced: two bytes each, so that no single change gives it away."""
    x = make_sample.made_weights(9, 256, 512)
    source, path = one_tensor(tmp_path / "s.gguf", "F32", x.shape, x), tmp_path / "q.gguf"
    blocks = release.encode("Q4_K", x).reshape(-1, 144)
    at = np.random.default_rng(n).choice(len(blocks), n, replace=False)
    blocks[at, 20] ^= 0x11
    blocks[at, 99] ^= 0x11 if n > 4 else 0
    one_tensor(path, "Q4_K", x.shape, blocks)
    code, report, out = compare(path, source)
    assert (code, different(report)) == (1, {"t.weight": ("differs", "damage")}), out


def test_other_weights_and_another_encoder(tmp_path: Path) -> None:
    x, y = make_sample.made_weights(1, 8, 256), make_sample.made_weights(2, 8, 256)
    source, path = one_tensor(tmp_path / "s.gguf", "F32", x.shape, x), tmp_path / "q.gguf"
    for name in ("Q4_K", "Q8_0", "F16", "F32"):
        one_tensor(path, name, x.shape, release.encode(name, y))
        code, report, out = compare(path, source)
        assert (code, different(report)) == (1, {"t.weight": ("differs", "source")}), out
        assert "error E001 other weights. " in out
    coarse = release.encode("Q4_K", x * np.float32(1.01))
    one_tensor(path, "Q4_K", x.shape, coarse)
    assert different(compare(path, source)[1]) == {"t.weight": ("differs", "encoder")}


@pytest.mark.parametrize(("through", "kind"), [("F16", np.float16), ("BF16", None)])
def test_weights_that_were_rounded_first(tmp_path: Path, through: str, kind: type | None) -> None:
    x = make_sample.made_weights(1, 8, 256) * np.float32(1.2345)
    rounded = release.decode(through, release.encode(through, x)).reshape(x.shape)
    source, path = one_tensor(tmp_path / "s.gguf", "F32", x.shape, x), tmp_path / "q.gguf"
    one_tensor(path, "Q6_K", x.shape, release.encode("Q6_K", rounded))
    code, report, out = compare(path, source)
    assert (code, different(report)) == (1, {"t.weight": ("otherwise", f"rounded to {through}")}), out
    assert f"reproduced from the source's weights rounded to {through} first" in out


def test_missing_tensors_and_shapes(tmp_path: Path) -> None:
    row = np.ones(8, "<f4").tobytes()
    source, path = tmp_path / "s.gguf", tmp_path / "q.gguf"
    source.write_bytes(build([("a", 0, (8,), row), ("only", 0, (8,), row), ("b", 0, (8,), row)]))
    path.write_bytes(build([("a", 0, (8,), row), ("b", 0, (4, 2), row), ("new", 0, (8,), row)]))
    code, report, out = compare(path, source)
    assert code == 1 and different(report) == {"b": ("not judged", "shape"), "new": ("not judged", "absent")}
    assert sorted(report["counts"]) == ["E006", "E007", "E008"] and report["source"]["missing"] == ["only"]
    assert "tensor b: the shape is [4, 2], and [8] in the source" in out


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    x = make_sample.made_weights(1, 2, 256)
    x[0, 5] = np.nan
    blocks = release.encode("Q4_K", np.nan_to_num(x)).tobytes()
    source, path = tmp_path / "s.gguf", tmp_path / "q.gguf"
    source.write_bytes(build([("t", 0, (256, 2), x.tobytes())]))
    path.write_bytes(build([("t", 12, (256, 2), blocks)]))
    code, report, out = compare(path, source)
    result = report["tensors"][0]["source"]
    assert (code, result["blocks_judged"], result["blocks_not_finite"]) == (1, 1, 1)
    assert "1 of 2 blocks have a source that is not finite, and were not judged" in out and "every tensor" not in out
