"""conform by the vectors of neighbouring systems: no false alarm, no miss, and the faults in the right words."""

import json
import subprocess
import sys

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref import neighbours as nb
from hifi_ref.conform.cases import vectors_folder
from hifi_ref.conform.command import Run, conform
from hifi_ref.conform.judge import ACCEPTABLE, BOUND, DIFFERS, EXACT
from hifi_ref.conform.neighbours.diagnose import diagnose
from hifi_ref.conform.neighbours.judge import Cell, compare
from hifi_ref.conform.neighbours.run import cell_report
from hifi_ref.conform.neighbours.vectors import dialects, read_dialect
from hifi_ref.conform.report_lines import cell_text
from hifi_ref.neighbours import hyper

FOLDER = vectors_folder()
FILES = {(f.dialect, f.scheme, f.operation): f for d in dialects(FOLDER) for f in read_dialect(FOLDER, d)}


def reference(file, vector, **other):
    """What hifi_ref answers, with other parameters."""
    given, parameters = dict(vector.given), {**vector.parameters, **other}
    if file.operation == "encode":
        return nb.encode(file.scheme, given.pop("x"), **given, **parameters)
    if file.operation == "decode":
        return {"y": nb.decode(file.scheme, given, vector.shape, **parameters)}
    if file.operation == "loss":
        return {"loss": np.array(hyper.loss(given["x"], given["y"], **parameters), np.float32)}
    return {"z": nb.matmul(file.scheme, given, given.pop("a"), **parameters)}


def judged(key, answers):
    """The cell of an implementation: answers(file, vector) -> arrays by name."""
    file = FILES[key]
    return Cell(file, tuple(compare(file.scheme, v, answers(file, v)) for v in file.vectors))


@pytest.mark.parametrize("key", [key for key in FILES if key[1] in nb.SCHEMES])
def test_the_reference_conforms(key):
    cell = judged(key, reference)
    assert set(cell.counts) <= {EXACT, BOUND} and diagnose(cell) is None


# FAULTS OF THE SYSTEMS: an implementation without them is acceptable, and said to be without


def shown(cell):
    report = cell_report(cell, "python:x")
    assert report.verdict == "conforms", report.failures
    return report


def test_bitsandbytes_without_its_wide_table():
    key = ("bitsandbytes", "bitsandbytes.int8", "encode")
    assert "WideTable" in shown(judged(key, reference)).faults
    better = shown(judged(key, lambda f, v: reference(f, v, rule="default")))
    assert "WideTable" in better.deviations and not better.faults
    assert "exact zeros become code 131, 2.1e-5 of absmax" in better.says["WideTable"]


def test_bitsandbytes_with_the_scale_of_the_weights_own_block():
    key = ("bitsandbytes", "bitsandbytes.nf4", "decode")
    better = shown(judged(key, lambda f, v: reference(f, v, rule="cpu")))
    assert better.deviations == {"ScaleOfAnotherRow": 1}
    assert "no multiple of the block" in better.says["ScaleOfAnotherRow"]


def test_bitsandbytes_with_the_right_constant():
    key = ("bitsandbytes", "bitsandbytes.llm-int8", "matmul")
    better = shown(judged(key, lambda f, v: reference(f, v, rule="cuda")))
    assert better.deviations == {"ConstantOf127": 1} and "6.200124e-05" in better.says["ConstantOf127"]


def without_byte_zero(file, vector):
    arrays = vector.without.get("ScaleByteZero")
    return reference(file, vector) if arrays is None else dict(arrays)


def test_torchao_with_a_right_scale_byte_zero():
    key = ("torchao", "mx.fp4_e2m1", "encode")
    assert "ScaleByteZero" in shown(judged(key, reference)).faults
    better = shown(judged(key, without_byte_zero))
    assert "ScaleByteZero" in better.deviations and "comes back halved" in better.says["ScaleByteZero"]


@pytest.mark.parametrize(
    "key, flag, byte",
    [
        (("modelopt", "mx.fp4_e2m1", "encode"), "NotFiniteLost", 255),
        (("mlx", "mx.fp4_e2m1", "encode"), "NotFiniteLost", 255),
        (("mlx", "mx.fp4_e2m1", "encode"), "WrappedScale", 0),
    ],
)
def test_blocks_that_are_lost(key, flag, byte):
    assert flag in shown(judged(key, reference)).faults

    def honest(file, vector):
        answer = reference(file, vector)
        return answer | {"scale": np.full_like(answer["scale"], byte)} if flag in vector.flags else answer

    better = shown(judged(key, honest))
    assert flag in better.deviations and ("NaN or an infinity" in better.says[flag] or "byte 254" in better.says[flag])


# FAULTS THAT ARE NONE OF THE SYSTEM'S: they do not conform, and are named


def named(cell, flag, words):
    assert cell.counts[DIFFERS]
    found = diagnose(cell)
    assert found is not None and found.bug == flag and words in found.says
    assert any(words in line for line in cell_text(cell_report(cell, "python:x")))


def test_the_loss_over_the_wrong_axis():
    def as_coded(file, vector):
        loss = hyper.loss_as_coded(vector.given["x"], vector.given["y"], **vector.parameters)
        return {"loss": np.array(loss, np.float32)}

    named(judged(("hyper", "hyper", "loss"), as_coded), "LossAxis", "over the blocks of a row")


