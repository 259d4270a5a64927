"""What the converter was not run for: its options, older converters, other files of a folder, and hostile tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.hugging_face.classes import ARCHITECTURES, CLASSES, family_of
from hifi_ref.model_files.hugging_face.families import FAMILIES
from hifi_ref.model_files.hugging_face.names import further_layer
from hifi_ref.model_files.source import NotKnown, Source, open_source
from tests import checkpoints, converted, sources
from tests.checkpoint_models import CHECKPOINTS
from tests.hostile import build


def target(path: Path, arch: str, *names: str, metadata: tuple = ()) -> Path:
    """A file of these tensors, each of one row of zeros."""
    tensors = [(name, 0, (32, 1), bytes(128)) for name in names]
    path.write_bytes(build(tensors, [("general.architecture", 8, arch.encode()), *metadata]))
    return path


def opened(tmp_path: Path, name: str, arch: str, *names: str) -> Source:
    folder = checkpoints.write(tmp_path / "checkpoint", name, CHECKPOINTS[name])
    return open_source(folder, open_gguf(target(tmp_path / "target.gguf", arch, *names)))


def numbers(source: Source, name: str) -> np.ndarray:
    weights = source.find(name)
    assert weights is not None
    return weights.rows(slice(None)).reshape(*reversed(weights.shape))


def test_every_class_is_of_a_family() -> None:
    assert set(CLASSES) == set(FAMILIES) and set(ARCHITECTURES) <= set(FAMILIES)
    classes = [name for names in CLASSES.values() for name in names.split()]
    assert len(classes) == len(set(classes))
    assert family_of("LlamaForCausalLM", "mistral3") == "llama" and family_of("", "olmo") == "llama weights"
    assert family_of("Rwkv7ForCausalLM", "rwkv7") is None and family_of("", "bert") is None


def test_the_options_that_fuse(tmp_path: Path) -> None:
    """--fuse-qkv and --fuse-gate-up-exps put parts below each other, of each expert its own."""
    apart = opened(tmp_path, "qwen3moe", "qwen3moe")
    parts = [numbers(apart, f"blk.0.attn_{part}.weight") for part in "qkv"]
    gate, up = (numbers(apart, f"blk.0.ffn_{part}_exps.weight") for part in ("gate", "up"))
    fused = opened(tmp_path, "qwen3moe", "qwen3moe", "blk.0.attn_qkv.weight", "blk.0.ffn_gate_up_exps.weight")
    assert np.array_equal(numbers(fused, "blk.0.attn_qkv.weight"), np.concatenate(parts))
    assert np.array_equal(numbers(fused, "blk.0.ffn_gate_up_exps.weight"), np.concatenate([gate, up], axis=1))
    assert not {"blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"} & set(fused.names)
    assert "blk.1.attn_q.weight" in fused.names
    biased = opened(tmp_path, "qwen2", "qwen2", "blk.0.attn_qkv.weight")
    assert numbers(biased, "blk.0.attn_qkv.bias").shape == (checkpoints.WIDTH + 2 * checkpoints.NARROW,)
    folder = tmp_path / "checkpoint"
    narrow = {"model.layers.0.self_attn.v_proj.weight": ("BF16", (32, 2), bytes(128))}
    tensors = dict(checkpoints.tensors("qwen2", CHECKPOINTS["qwen2"])) | narrow
    (folder / "model.safetensors").write_bytes(sources.safetensors(tensors))
    unlike = open_source(folder, open_gguf(tmp_path / "target.gguf"))
    assert unlike.find("blk.0.attn_qkv.weight") is None and "blk.0.attn_q.weight" in unlike.names
    already = opened(tmp_path, "qwen3moe stacked", "qwen3moe", "blk.0.ffn_gate_up_exps.weight")
    whole = checkpoints.EXPERTS, 2 * checkpoints.INNER, checkpoints.WIDTH
    assert numbers(already, "blk.0.ffn_gate_up_exps.weight").shape == whole


def test_what_a_file_may_lack(tmp_path: Path) -> None:
    """Layers that predict further tokens, and latent attention as older converters left it."""
    names = set(opened(tmp_path, "qwen3next", "qwen3next", "blk.0.attn_norm.weight").names)
    assert not any(name.startswith("blk.2.") for name in names) and "blk.1.attn_norm.weight" in names
    apart = set(opened(tmp_path, "deepseek2", "deepseek2", "blk.0.attn_k_b.weight").names)
    assert "blk.0.attn_v_b.weight" in apart and "blk.0.attn_kv_b.weight" not in apart
    whole = opened(tmp_path, "deepseek2", "deepseek2", "blk.0.attn_kv_b.weight")
    assert "blk.0.attn_kv_b.weight" in whole.names and "blk.0.attn_k_b.weight" not in whole.names
    assert further_layer("mtp.layers.1.mlp.up_proj.weight", 7) == "model.layers.8.mlp.up_proj.weight"


def test_folders_without_an_index(tmp_path: Path) -> None:
    """Shards by their names; and files of Mistral, whose rows stand as llama.cpp takes them."""
    every = dict(checkpoints.tensors("mistral", CHECKPOINTS["mistral"]))
    names = list(every)
    for i, part in enumerate((names[:7], names[7:])):
        path = tmp_path / f"model-0000{i + 1}-of-00002.safetensors"
        path.write_bytes(sources.safetensors({name: every[name] for name in part}))
    empty = open_gguf(target(tmp_path / "t.gguf", "llama", metadata=(("llama.attention.head_count", 4, 4),)))
    assert len(open_source(tmp_path, empty).names) == len(names)
    mistral = tmp_path / "mistral"
    mistral.mkdir()
    query = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)
    tensor = {"layers.0.attention.wq.weight": sources.as_dtype(query, "F32")}
    (mistral / "consolidated.safetensors").write_bytes(sources.safetensors(tensor))
    assert np.array_equal(numbers(open_source(mistral, empty), "blk.0.attn_q.weight"), query)


def test_architectures_that_gguf_py_does_not_know(tmp_path: Path) -> None:
    """Names are then those of any architecture that the file has; what is not known of them is in doubt."""
    source = opened(tmp_path, "mistral", "unheard-of", "blk.0.attn_v.weight", "token_embd.weight")
    assert sorted(source.names) == ["blk.0.attn_v.weight", "token_embd.weight"]
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    source = open_source(tmp_path / "checkpoint", open_gguf(tmp_path / "target.gguf"))
    weights = source.find("token_embd.weight")
    assert weights is not None and "the architecture unheard-of, for which there is no config.json" in weights.doubt
    with pytest.raises(NotKnown, match="not known here"):
        source.find("blk.0.attn_norm.weight")


def test_experts_that_are_not_all_there(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "checkpoint", "mixtral", CHECKPOINTS["mixtral"])
    tensors = dict(checkpoints.tensors("mixtral", CHECKPOINTS["mixtral"]))
    del tensors["model.layers.0.block_sparse_moe.experts.1.w1.weight"]
    tensors["model.layers.0.block_sparse_moe.experts.2.w2.weight"] = ("BF16", (2, 2), bytes(8))
    (folder / "model.safetensors").write_bytes(sources.safetensors(tensors))
    source = open_source(folder, open_gguf(target(tmp_path / "t.gguf", "llama")))
    for name, why in (("gate", "the source lacks number 1 of "), ("down", "have different shapes")):
        with pytest.raises(NotKnown, match=why):
            source.find(f"blk.0.ffn_{name}_exps.weight")
    assert source.find("blk.0.ffn_up_exps.weight") is not None


PACKED = ["llama fp8", "llama compressed", "llama packed", "llama gptq", "gpt_oss mxfp4"]


@pytest.mark.parametrize("name", PACKED)
def test_parts_of_packed_weights_that_do_not_fit(tmp_path: Path, name: str) -> None:
    """Whatever is wrong with one of their tensors ends in a sentence about that weight, or in other weights."""
    folder = checkpoints.write(tmp_path / "checkpoint", name, CHECKPOINTS[name])
    whole = dict(checkpoints.tensors(name, CHECKPOINTS[name]))
    empty = open_gguf(converted.write(tmp_path / "t.gguf", name, "f32", lambda tensor, kind, shape: None))
    raw = [tensor for tensor in CHECKPOINTS[name].raw if tensor.startswith("model.layers.0.")][:9]
    others: list[tuple[str, tuple[int, ...], bytes] | None] = [
        None, ("F32", (), bytes(4)), ("I32", (3,), b"\xff" * 12), ("U8", (2, 2), bytes(4)), ("F16", (1, 0), b""),
        ("I64", (2,), b"\xff" * 7 + b"\x7f" * 9), ("I32", (64, 8), b"\xff" * 2048), ("U8", (3, 64, 2, 16), bytes(6144)),
    ]  # fmt: skip
    sentences = 0
    for tensor in raw:
        for other in others:
            changed = whole | {tensor: other} if other else {n: x for n, x in whole.items() if n != tensor}
            (folder / "model.safetensors").write_bytes(sources.safetensors(changed))
            source = open_source(folder, empty)
            for found in converted.FACTS[name]["f32"]["tensors"]:
                try:
                    weights = source.find(found)
                except NotKnown as error:
                    sentences += 1
                    assert "\n" not in str(error)
                else:
                    assert weights is None or weights.rows(slice(0, 2)).ndim == 2
    assert sentences > len(raw)


@pytest.mark.parametrize("name", ["deepseek2", "falcon", "gpt_oss", "internlm2", "phi3", "qwen35", "gemma3"])
def test_configurations_that_do_not_fit(tmp_path: Path, name: str) -> None:
    """Any number of config.json may be another: then tensors are not known, or of another shape."""
    checkpoint = CHECKPOINTS[name]
    folder = checkpoints.write(tmp_path / "checkpoint", name, checkpoint)
    empty = open_gguf(converted.write(tmp_path / "t.gguf", name, "f32", lambda tensor, kind, shape: None))
    for key in checkpoint.config:
        for value in (0, 3, 10**30, "x", [1], {"rope_type": "llama3"}):
            (folder / "config.json").write_text(json.dumps(checkpoint.config | {key: value}))
            source = open_source(folder, empty)
            for found in converted.FACTS[name]["f32"]["tensors"]:
                try:
                    weights = source.find(found)
                except NotKnown:
                    continue
                assert weights is None or weights.rows(slice(0, 2)).ndim == 2
