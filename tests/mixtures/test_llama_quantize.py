"""The choice of types is the release's own; tests.mixtures.asked asks about every architecture."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.mixtures import llama_quantize, model, rules
from hifi_ref.mixtures.llama_quantize import Options, Refused, choose, file_types
from hifi_ref.mixtures.model import Model, NotDescribed
from hifi_ref.model_files.gguf_file import open_gguf
from reference import quantizer
from reference.quantizer import Question, chosen_types
from tests.loading import models as tiny
from tests.mixtures import asked, models

# Those with rules of their own, and others: fused, of experts, latent, recurrent, encoders, and a projector.
ARCHITECTURES = ("llama", "falcon", "bailingmoe3", "qwen2", "qwen3moe", "phi3", "gemma2", "bert", "deepseek2", "mamba",
                 "jais2", "nanbeige", "graniteswitch", "t5", "clip")  # fmt: skip
# One of each kind, without those whose grids take the release seconds: tests of check write them all.
WRITTEN = ("F16", "Q4_0", "Q5_1", "Q8_0", "Q2_K_S", "Q4_K_M", "IQ4_NL", "TQ1_0", "MXFP4_MOE", "Q1_0")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_type_is_the_releases(architecture: str, tmp_path: Path) -> None:
    draw = random.Random(architecture)
    every = sorted(file_types())
    drawn = list(asked.cases(tmp_path, draw, [architecture], 3, draw.sample(every, 12)))
    found = asked.compared(drawn)
    assert found.differences == []
    assert found.types > 200


@pytest.mark.parametrize("heads", [3, 4])
def test_more_bits_for_grouped_attention_many_layers_and_eight_experts(tmp_path: Path, heads: int) -> None:
    cases = []
    for layers, experts in ((8, 0), (32, 8), (80, 0)):
        made = tiny.Model(models.metadata("llama", layers, heads, 1, experts))
        shapes = {f"blk.{i}.{name}.weight": (256, 2) for i in range(layers) for name in models.DENSE}
        made.tensors = {name: (shape, "F16") for name, shape in shapes.items()}
        path = made.write(tmp_path / f"{layers}-{experts}.gguf")
        cases += [asked.Case(path, made, name, bool(i % 2), Options()) for i, name in enumerate(sorted(file_types()))]
    found = asked.compared(cases)
    assert found.differences == [] and found.refusals == 0
    assert found.types == 35 * 7 * (8 + 32 + 80)


def test_what_is_written_is_what_was_asked(tmp_path: Path) -> None:
    """Types read from files that the release wrote; and it asks for importance where ours does."""
    small = tiny.Model(models.metadata("llama", 3))
    names = [f"blk.{i}.{name}" for i in range(3) for name in models.DENSE]
    small.tensors = {f"{name}.weight": ((256, 2), "F32") for name in ("token_embd", "output", *names)}
    small.tensors["output_norm.weight"] = ((256,), "F32")
    source = small.write(tmp_path / "source.gguf")
    gguf = open_gguf(source)
    shapes = {tensor.name: tensor.shape for tensor in gguf.tensors}
    importance = {name: np.ones(256, np.float32) for name in shapes}
    for name in WRITTEN:
        number = file_types()[name]
        for rows in (None, importance):
            out = tmp_path / "out.gguf"
            problem = quantizer.quantize(source, out, number, rows).problem
            chosen = choose(name, model.read(gguf), shapes, rows is not None)
            needed = [t for t, kind in chosen.items() if kind and llama_quantize.needs_importance(name, t, kind)]
            assert bool(problem) == (rows is None and bool(needed)), (name, problem)
            if not problem:
                written = open_gguf(out).tensors
                assert [(t.name, t.type_name) for t in written] == [(t, kind or "F32") for t, kind in chosen.items()]


def test_what_it_stops_at(tmp_path: Path) -> None:
    described = Model("llama", 4, experts=8)
    for file_type, shapes, wanted in [
        ("NVFP4", {}, "llama-quantize offers no file type NVFP4"),
        ("Q1_0", {"blk.0.attn_q.weight": (96, 2)}, "Q1_0 does not fit rows of 96 in blk.0.attn_q.weight, and no type"),
        ("Q4_K_M", {"ffn_down.weight": (256, 2)}, "the name ffn_down.weight says no layer from 0 to 3"),
        ("Q4_K_M", {"blk.4.ffn_up.weight": (256, 2)}, "the name blk.4.ffn_up.weight says no layer from 0 to 3"),
    ]:
        with pytest.raises(Refused, match=wanted):
            choose(file_type, described, shapes)
    path = tiny.Model({"general.architecture": ("string", "llama")}).write(tmp_path / "bare.gguf")
    with pytest.raises(NotDescribed, match="the metadata have no number of layers, llama.block_count"):
        model.read(open_gguf(path))
    assert chosen_types([Question(str(path), 15)])[0].problem


def test_numbers_of_a_model(tmp_path: Path) -> None:
    """Heads may be lists of one number a layer, of which the first counts."""
    for heads, key_heads, grouped in [
        (8, 2, 4),
        ([6, 8], [3, 8], 2),
        ([8, 8], [0, 8], 0),
        (8, None, 1),
        (None, None, 0),
    ]:
        path = tiny.Model(models.metadata("llama", 2, heads, key_heads)).write(tmp_path / "m.gguf")
        assert model.read(open_gguf(path)) == Model("llama", 2, 0, grouped, False)


def test_the_order_is_by_layer_then_by_bytes() -> None:
    names = ["token_embd.weight", "blk.10.a", "blk.2.b", "blk.2.a", "output.weight", "blk.2.é", "Z"]
    assert llama_quantize.in_order(names) == [
        "Z",
        "output.weight",
        "token_embd.weight",
        *names[3:1:-1],
        "blk.2.é",
        "blk.10.a",
    ]
    assert rules.kind_of("blk.0.attn_qkv.weight") == "attn_v"