def gguf(file, vector):
    """llama.cpp's blocks, decoded or multiplied rightly."""
    name = file.scheme.removeprefix("gguf.")
    w = hr.decode(name, vector.given["blocks"])
    return {"y": w.astype(np.float16)} if file.operation == "decode" else {"z": vector.given["a"] @ w.T}


@pytest.mark.parametrize("key", [key for key in FILES if key[1].startswith("gguf.")])
def test_llama_cpps_blocks_read_rightly(key):
    assert set(judged(key, gguf).counts) <= {EXACT, BOUND}


def test_interleaved_nibbles():
    def interleaved(file, vector):
        blocks = vector.given["blocks"].reshape(-1, 18)
        d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        codes = np.stack([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=-1).reshape(-1, 32).astype(np.float32) - 8
        return {"y": (d * codes).astype(np.float16).reshape(vector.shape)}

    named(judged(("web-rwkv", "gguf.Q4_0", "decode"), interleaved), "InterleavedNibbles", "2i and 2i+1")


def test_a_stride_of_36_bytes():
    def strided(file, vector):
        raw, a = vector.given["blocks"], vector.given["a"]
        padded = np.concatenate([raw.reshape(-1), np.zeros(4096, np.uint8)])
        rows, blocks = raw.shape[0], raw.shape[1] // 34
        starts = np.arange(rows * blocks) * 36
        d = padded[starts[:, None] + np.arange(2)].view(np.float16).astype(np.float32)
        codes = padded[starts[:, None] + 4 + np.arange(32)].view(np.int8).astype(np.float32)
        with np.errstate(invalid="ignore"):
            return {"z": a @ (d * codes).reshape(rows, -1).T}

    cell = judged(("web-rwkv", "gguf.Q8_0", "matmul"), strided)
    named(cell, "StrideOf36", "36 bytes apart")


@pytest.mark.parametrize(
    "name, flag, words",
    [
        ("Q6_K", "TruncatedBase", "210 i"),
        ("Q8_0", "DivergentBarrier", "barrier"),
        ("Q5_K", "DivergentBarrier", "barrier"),
    ],
)
def test_what_the_forks_kernels_give(name, flag, words):
    cell = judged(("web-rwkv", f"gguf.{name}", "matmul"), lambda file, vector: dict(vector.faulty[flag]))
    named(cell, flag, words)


# PATTERNS


@pytest.mark.parametrize(
    "key, answers, words",
    [
        (("torchao", "mx.fp4_e2m1", "encode"), lambda f, v: reference(f, v, rule="ceil"), "rule='ceil'"),
        (("hyper", "hyper", "encode"), lambda f, v: reference(f, v, group_last=False), "group_last=False"),
        (
            ("web-rwkv", "web-rwkv.nf4", "encode"),
            lambda f, v: {k: a << 4 | a >> 4 if k == "codes" else a for k, a in reference(f, v).items()},
            "nibbles of each byte",
        ),
        (
            ("mlx", "mlx.affine", "decode"),
            lambda f, v: {"y": np.nextafter(reference(f, v)["y"], np.float32(9))},
            "last place",
        ),
        (("hqq", "hqq", "decode"), lambda f, v: {"y": reference(f, v)["y"] * 2}, None),
    ],
)
def test_other_mistakes(key, answers, words):
    found = diagnose(judged(key, answers))
    assert found is None if words is None else words in found.says


def test_an_answer_of_another_size_or_without_an_array():
    file = FILES["mlx", "mlx.affine", "encode"]
    answer = reference(file, file.vectors[0])
    assert "and no biases" in compare(file.scheme, file.vectors[0], {k: answer[k] for k in ("codes", "scales")}).detail
    assert "values of codes" in compare(file.scheme, file.vectors[0], answer | {"codes": answer["codes"][:1]}).detail


def test_an_answer_without_a_fault_but_wrong_elsewhere_differs():
    file = FILES["bitsandbytes", "bitsandbytes.int8", "encode"]
    vector = next(v for v in file.vectors if v.without)
    answer = reference(file, vector, rule="default")
    assert compare(file.scheme, vector, answer).outcome == ACCEPTABLE
    codes = answer["codes"].copy()
    codes.reshape(-1)[0] ^= 1
    assert compare(file.scheme, vector, {**answer, "codes": codes}).outcome == DIFFERS


# THE COMMAND


def test_the_command_judges_this_package(tmp_path):
    report = conform(Run("python:hifi_ref.neighbours", dialect="modelopt"))
    assert report.conforms and report.vectors["cases"] == sum(
        len(f.vectors) for k, f in FILES.items() if k[0] == "modelopt"
    )
    words = [sys.executable, "-m", "hifi_ref.conform", "python:hifi_ref.neighbours", "--dialect=modelopt"]
    out = tmp_path / "report.json"
    done = subprocess.run([*words, f"--json={out}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "conforms; with the known faults of its system: NotFiniteLost" in done.stdout
    assert json.loads(out.read_text())["conforms"]
    done = subprocess.run([*words, "--formats=Q4_0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "has no vectors of 'Q4_0'" in done.stderr
    done = subprocess.run([*words, "--level=2"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--level=2" in done.stderr
