"""What cannot be computed ends in one sentence; a split model is one model."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from hifi_ref import models
from tests.models import small


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("models") / "llama.gguf", "llama")


def refused(call, *arguments) -> str:
    with pytest.raises(models.ModelError) as error:
        call(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_ids(llama: Path) -> None:
    assert refused(models.logits, llama, [1, 5, 359]) == "llama.gguf: id 359 at place 2 is not in the vocabulary of 359"
    assert "id -1 at place 0" in refused(models.logits, llama, [-1])
    for ids in ([], [[1]], [1.5]):
        assert refused(models.logits, llama, ids).startswith("ids must be whole numbers [n], at least one, not ")


def test_modes(llama: Path) -> None:
    with pytest.raises(ValueError, match="mode must be one of exact, fast, not 'quick'"):
        models.logits(llama, [1], mode="quick")


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("blk.1.attn_k.weight", "the tensor blk.1.attn_k.weight is missing"),
        ("token_embd.weight", "the tensor token_embd.weight is missing"),
        ("llama.block_count", "the metadata key llama.block_count is missing"),
    ],
)
def test_what_is_missing(tmp_path: Path, left_out: str, message: str) -> None:
    path = small.write(tmp_path / "model.gguf", "llama", leave_out=[left_out])
    assert refused(models.logits, path, [1, 5]) == f"model.gguf: {message}"


def test_no_tokenizer(tmp_path: Path) -> None:
    path = small.write(tmp_path / "model.gguf", "llama", leave_out=["tokenizer.ggml.model"])
    assert refused(models.tokenize, path, b"a", True, False) == "model.gguf: there is no tokenizer in it"


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = small.write(tmp_path / "model.gguf", "qwen2")
    assert refused(models.tokenize, path, b"ab\xff", True, False) == (
        "the text is not UTF-8 at byte 2, as this tokenizer needs it"
    )


def rewritten(source: Path, target: Path, architecture: str = "llama", shard: int = 0, **more: np.ndarray) -> Path:
    """A copy with another architecture, or more tensors, or in shards of so many tensors."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, architecture, split_max_tensors=shard)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind, part = field.types[0], field.types[-1]
        writer.add_key_value(key, field.contents(), kind, part if kind == gguf.GGUFValueType.ARRAY else None)
    for name, tensor in ({t.name: t.data for t in reader.tensors} | more).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_another_architecture(llama: Path, tmp_path: Path) -> None:
    path = rewritten(llama, tmp_path / "model.gguf", "mamba")
    assert refused(models.logits, path, [1]) == (
        "model.gguf: the architecture mamba is none of those known: llama, qwen2, qwen3, qwen3moe, phi3, gemma2, gemma3"
    )


def test_a_tensor_that_is_not_known(llama: Path, tmp_path: Path) -> None:
    path = rewritten(llama, tmp_path / "model.gguf", **{"blk.0.attn_sinks.weight": np.ones(4, np.float32)})
    assert refused(models.logits, path, [1]) == (
        "model.gguf: nothing is known of the tensor blk.0.attn_sinks.weight in the architecture llama"
    )


def test_nan_weights(llama: Path, tmp_path: Path) -> None:
    norm = np.ones(small.WIDTH, np.float32)
    norm[7] = np.nan
    path = rewritten(llama, tmp_path / "model.gguf", **{"blk.1.ffn_norm.weight": norm})
    for mode in models.MODES:
        assert refused(models.logits, path, [1, 5], mode) == (
            "model.gguf: what blk.1.ffn_up.weight is to be multiplied with is not finite at token 0"
        )


def test_sizes_that_do_not_fit(llama: Path, tmp_path: Path) -> None:
    path = rewritten(llama, tmp_path / "model.gguf", **{"blk.0.attn_k.weight": np.ones((64, small.WIDTH), np.float32)})
    assert refused(models.logits, path, [1]) == (
        "model.gguf: blk.0.attn_k.weight has the shape [64, 256], which does not fit the model's other sizes"
    )


def test_shards(llama: Path, tmp_path: Path) -> None:
    rewritten(llama, tmp_path / "model.gguf", shard=8)
    shards = sorted(tmp_path.glob("model-*.gguf"))
    assert len(shards) == 3
    want = models.logits(llama, [1, 300, 5])
    for shard in shards:
        np.testing.assert_array_equal(models.logits(shard, [1, 300, 5]), want)
    shards[1].unlink()
    assert refused(models.logits, shards[0], [1]).endswith("the shard model-00002-of-00003.gguf is missing")
