"""--mixture writes the release's own file, byte for byte."""

from __future__ import annotations

import random
from pathlib import Path

import gguf
import numpy as np
import pytest

from hifi_ref.check.command import check_file
from hifi_ref.mixtures.llama_quantize import file_types
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.quantize import command as quantize
from reference import quantizer
from tests import sources
from tests.check import rewrite
from tests.loading import models as tiny
from tests.mixtures import models
from tools import make_sample


def source_of(folder: Path, architecture: str, layers: int, experts: int, kinds: str, odd: int) -> Path:
    """A small model with made weights, in three kinds of floats; its metadata hold every kind of value."""
    described = tiny.Model(models.metadata(architecture, layers, 8, 2, experts) | tiny.vocabulary("gpt2"))
    described.keys["general.quantization_version"] = ("u32", 1)
    described.keys["general.numbers"] = ("[f64]", [1.5, 2.5])
    header = described.write(folder / "header.gguf")
    content = rewrite.read(header)
    names = [f"blk.{i}.{name}.weight" for i in reversed(range(layers)) for name in models.LAYERS[kinds]]
    draw, tensors = random.Random(architecture), {}
    for seed, name in enumerate(["output.weight", "token_embd.weight", "output_norm.weight", *names]):
        stacked = (2,) if "*" in name else ()
        row = odd if name.startswith("blk.1.ffn_down") else 256
        x = make_sample.made_weights(seed, *stacked, 3, row)
        tensors[name.replace("*", "")] = np.ones(256, np.float32) if "norm" in name else x
    # Of one row only: the release takes it for a list of numbers.
    tensors["cls.weight"] = make_sample.made_weights(99, 1, 256)
    for name, x in tensors.items():
        kind = draw.choice([gguf.GGMLQuantizationType[k] for k in ("F32", "F16", "BF16")]) if x.ndim > 1 else 0
        data = gguf.quants.quantize(x, gguf.GGMLQuantizationType(kind))
        content.tensors[name] = (data, gguf.GGMLQuantizationType(kind))
    return rewrite.write(folder / "source.gguf", content)


def importance_of(source: Path, path: Path) -> dict[str, np.ndarray]:
    """Importance for all tensors but one, written as llama-imatrix does; the rows as they are read again."""
    rng = np.random.default_rng(3)
    shapes = {t.name: t.shape for t in open_gguf(source).tensors if len(t.shape) > 1}
    rows = {n: rng.lognormal(0, 1, s[0] * (s[2] if len(s) > 2 else 1)).astype(np.float32) for n, s in shapes.items()}
    del rows["token_embd.weight"]
    path.write_bytes(sources.dat_imatrix(rows))
    return read_imatrix(path).rows


LLAMA, EXPERTS = ("llama", 3, 0, "dense", 96), ("qwen3moe", 2, 8, "experts", 256)
OF_EXPERTS = ("F16", "IQ3_XXS", "IQ4_XS", "MXFP4_MOE", "Q2_K", "Q3_K_L", "Q4_K_M", "Q5_0", "Q8_0")


@pytest.mark.parametrize(
    ("name", "described"),
    [*((name, LLAMA) for name in sorted(file_types())), *((name, EXPERTS) for name in OF_EXPERTS)],
)
def test_every_file_type_byte_for_byte(tmp_path: Path, name: str, described: tuple[str, int, int, str, int]) -> None:
    source = source_of(tmp_path, *described)
    matrix, number = tmp_path / "importance.dat", file_types()[name]
    rows = importance_of(source, matrix)
    keys = {"quantize.imatrix.file": str(matrix)[:127], "quantize.imatrix.dataset": "wiki.train.raw"}
    keys |= {"quantize.imatrix.entries_count": len(rows), "quantize.imatrix.chunks_count": 7}
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    for weighted in (False, True):
        answer = quantizer.quantize(source, theirs, number, rows if weighted else None, keys if weighted else None)
        flags = [f"--imatrix={matrix}"] if weighted else []
        code = quantize.main([f"--mixture={name}", "--quiet", *flags, str(source), str(ours)])
        assert code == (2 if answer.problem else 0), answer.problem
        assert answer.problem or ours.read_bytes() == theirs.read_bytes()


def test_names_that_are_no_formats_are_types_as_well(tmp_path: Path) -> None:
    source = source_of(tmp_path, "llama", 2, 0, "dense", 256)
    for flag in ("--type=Q4_K_M", "--mixture=Q4_K_M"):
        assert quantize.main([flag, "--quiet", str(source), str(tmp_path / f"{flag[2:6]}.gguf")]) == 0
    assert (tmp_path / "type.gguf").read_bytes() == (tmp_path / "mixt.gguf").read_bytes()


def test_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = source_of(tmp_path, "llama", 2, 0, "dense", 256), tmp_path / "out.gguf"
    content = rewrite.read(source)
    content.metadata["general.alignment"] = (64, gguf.GGUFValueType.UINT32, None)
    aligned = rewrite.write(tmp_path / "aligned.gguf", content)
    content.metadata["general.name"] = ("a\0b", gguf.GGUFValueType.STRING, None)
    del content.metadata["general.alignment"]
    cut = rewrite.write(tmp_path / "cut.gguf", content)
    assert not quantizer.quantize(cut, tmp_path / "cut off.gguf", 15).problem
    assert rewrite.read(tmp_path / "cut off.gguf").metadata["general.name"][0] == "a"
    # What the release makes of another alignment cannot be read.
    assert not quantizer.quantize(aligned, tmp_path / "broken.gguf", 15).problem
    assert check_file(tmp_path / "broken.gguf").verdict.kind == "broken"
    for flag, path, wanted in [
        (
            "--mixture=IQ2_XXS",
            source,
            "llama-quantize does not write IQ2_XXS without importance, and there is none for",
        ),
        ("--mixture=NVFP4", source, "llama-quantize has no file type 'NVFP4'; there are"),
        ("--mixture=Q4_K_M", cut, "general.name has a text with a NUL byte, at which llama-quantize cuts it off"),
        ("--mixture=Q4_K_M", aligned, "its alignment is 64, by which llama-quantize writes broken files"),
    ]:
        assert quantize.main([flag, str(path), str(out)]) == 2
        assert wanted in capsys.readouterr().err and not out.exists()
