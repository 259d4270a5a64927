"""The sources of a file: other floats, safetensors with their names and orders, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.formats import FORMATS
from reference import release
from tests import sources
from tests.check.helpers import compare, different, one_tensor, outcomes
from tests.hostile import build, run_check
from tools import make_sample


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_sources_of_other_floats(tmp_path: Path, kind: str) -> None:
    x = make_sample.made_weights(1, 8, 256)
    raw = release.encode(kind, x)
    source, path = one_tensor(tmp_path / "s.gguf", kind, x.shape, raw), tmp_path / "q.gguf"
    widened = release.decode(kind, raw).reshape(x.shape)
    for name in ("Q5_K", "Q8_0", "F32", kind):
        blocks = release.encode(name, widened)
        one_tensor(path, name, x.shape, blocks)
        assert compare(path, source)[0] == 0


def test_safetensors_with_reordered_rows(tmp_path: Path, folder: Path) -> None:
    """As convert_hf_to_gguf does: the rows of q and k are interleaved on the way."""
    tensors = sources.checkpoint()
    one = tmp_path / "model.safetensors"
    one.write_bytes(sources.safetensors({n: sources.as_dtype(x, "F32") for n, x in tensors.items()}))
    code, report, out = compare(folder / "15.gguf", one)
    assert (code, different(report)) == (0, {}), out
    assert (report["source"]["form"], report["source"]["unmapped"]) == ("safetensors", [])
    q = next(t["source"] for t in report["tensors"] if t["name"] == "blk.0.attn_q.weight")
    assert q["source_name"] == "model.layers.0.self_attn.q_proj.weight"
    plain = {n: sources.as_dtype(x, "F32") for n, x in sources.checkpoint(halve=False).items()}
    one.write_bytes(sources.safetensors(plain | {"model.extra": ("F32", (1,), bytes(4))}))
    code, report, out = compare(folder / "15.gguf", one)
    assert code == 1 and different(report) == {
        f"blk.0.attn_{k}.weight": ("otherwise", "order") for k in "qk"
    } and "warning E005 rows in another order. " in out  # fmt: skip
    assert report["source"]["unmapped"] == ["model.extra"]


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_safetensors_of_other_floats_and_raised_norms(tmp_path: Path, dtype: str) -> None:
    """As convert_hf_to_gguf does: 1 is added to Gemma's norms, before they are widened to F32 or after."""
    x = make_sample.made_weights(4, 8, 256)
    raw = sources.as_dtype(x, dtype)
    widened = release.decode(dtype, np.frombuffer(raw[2], np.uint8)).reshape(x.shape)
    norm = sources.as_dtype(x[0], "F32")
    names = {"v": "model.layers.0.self_attn.v_proj.weight", "norm": "model.norm.weight"}
    source, path = tmp_path / "model.safetensors", tmp_path / "q.gguf"
    source.write_bytes(sources.safetensors({names["v"]: raw, names["norm"]: norm}))
    for name in ("Q5_K", dtype):
        blocks = release.encode(name, widened).tobytes()
        tensors = [
            ("blk.0.attn_v.weight", FORMATS[name].type_id, (256, 8), blocks),
            ("output_norm.weight", 0, (256,), (x[0] + np.float32(1)).tobytes()),
        ]
        path.write_bytes(build(tensors, [("general.architecture", 8, b"gemma")]))
        code, report, out = compare(path, source)
        assert (code, different(report), len(outcomes(report))) == (0, {}, 2), out


def test_sharded_safetensors(tmp_path: Path, folder: Path) -> None:
    tensors = list(sources.checkpoint().items())
    shards = {"a.safetensors": tensors[:5], "b.safetensors": tensors[5:]}
    index = {"weight_map": {n: file for file, part in shards.items() for n, _ in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for file, part in shards.items():
        (tmp_path / file).write_bytes(sources.safetensors({n: sources.as_dtype(x, "F32") for n, x in part}))
    assert compare(folder / "15.gguf", tmp_path)[0] == 0
    (tmp_path / "b.safetensors").unlink()
    code, _, err = run_check(folder / "15.gguf", f"--source={tmp_path}")
    assert (code, err) == (2, f"hifi_ref.check: {tmp_path / 'b.safetensors'}: there is no such file\n")


HOSTILE = [
    (b"", "0 bytes are too few for safetensors"),
    (b"\xff" * 16, f"no safetensors: it announces a header of {2**64 - 1} bytes, 8 follow"),
    (b"\x02" + bytes(7) + b"[]", "the header is no JSON object"),
    (b"\x02" + bytes(7) + b"{]", "the header is no JSON"),
    (sources.safetensors({"t": ("F33", (1,), bytes(4))}), "tensor t is of the unknown dtype F33"),
    (sources.safetensors({"t": ("F32", (3,), bytes(4))}), "tensor t has 4 bytes, but F32 [3] needs 12"),
    (sources.safetensors({"t": ("F32", (1,), bytes(4))})[:-1], "tensor t claims bytes 0 to 4, but the data has 3"),
    (sources.safetensors({"t": ("F32", (-1,), bytes(4))}), "tensor t lacks a dtype, a shape or two offsets"),
    (b"\x0a" + bytes(7) + b'{"t":null}', "tensor t lacks a dtype, a shape or two offsets"),
]


@pytest.mark.parametrize(("data", "message"), HOSTILE)
def test_hostile_safetensors(tmp_path: Path, folder: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    assert run_check(folder / "15.gguf", f"--source={path}") == (2, "", f"hifi_ref.check: {path}: {message}\n")


def test_hostile_importance(tmp_path: Path, folder: Path) -> None:
    good = sources.dat_imatrix(make_sample.importance())
    path = tmp_path / "i.dat"
    rng = np.random.default_rng(1)
    for cut in [0, 3, 4, 7, *rng.integers(8, len(good) - 30, 20).tolist()]:
        path.write_bytes(good[:cut])
        code, out, err = run_check(folder / "15.gguf", f"--source={folder / 'f32.gguf'}", f"--imatrix={path}")
        assert (code, out, err.count("\n")) == (2, "", 1) and str(path) in err
    bad = {"t": np.full(4, np.nan, np.float32)}
    path.write_bytes(sources.dat_imatrix(bad))
    err = run_check(folder / "15.gguf", f"--source={folder / 'f32.gguf'}", f"--imatrix={path}")[2]
    assert err == f"hifi_ref.check: {path}: the importance of t is not finite at index 0\n"
    err = run_check(folder / "15.gguf", f"--source={folder / 'f32.gguf'}", f"--imatrix={folder / 'f32.gguf'}")[2]
    assert err == f"hifi_ref.check: {folder / 'f32.gguf'}: a GGUF whose general.type is not imatrix\n"
