"""quantize: what it writes is sound and reproduced by check, and bad input leaves nothing behind."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.formats.hifi import transcode
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.quantize import command as quantize
from hifi_ref.quantize import write
from tests.hostile import build, run_check

SHAPES = {
    "token_embd.weight": (256, 16), "output_norm.weight": (256,), "output.weight": (256, 16),
    "blk.0.attn_q.weight": (256, 8), "blk.0.attn_v.weight": (256, 8), "blk.0.ffn_down.weight": (512, 4),
    "blk.0.ffn_gate_exps.weight": (256, 2, 2), "blk.0.attn_k.weight": (96, 4),
}  # fmt: skip
METADATA = [
    ("general.architecture", 8, b"llama"), ("general.file_type", 4, 1), ("llama.block_count", 4, 1),
    ("llama.embedding_length", 4, 256), ("llama.feed_forward_length", 4, 512),
]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    tensors = []
    for name, shape in SHAPES.items():
        x = rng.standard_t(3, shape[::-1]).astype(np.float16 if "attn" in name else np.float32)
        tensors.append((name, int(x.dtype == np.float16), shape, x.tobytes()))
    path = tmp_path / "source.gguf"
    path.write_bytes(build(tensors, METADATA))
    return path


@pytest.fixture
def imatrix(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    out = struct.pack("<i", 2)
    for name, n in (("blk.0.attn_q.weight", 256), ("blk.0.ffn_gate_exps.weight", 512)):
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, n)
        out += rng.lognormal(0, 2, n).astype("<f4").tobytes()
    path = tmp_path / "importance.dat"
    path.write_bytes(out)
    return path


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.type_name for tensor in open_gguf(path).tensors}


@pytest.mark.parametrize(
    "flag", ["--hifi", "--type=Q4_K", "--type=Q6_K_HIFI_RES8", "--type=Q2_K_LITE", "--fork=Q4_K_HIFI"]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_check_reproduces_the_file(flag: str, weighted: bool, source: Path, imatrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    own = [f"--imatrix={imatrix}"] if weighted else []
    assert quantize.main([flag, "--quiet", *own, str(source), str(out)]) == 0
    code, out_text, err = run_check(str(out), f"--source={source}", "--ignore=L", *own)
    assert (code, err) == (0, ""), out_text
    assert "\nreproduced: every block of every tensor" in out_text
    assert types(out)["output_norm.weight"] == "F32" and types(out)["blk.0.attn_k.weight"] != "Q4_K"


def test_what_is_written(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.gguf"
    assert quantize.main(["--type=Q4_K", str(source), str(out)]) == 0
    assert "blk.0.attn_k.weight: F16 -> Q5_0" in capsys.readouterr().out
    gguf, floats = open_gguf(out), open_gguf(source)
    assert gguf.metadata["general.file_type"].scalar == 14
    assert gguf.text("general.architecture") == "llama" and gguf.metadata["general.quantization_version"].scalar == 2
    at = [tensor.name for tensor in gguf.tensors].index("blk.0.ffn_down.weight")
    x = np.frombuffer(floats.data, "<f4", 2048, floats.tensors[at].start).reshape(4, 512)
    assert np.array_equal(gguf.blocks(gguf.tensors[at]).reshape(4, -1), hr.encode("Q4_K", x))
    assert quantize.main(["--fork=Q4_K_HIFI", "--quiet", str(source), str(out)]) == 0
    fork = open_gguf(out)
    assert fork.metadata["general.file_type"].scalar == 44 and fork.dialect == "hifi-lite"
    assert types(out)["output.weight"] == "Q5_K_HIFI_RES8"


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--type=Q9", "S", "O"], "no format is called 'Q9'"),
        (["--fork=Q9", "S", "O"], "no file type 'Q9'"),
        (["S", "O"], "one of --hifi, --type, --mixture, --fork, --copy, --target-size and --target-bpw is needed"),
        (["--hifi", "--type=Q4_K", "S", "O"], "one of --hifi"),
        (["--type=Q4_K", "S"], "1 paths are given"),
        (["--type=Q4_K", "S", "S"], "is the source itself"),
        (["--type=Q4_HIFI", "S", "O"], "has no number in GGUF"),
        (["--type=IQ2_XXS", "S", "O"], "cannot be encoded without importance"),
        (["--type=Q4_K", "missing.gguf", "O"], "missing.gguf: No such file"),
        (["--type=Q4_K", "--imatrix=S", "S", "O"], "no in_sum2|imatrix|general.type"),
        (["--type=Q4_K", "S", "no/folder/out.gguf"], "No such file"),
        (["--nothing", "S", "O"], "Unknown command line flag"),
    ],
)
def test_wrong_usage(arguments: list[str], messages: str, source: Path, tmp_path: Path,
                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    out = tmp_path / "out.gguf"
    places = {"S": str(source), "O": str(out), "--imatrix=S": f"--imatrix={source}"}
    before = sorted(tmp_path.iterdir())
    assert quantize.main([places.get(a, a) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("hifi_ref.quantize: ") and err.count("\n") == 1
    assert any(part in err for part in messages.split("|"))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_the_largest_magnitude(kind: str) -> None:
    narrow = {"F32": exact.bits, "F16": exact.narrow_f16, "BF16": exact.narrow_bf16}[kind]
    for values in ([1, -3, 2], [-3, -1, -2], [1, 3, -2], [3, 2, 1], [-0.0, 0], [0, 0], [-0.0, -0.0]):
        x = np.array(values, np.float32)
        assert write.Stored(kind, narrow(x)).largest() == narrow(abs(x).max(keepdims=True))[0]
    for other in (np.inf, -np.inf, np.nan, -np.nan):
        assert write.Stored(kind, narrow(np.array([1, other, -2], np.float32))).largest() >= write.EXPONENT[kind]
    assert write.HARMLESS[kind] == narrow(np.array([2.0**14], np.float32))[0]


@pytest.mark.parametrize(("type_id", "dtype"), [(0, np.float32), (1, np.float16)])
def test_a_weight_that_is_not_finite(
    type_id: int, dtype: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.ones((2, 256), dtype)
    x[1, 3] = -np.inf
    source = tmp_path / "source.gguf"
    source.write_bytes(build([("blk.0.attn_q.weight", type_id, (256, 2), x.tobytes())], METADATA))
    (tmp_path / "out.gguf").write_text("kept")
    assert quantize.main(["--type=Q4_K", str(source), str(tmp_path / "out.gguf")]) == 2
    assert "weight 259 of tensor blk.0.attn_q.weight is not finite" in capsys.readouterr().err
    assert (tmp_path / "out.gguf").read_text() == "kept" and len(list(tmp_path.iterdir())) == 2


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(["--help"]) == 0
    assert "exit codes:" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, f in hr.FORMATS.items() if f.dialect == "hifi"])
def test_a_tensor_split_for_a_gpu_is_the_same_tensor(name: str) -> None:
    """Base and sparse correction: every weight, and dot(HIFI) = dot(base) + correction."""
    rng = np.random.default_rng(3)
    w = hr.encode(name, rng.standard_t(3, (4, 512)).astype(np.float32))
    a = hr.encode("Q8_K", rng.standard_normal(512).astype(np.float32))
    parts = transcode.split(name, w)
    values = hr.decode(parts.base, parts.blocks)
    values[parts.rows, parts.positions] += parts.values
    right = hr.decode(name, w)
    assert np.array_equal(values, right) and 0 < len(parts.values) <= 16 * 8
    activations = hr.decode("Q8_K", a)
    whole = hr.dot(parts.base, parts.blocks, a) + transcode.correction(parts, activations)
    assert np.allclose(whole, right.astype(np.float64) @ activations.astype(np.float64), rtol=1e-5, atol=1e-4)


def test_only_formats_with_outliers_are_split() -> None:
    with pytest.raises(ValueError, match="Q4_K is no format with outliers"):
        transcode.split("Q4_K", np.zeros((1, 144), np.uint8))
    with pytest.raises(ValueError, match="whole blocks of Q4_K_HIFI"):
        transcode.split("Q4_K_HIFI", np.zeros((1, 144), np.uint8))


def test_odd_names_and_an_empty_tensor_are_kept(tmp_path: Path) -> None:
    x = np.ones((2, 256), np.float32)
    tensors = [("blk.0.\x1battn_q.weight", 0, (256, 2), x.tobytes()), ("blk.0.attn_k.weight", 0, (256, 0), b"")]
    path, out = tmp_path / "source.gguf", tmp_path / "out.gguf"
    path.write_bytes(build(tensors, METADATA))
    assert quantize.main(["--type=Q4_0", str(path), str(out)]) == 0
    written = open_gguf(out)
    assert [written.raw_name(t) for t in written.tensors] == [b"blk.0.\x1battn_q.weight", b"blk.0.attn_k.weight"]
    assert [(t.type_name, t.elements) for t in written.tensors] == [("Q4_0", 512), ("Q4_0", 0)]
