"""Checkpoints of transformers against what llama.cpp's own converter made of them: every tensor, bit for bit."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.hugging_face.generated import GENERATED
from hifi_ref.model_files.source import Source, open_source
from tests import checkpoints, converted
from tests.checkpoint_models import CHECKPOINTS


def opened(tmp_path: Path, name: str, outtype: str = "f32") -> tuple[Source, dict[str, list]]:
    """A checkpoint as the source of a file that has the converter's metadata, and what the converter wrote."""
    folder = checkpoints.write(tmp_path / "checkpoint", name, CHECKPOINTS[name])
    target = converted.write(tmp_path / "empty.gguf", name, outtype, lambda tensor, kind, shape: None)
    return open_source(folder, open_gguf(target)), converted.FACTS[name][outtype]["tensors"]


@pytest.mark.parametrize(("name", "outtype"), converted.CASES)
def test_every_tensor_is_the_converters(tmp_path: Path, name: str, outtype: str) -> None:
    source, facts = opened(tmp_path, name, outtype)
    assert set(source.names) == set(facts) - set(GENERATED)
    assert source.unmapped == []
    for tensor, (kind, shape, digest, *numbers) in facts.items():
        weights = source.find(tensor)
        assert weights is not None, tensor
        squeezed = [n for n in shape if n != 1]
        assert [n for n in weights.shape if n != 1] == squeezed, tensor
        if numbers:
            first = weights.rows(slice(None)).reshape(-1)[:16]
            assert np.allclose(first, numbers[0], rtol=weights.close, atol=0), tensor
            continue
        assert hashlib.sha256(converted.in_type(weights, kind).tobytes()).hexdigest() == digest, tensor


@pytest.mark.parametrize("name", [name for name in CHECKPOINTS if name in converted.FACTS])
def test_any_rows_are_those_of_the_whole(tmp_path: Path, name: str) -> None:
    source, facts = opened(tmp_path, name)
    rng = np.random.default_rng(1)
    for tensor in facts:
        weights = source.find(tensor)
        whole = weights.rows(slice(None))
        some = rng.permutation(len(whole))[:7]
        assert np.array_equal(weights.rows(some), whole[some])
        assert np.array_equal(weights.rows(slice(1, 4)), whole[1:4])


def test_parts_for_images_belong_elsewhere(tmp_path: Path) -> None:
    source, _ = opened(tmp_path, "gemma3 with images")
    assert source.elsewhere == [
        "multi_modal_projector.mm_input_projection_weight", "vision_tower.vision_model.post_layernorm.weight",
    ]  # fmt: skip


def test_the_document_says_what_was_compared() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "check.md").read_text().split())
    made = [facts for by_type in converted.FACTS.values() for facts in by_type.values()]
    architectures = {facts["architecture"] for facts in made}
    tensors = sum(len(facts["tensors"]) for facts in made)
    assert f"{len(converted.FACTS)} small checkpoints of {len(architectures)} GGUF architectures" in text
    assert f"Each of the {tensors} tensors" in text
    said = text.split("hold the table against:")[1].split("; and llama from")[0]
    assert architectures == {name.split(" (")[0] for name in re.sub(r" \([^)]*\)", "", said).strip().split(", ")}
