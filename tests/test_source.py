"""`check --source`: what the release writes is reproduced, whatever was changed is found, named and explained."""

from __future__ import annotations

import base64
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.check import command as check
from hifi_ref.check.report_json import SCHEMA_FILE
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.dialects import DIALECTS
from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.gguf_file import open_gguf
from reference import fetch, release
from tests import sources
from tests.hostile import build, run_check
from tools import make_sample

Q4_K_M, Q8_0 = 15, 7
ARM64 = Path(__file__).parent / "data" / "arm64_blocks.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """f32.gguf, what the release makes of it, and its importance in both forms."""
    folder = tmp_path_factory.mktemp("model")
    make_sample.write_model(folder / "f32.gguf", layers=1, rows=64)
    for file_type in (Q4_K_M, Q8_0):
        path = folder / f"{file_type}.gguf"
        assert make_sample.quantize(fetch.library_dir(), folder / "f32.gguf", path, file_type, 2, weighted=False) == 0
    weighted = folder / "weighted.gguf"
    assert make_sample.quantize(fetch.library_dir(), folder / "f32.gguf", weighted, Q4_K_M, 2) == 0
    sources.write_imatrix(folder / "imatrix.gguf", make_sample.importance())
    (folder / "imatrix.dat").write_bytes(sources.dat_imatrix(make_sample.importance()))
    return folder


def one_tensor(path: Path, name: str, shape: tuple[int, ...], data: np.ndarray) -> Path:
    """Write a file that holds one tensor of a format, t.weight; its shape as NumPy has it."""
    path.write_bytes(build([("t.weight", FORMATS[name].type_id, shape[::-1], data.tobytes())]))
    return path


def compare(path: Path, source: Path, *flags: str) -> tuple[int, dict, str]:
    """Exit code, JSON report, text."""
    report = path.parent / "report.json"
    code, out, err = run_check(path, f"--source={source}", f"--json={report}", *flags)
    assert err == "", err
    return code, json.loads(report.read_text()), out


def outcomes(report: dict) -> dict[str, tuple[str, str | None]]:
    return {t["name"]: (t["source"]["outcome"], t["source"]["meaning"]) for t in report["tensors"] if "source" in t}


def different(report: dict) -> dict[str, tuple[str, str | None]]:
    return {name: found for name, found in outcomes(report).items() if found[0] != "reproduced"}


@pytest.mark.parametrize("file_type", sorted(set(FILE_TYPES) - {39}))
def test_without_importance_whatever_the_release_writes_is_reproduced(
    tmp_path: Path, folder: Path, file_type: int
) -> None:
    """With importance: tests/test_check.py. Formats that search a grid are slow: a row of each tensor will do."""
    path, name = tmp_path / "q.gguf", FILE_TYPES[file_type][0]
    status = make_sample.quantize(fetch.library_dir(), folder / "f32.gguf", path, file_type, 2, weighted=False)
    assert bool(status) == (name in REFUSED_WITHOUT_IMPORTANCE)
    if not status:
        flags = ["--sample=1"] if name.startswith("IQ") else []
        code, report, out = compare(path, folder / "f32.gguf", *flags)
        assert (code, different(report), len(outcomes(report))) == (0, {}, 12), out


REFUSED_WITHOUT_IMPORTANCE = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XS IQ3_XXS Q2_K_S".split()


def test_the_report(folder: Path) -> None:
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf")
    assert code == 0
    assert "blk.0.attn_q.weight       Q4_K  256 x 64          4.5      64  the same         -\n" in out
    assert out.endswith(
        "sound: no findings\n\n15.gguf: every tensor is bit for bit what the reference encoder (llama.cpp v0.5.0, "
        "x86-64) writes from f32.gguf (12\ntensors, 131840 weights).\n"
    )
    source = report["source"]
    assert (source["form"], source["reproduced"], source["outcomes"]) == ("GGUF", True, {"reproduced": 12})
    q = next(t["source"] for t in report["tensors"] if t["name"] == "blk.0.attn_q.weight")
    assert (q["source_type"], q["blocks_judged"], q["blocks_differing"], q["first"]) == ("F32", 64, 0, None)
    assert q["errors"]["rms"] == q["errors"]["reference_rms"] > 0 and sum(q["histogram"]) == 64
    assert [p.name for p in folder.iterdir() if p.name.endswith(".state")] == []


@pytest.mark.parametrize("imatrix", ["imatrix.gguf", "imatrix.dat"])
def test_importance_in_both_forms(folder: Path, imatrix: str) -> None:
    code, report, out = compare(folder / "weighted.gguf", folder / "f32.gguf", f"--imatrix={folder / imatrix}")
    assert (code, different(report)) == (0, {}), out
    assert report["source"]["imatrix_datasets"] == ["wiki.train.raw"]
    assert f"with the importance matrix {imatrix}" in " ".join(out.split())


def test_importance_that_was_not_used_or_not_given(folder: Path) -> None:
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf", f"--imatrix={folder / 'imatrix.gguf'}")
    assert code == 1 and set(different(report).values()) == {("otherwise", "importance")}
    assert "warning E004 importance not used. " in out
    assert "9 need or lack the importance matrix" in " ".join(out.split())
    code, report, out = compare(folder / "weighted.gguf", folder / "f32.gguf")
    assert code == 1 and set(different(report).values()) == {("differs", "encoder")}
    assert "warning E003 another encoder. " in out


def test_a_file_that_names_an_importance_matrix(tmp_path: Path, folder: Path) -> None:
    """Without the matrix its tensors are not judged; and some formats cannot be encoded without one."""
    x = make_sample.made_weights(3, 4, 256)
    source, path = one_tensor(tmp_path / "s.gguf", "F32", x.shape, x), tmp_path / "q.gguf"
    row = np.arange(1, 257, dtype=np.float32)
    (tmp_path / "i.dat").write_bytes(sources.dat_imatrix({"t.weight": row}))
    encoded = {"Q4_K": release.encode("Q4_K", x, row), "IQ2_XS": np.zeros((4, FORMATS["IQ2_XS"].type_size), np.uint8)}
    for name, blocks in encoded.items():
        tensor = ("t.weight", FORMATS[name].type_id, (256, 4), blocks.tobytes())
        path.write_bytes(build([tensor], [("quantize.imatrix.file", 8, b"some.dat")]))
        code, report, out = compare(path, source)
        assert (code, different(report)) == (1, {"t.weight": ("not judged", "importance")}), out
    one_tensor(path, "Q4_K", x.shape, encoded["Q4_K"])
    assert compare(path, source, f"--imatrix={tmp_path / 'i.dat'}")[0] == 0


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


def check_file_against(path: Path, source: Path, *flags: str) -> list[dict]:
    """The findings about what differs from the source."""
    report = json.loads(run_check(path, f"--source={source}", "--json", *flags)[1])
    return [f for f in report["findings"] if f["code"].startswith("E")]


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
    assert "warning E002 another arithmetic. " in out and "a build with fused multiply-adds" in " ".join(out.split())


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


def test_what_is_quantized_already_is_copied_or_encoded_again(tmp_path: Path) -> None:
    x = make_sample.made_weights(1, 8, 256)
    blocks = release.encode("Q4_K", x)
    source, path = tmp_path / "s-00001-of-00002.gguf", tmp_path / "q.gguf"
    source.write_bytes(build([("a", FORMATS["Q4_K"].type_id, (256, 8), blocks.tobytes())]))
    (tmp_path / "s-00002-of-00002.gguf").write_bytes(build([("b", 0, (256, 8), x.tobytes())]))
    again = release.encode("Q2_K", release.decode("Q4_K", blocks).reshape(x.shape))
    for name, a in (("Q4_K", blocks), ("Q2_K", again)):
        tensors = [("a", FORMATS[name].type_id, (256, 8), a.tobytes()), ("b", 0, (256, 8), x.tobytes())]
        path.write_bytes(build(tensors))
        # A model in two files: either one names both.
        for part in (source, tmp_path / "s-00002-of-00002.gguf"):
            code, report, out = compare(path, part)
            assert (code, different(report), len(outcomes(report))) == (0, {}, 2), out


@pytest.mark.parametrize(("name", "outliers"), [("Q4_K_HIFI", None), ("Q4_K_HIFI", 3), ("Q5_K_HIFI_RES8", None)])
def test_formats_of_the_hifi_fork(tmp_path: Path, name: str, outliers: int | None) -> None:
    """The padding, which the fork does not write, may hold anything."""
    x = make_sample.made_weights(1, 16, 512)
    f = FORMATS[name]
    blocks = hr.encode(name, x, outliers=outliers).reshape(-1, f.type_size)
    if name == "Q5_K_HIFI_RES8":
        blocks[:, f.layout.offset("pad")] = 77
    type_id = next(i for i, kind in DIALECTS["hifi"].ids.items() if kind.name == name)
    source, path = one_tensor(tmp_path / "s.gguf", "F32", x.shape, x), tmp_path / "q.gguf"
    path.write_bytes(build([("t.weight", type_id, (512, 16), blocks.tobytes())]))
    code, report, out = compare(path, source, "--dialect=hifi")
    assert (code, different(report)) == (0, {}), out
    assert "(llama.cpp v0.5.0, x86-64, and the HIFI fork)" in " ".join(out.split())


def test_experts_have_their_own_importance(tmp_path: Path) -> None:
    x = make_sample.made_weights(1, 3 * 4, 256).reshape(3, 4, 256)
    rows = np.exp(np.random.default_rng(0).standard_normal((3, 256))).astype(np.float32)
    blocks = np.stack([release.encode("Q4_K", m, row) for m, row in zip(x, rows, strict=True)])
    source = one_tensor(tmp_path / "s.gguf", "F32", x.shape, x)
    path, imatrix = one_tensor(tmp_path / "q.gguf", "Q4_K", x.shape, blocks), tmp_path / "i.dat"
    imatrix.write_bytes(sources.dat_imatrix({"t.weight": rows.reshape(-1)}))
    assert compare(path, source, f"--imatrix={imatrix}")[0] == 0


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
    code, report, _ = compare(path, source)
    result = report["tensors"][0]["source"]
    assert (code, result["blocks_judged"], result["blocks_not_finite"]) == (0, 1, 1)


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


def test_a_part_of_the_file(folder: Path) -> None:
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf", "--tensors=attn_[qk]", "--sample=8")
    assert code == 0 and sorted(outcomes(report)) == ["blk.0.attn_k.weight", "blk.0.attn_q.weight"]
    assert {t["source"]["blocks_judged"] for t in report["tensors"] if "source" in t} == {8}
    assert "each of 2 chosen tensors, in a sample of its blocks, is bit for bit" in " ".join(out.split())
    again = compare(folder / "15.gguf", folder / "f32.gguf", "--tensors=attn_[qk]", "--sample=8")[1]
    assert again == report


def test_an_interrupted_run_goes_on(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hifi_ref.check import compare as comparing

    path = tmp_path / "q.gguf"
    path.write_bytes((folder / "15.gguf").read_bytes())
    result_of, calls = comparing.result_of, []

    def stop_after(n: int):
        def judging(tensor, *rest):
            calls.append(tensor.name)
            if len(calls) > n:
                raise KeyboardInterrupt
            return result_of(tensor, *rest)

        return judging

    flags = [f"--source={folder / 'f32.gguf'}", "--resume"]
    monkeypatch.setattr(comparing, "result_of", stop_after(5))
    assert run_check(path, *flags)[0] == 130
    state = tmp_path / "q.gguf.state"
    done = set(json.loads(state.read_text())["done"])
    assert 1 <= len(done) <= 5
    calls.clear()
    monkeypatch.setattr(comparing, "result_of", stop_after(1000))
    kept = state.read_bytes()
    assert run_check(path, *flags)[0] == 0 and not done & set(calls) and len(calls) == 12 - len(done)
    assert not state.exists()
    # Another file, other options or a broken state: everything is done anew.
    os.utime(path, ns=(1, 1))
    for stale in (kept, b"{", b"[]", b'{"digest": 1}'):
        state.write_bytes(stale)
        calls.clear()
        assert run_check(path, *flags)[0] == 0 and len(calls) == 12


def test_usage_of_source(folder: Path, tmp_path: Path) -> None:
    path = folder / "15.gguf"
    for flags, message in [
        (["--imatrix=x"], "--imatrix needs a --source to compare with (--help tells the usage)"),
        ([f"--source={path}", "--tensors=["], "--tensors=[ is no regular expression"),
        ([f"--source={tmp_path / 'absent'}"], f"cannot read {tmp_path / 'absent'}: No such file or directory"),
        ([f"--source={path}", "--sample=0"], "flag --sample=0: 0 is not a positive integer"),
        (["--dialect=klingon"], "flag --dialect=klingon: value should be one of"),
    ]:
        code, out, err = run_check(path, *flags)
        assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err


def test_check_alone_needs_no_jax(folder: Path) -> None:
    report = check.check_file(folder / "15.gguf")
    assert report.comparison is None and report.reproduced is None


def schema() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_reports_follow_their_schema(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "q.gguf"
    damaged = bytearray((folder / "15.gguf").read_bytes())
    damaged[-5000] ^= 1
    path.write_bytes(damaged)
    reports = [json.loads(run_check(path, "--json")[1]), compare(path, folder / "f32.gguf")[1]]
    reports.append(compare(path, folder / "f32.gguf", f"--imatrix={folder / 'imatrix.gguf'}", "--sample=2")[1])
    for report in reports:
        assert list(schema().iter_errors(report)) == []
    # A few blocks of one bit each: damage.
    assert {m for _, m in different(reports[1]).values()} == {"damage"}
    assert reports[0]["source"] is None and reports[0]["dialect"] == "llama.cpp"


class Page(HTMLParser):
    """What a page is made of: its tags in order, what it refers to, and its text; elements must nest."""

    VOID = ("meta", "img", "line", "rect", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.references, self.tags, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action", "data", "srcset")]
        if tag not in self.VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "<q>.gguf"
    damaged = bytearray((folder / "15.gguf").read_bytes())
    damaged[-5000] ^= 1
    path.write_bytes(damaged)
    target = tmp_path / "page.html"
    assert run_check(path, f"--source={folder / 'f32.gguf'}", f"--html={target}")[0] == 1
    text = target.read_text()
    page = Page(text)
    assert page.open == [] and "script" not in page.tags and "link" not in page.tags
    assert page.references and all(r.startswith("data:image/png;base64,") for r in page.references)
    assert not re.search(r"https?:|url\(|@import", text)
    words = " ".join(page.words)
    assert "Sound, not reproduced." in words and "11 of 12" in words and "<q>.gguf" in words and "<q>" not in text
    assert page.tags.count("tr") == 13 and page.tags.count("img") == len(page.references) == 9
    for reference in page.references:
        assert base64.b64decode(reference.split(",")[1]).startswith(b"\x89PNG\r\n\x1a\n")
    # Without a source: the same page without what came of it.
    assert run_check(path, f"--html={target}")[0] == 0
    page = Page(target.read_text())
    assert page.open == [] and page.references == [] and page.tags.count("tr") == 13


def documented(folder: Path) -> None:
    """The files that docs/check.md speaks of."""
    make_sample.write_model(folder / "model-F32.gguf", layers=1, rows=64)
    path = folder / "model-Q4_K_M.gguf"
    assert make_sample.quantize(fetch.library_dir(), folder / "model-F32.gguf", path, 15, weighted=False) == 0
    damaged = bytearray(path.read_bytes())
    tensor = next(t for t in open_gguf(path).tensors if t.name == "blk.0.ffn_up.weight")
    damaged[tensor.start + 17 * tensor.type.type_size + 20] ^= 0x40
    (folder / "damaged.gguf").write_bytes(damaged)


def test_the_output_in_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documented(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parent.parent / "docs" / "check.md").read_text()
    sessions = re.findall(r"```console\n\$ python -m hifi_ref.check ([^\n]*)\n(.*?)```", text, re.DOTALL)
    assert len(sessions) == 2
    for arguments, output in sessions:
        assert run_check(*arguments.split())[1] == output
