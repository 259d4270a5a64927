"""`check --source` with checkpoints of transformers: what comes of them is reproduced, what was changed is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.quantize.command import main
from reference import fetch
from tests import checkpoints, converted, sources
from tests.check.helpers import compare, different
from tests.checkpoint_models import CHECKPOINTS
from tools import make_sample

Q4_0, Q8_0 = 2, 7
BY_THE_RELEASE = ("llama", "mixtral", "qwen3moe", "gemma3", "deepseek2")
QUANTIZED_HERE = ("phi3", "gemma2 f16", "falcon", "gpt_oss", "llama4", "internlm2", "llama fp8", "llama gptq", "mamba")


def findings(report: dict) -> list[tuple[str, str | None]]:
    return [(f["code"], f["tensor"]) for f in report["findings"] if f["code"][0] == "E"]


@pytest.mark.parametrize("name", BY_THE_RELEASE)
def test_what_the_release_makes_of_a_converted_file_is_reproduced(tmp_path: Path, name: str) -> None:
    model, out = converted.as_converted(tmp_path, name), tmp_path / "q.gguf"
    for file_type in (Q4_0, Q8_0):
        assert make_sample.quantize(fetch.library_dir(), model, out, file_type, 1, weighted=False) == 0
        code, report, text = compare(out, tmp_path / "checkpoint")
        assert (code, report["verdict"]["kind"], different(report)) == (0, "reproduced", {}), text


@pytest.mark.parametrize("name", QUANTIZED_HERE)
def test_what_is_quantized_here_is_reproduced(tmp_path: Path, name: str) -> None:
    model, out = converted.as_converted(tmp_path, name), tmp_path / "q.gguf"
    assert main(["--type=Q8_0", "--quiet", str(model), str(out)]) == 0
    code, report, text = compare(out, tmp_path / "checkpoint")
    assert (code, report["verdict"]["kind"], different(report)) == (0, "reproduced", {}), text


@pytest.mark.parametrize(("name", "outtype"), [("qwen3moe", "f16"), ("qwen3moe", "bf16"), ("gpt_oss mxfp4", "f32")])
def test_converted_files_themselves_are_reproduced(tmp_path: Path, name: str, outtype: str) -> None:
    model = converted.as_converted(tmp_path, name, outtype)
    assert compare(model, tmp_path / "checkpoint")[1]["verdict"]["kind"] == "reproduced"


def rewritten(folder: Path, name: str, change: dict) -> None:
    """The checkpoint with other tensors in the place of some."""
    tensors = dict(checkpoints.tensors(name, CHECKPOINTS[name])) | change
    (folder / "model.safetensors").write_bytes(sources.safetensors(tensors))


def test_changes_are_found(tmp_path: Path) -> None:
    """One weight changed, two experts exchanged, the norms of another model: each at its tensor alone."""
    model, folder = converted.as_converted(tmp_path, "mixtral"), tmp_path / "checkpoint"
    tensors = dict(checkpoints.tensors("mixtral", CHECKPOINTS["mixtral"]))
    value = "model.layers.0.self_attn.v_proj.weight"
    dtype, shape, data = tensors[value]
    rewritten(folder, "mixtral", {value: (dtype, shape, data[:10] + bytes([data[10] ^ 1]) + data[11:])})
    assert findings(compare(model, folder)[1]) == [("E010", "blk.0.attn_v.weight")]
    first, second = (f"model.layers.1.block_sparse_moe.experts.{i}.w3.weight" for i in (0, 2))
    rewritten(folder, "mixtral", {first: tensors[second], second: tensors[first]})
    assert findings(compare(model, folder)[1]) == [("E001", "blk.1.ffn_up_exps.weight")]
    norm = "model.layers.1.input_layernorm.weight"
    rewritten(folder, "mixtral", {norm: tensors["model.norm.weight"]})
    assert findings(compare(model, folder)[1]) == [("E001", "blk.1.attn_norm.weight")]


@pytest.mark.parametrize(("name", "other"), [("olmo", "Olmo2ForCausalLM"), ("qwen3", "LlamaForCausalLM")])
def test_rows_permuted_where_the_converter_does_not_are_found(tmp_path: Path, name: str, other: str) -> None:
    """A file that was converted as another class would be; and as its own class, it is as the converter writes it."""
    model, folder = converted.as_converted(tmp_path, name), tmp_path / "checkpoint"
    assert different(compare(model, folder)[1]) == {}
    config = json.loads((folder / "config.json").read_text()) | {"architectures": [other]}
    (folder / "config.json").write_text(json.dumps(config))
    found = different(compare(model, folder)[1])
    assert set(found) == {f"blk.{i}.attn_{kind}.weight" for i in (0, 1) for kind in "qk"}
    assert set(found.values()) == {("otherwise", "order")}


def test_norms_that_were_not_raised_are_found(tmp_path: Path) -> None:
    model, folder = converted.as_converted(tmp_path, "gemma2 f16"), tmp_path / "checkpoint"
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    found = compare(model, folder)[1]
    assert ("E001", "output_norm.weight") in findings(found)


def test_what_is_not_known_is_not_judged(tmp_path: Path) -> None:
    """An architecture that nobody described here: what comes out is right, what does not is no damage."""
    model, folder = converted.as_converted(tmp_path, "llama"), tmp_path / "checkpoint"
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["UnheardOfForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    assert compare(model, folder)[1]["verdict"]["kind"] == "reproduced"
    rewritten(folder, "llama", {"model.norm.weight": sources.as_dtype(np.ones(checkpoints.WIDTH, np.float32), "F32")})
    code, report, text = compare(model, folder)
    assert different(report) == {"output_norm.weight": ("not judged", "conversion")}
    sentence = "not judged: what the converter changes of UnheardOfForCausalLM is not known here"
    assert code == 1 and sentence in text and findings(report) == [("E009", "output_norm.weight")]


def test_factors_without_a_configuration_are_not_judged(tmp_path: Path) -> None:
    model, folder = converted.as_converted(tmp_path, "llama"), tmp_path / "checkpoint"
    (folder / "config.json").unlink()
    found = compare(model, folder)[1]
    assert different(found) == {"rope_freqs.weight": ("not judged", "conversion")}
    assert "which is not beside the source" in next(f["message"] for f in found["findings"] if f["code"] == "E009")


@pytest.mark.parametrize("method", ["awq", "bitsandbytes"])
def test_packed_weights_that_nobody_decodes_are_not_judged_alone(tmp_path: Path, method: str) -> None:
    model, folder = converted.as_converted(tmp_path, "mistral"), tmp_path / "checkpoint"
    tensors = dict(checkpoints.tensors("mistral", CHECKPOINTS["mistral"]))
    value = "model.layers.0.self_attn.v_proj"
    del tensors[f"{value}.weight"]
    packed = ("I32", (64, 4), bytes(1024)) if method == "awq" else ("U8", (1024, 1), bytes(1024))
    tensors[f"{value}.{'qweight' if method == 'awq' else 'weight'}"] = packed
    beside = ("qzeros", "scales") if method == "awq" else ("weight.absmax", "weight.quant_map")
    tensors |= {f"{value}.{name}": ("F16", (4,), bytes(8)) for name in beside}
    (folder / "model.safetensors").write_bytes(sources.safetensors(tensors))
    config = CHECKPOINTS["mistral"].config | {"quantization_config": {"quant_method": method}}
    (folder / "config.json").write_text(json.dumps(config))
    report = compare(model, folder)[1]
    assert different(report) == {"blk.0.attn_v.weight": ("not judged", "conversion")}
    assert report["source"]["unmapped"] == []
    why = f"the source is quantized by {method}, which is not decoded here"
    assert next(f["message"] for f in report["findings"] if f["code"] == "E009").endswith(why)


HOSTILE = [
    ("[]", "no JSON object"),
    ("{", "no JSON"),
    (json.dumps({"num_attention_heads": 7}), None),
    (json.dumps({"architectures": ["LlamaForCausalLM"], "num_attention_heads": -1}), None),
    (json.dumps({"architectures": 3, "text_config": 3, "rope_scaling": 3, "quantization_config": 3}), None),
    (json.dumps({"rope_scaling": {"rope_type": "llama3", "factor": "x", "low_freq_factor": 0}}), None),
    (json.dumps({"rope_scaling": {"rope_type": 7, "long_factor": [[1], 2]}}), None),
    (json.dumps({"quantization_config": {"quant_method": ["fp8"]}}), None),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_hostile_configurations(tmp_path: Path, text: str, message: str | None) -> None:
    model, folder = converted.as_converted(tmp_path, "mistral"), tmp_path / "checkpoint"
    (folder / "config.json").write_text(text)
    if message is None:
        compare(model, folder)
        return
    from tests.hostile import run_check

    path = folder / "config.json"
    assert run_check(model, f"--source={folder}") == (2, "", f"hifi_ref.check: {path}: {message}\n")
    assert open_gguf(model).tensors
