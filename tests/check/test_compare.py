"""`check --source`: whatever the release writes is reproduced, wholly or in part, in one run or several."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.check import command as check
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.dialects import DIALECTS
from hifi_ref.model_files.file_types import FILE_TYPES
from reference import fetch, release
from tests import sources
from tests.check.helpers import compare, different, one_tensor, outcomes
from tests.hostile import build, run_check
from tools import make_sample


@pytest.mark.parametrize("file_type", sorted(set(FILE_TYPES) - {39}))
def test_without_importance_whatever_the_release_writes_is_reproduced(
    tmp_path: Path, folder: Path, file_type: int
) -> None:
    """With importance: test_file_types.py. Formats that search a grid are slow: a row of each tensor will do."""
    path, name = tmp_path / "q.gguf", FILE_TYPES[file_type][0]
    status = make_sample.quantize(fetch.library_dir(), folder / "f32.gguf", path, file_type, 2, weighted=False)
    assert bool(status) == (name in REFUSED_WITHOUT_IMPORTANCE)
    if not status:
        flags = ["--sample=1"] if name.startswith("IQ") else []
        code, report, out = compare(path, folder / "f32.gguf", *flags)
        assert (code, different(report), len(outcomes(report))) == (0, {}, 12), out


REFUSED_WITHOUT_IMPORTANCE = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XS IQ3_XXS Q2_K_S".split()


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


def test_a_part_of_the_file(folder: Path) -> None:
    code, report, out = compare(folder / "15.gguf", folder / "f32.gguf", "--tensors=attn_[qk]", "--sample=8")
    assert code == 0 and sorted(outcomes(report)) == ["blk.0.attn_k.weight", "blk.0.attn_q.weight"]
    assert {t["source"]["blocks_judged"] for t in report["tensors"] if "source" in t} == {8}
    assert "\ncompared in part: no difference in 16 of 2816 blocks, in 2 of 12 tensors\n" in out
    assert "2 of 12 tensors, in a sample of their blocks, are bit for bit what" in out
    assert "; 10 tensors and 2800 blocks in all were not compared (--tensors and --sample).\n" in out
    assert report["verdict"]["kind"] == "compared in part" and len(report["source"]["left_out"]) == 10
    again = compare(folder / "15.gguf", folder / "f32.gguf", "--tensors=attn_[qk]", "--sample=8")[1]
    for one in (report, again):
        del one["date"], one["source"]["encoded_on"]
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
