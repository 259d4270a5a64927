"""Metadata against the source's: what quantizing writes is excused, what llama.cpp reads must be the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from hifi_ref.check.compare import compare_metadata
from hifi_ref.check.metadata import CONFIG
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import open_gguf
from reference import quantizer
from tests import sources
from tests.check import rewrite
from tests.check.helpers import compare
from tools import make_sample

TEXT = gguf.GGUFValueType.STRING


@pytest.fixture(scope="module")
def content(folder: Path) -> rewrite.Content:
    """What is in the file that the release wrote."""
    found = rewrite.read(folder / "15.gguf")
    found.metadata["tokenizer.chat_template"] = ("{{ messages }}", TEXT, None)
    return found


@pytest.fixture(scope="module")
def original(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its source, with a chat template as well."""
    found = rewrite.read(folder / "f32.gguf")
    found.metadata["tokenizer.chat_template"] = ("{{ messages }}", TEXT, None)
    return rewrite.write(tmp_path_factory.mktemp("original") / "f32.gguf", found)


def differences(path: Path, source: Path, form: str = "GGUF") -> list[tuple[str, str]]:
    findings = Findings()
    compare_metadata(open_gguf(path), source, form, findings)
    return [(f.code, f.message) for f in findings.kept]


def test_what_the_release_writes_is_excused(folder: Path, tmp_path: Path) -> None:
    """With the keys that llama-quantize adds for importance, and those of shards taken away."""
    first = rewrite.split(tmp_path, "f32", rewrite.read(folder / "f32.gguf"), 2)[0]
    keys = {"quantize.imatrix.file": "i.dat", "quantize.imatrix.dataset": "wiki", "quantize.imatrix.entries_count": 9}
    out = tmp_path / "out.gguf"
    assert not quantizer.quantize(first, out, 15, make_sample.importance(), keys).problem
    assert differences(out, first) == [] == differences(out, folder / "f32.gguf")
    code, report, text = compare(out, first, f"--imatrix={folder / 'imatrix.dat'}")
    assert report["source"]["metadata"] == {
        "compared": 16, "source": "GGUF", "changed": [], "lost": [], "added": [], "read": []
    }  # fmt: skip
    assert "blocks looked at, 2816 compared; 16 metadata entries compared; hifi_ref" in text


def changed(value: Any) -> Any:
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1])]
    return value + "x" if isinstance(value, str) else not value if isinstance(value, bool) else value + 1


def code_of(key: str) -> str:
    if key.startswith("general.") and key != "general.architecture":
        return "E016"
    return "E015" if key == "tokenizer.chat_template" else "E014"


def test_every_key_changed_lost_and_added(content: rewrite.Content, original: Path, tmp_path: Path) -> None:
    for key, (value, *kinds) in content.metadata.items():
        excused = key in ("general.file_type", "general.quantization_version", "general.alignment")
        for after in (changed(value), None):
            metadata = {k: v for k, v in content.metadata.items() if k != key}
            metadata |= {} if after is None else {key: (after, *kinds)}
            path = rewrite.write(tmp_path / "other.gguf", content._replace(metadata=metadata))
            found = differences(path, original)
            assert [code for code, _ in found] == ([] if excused else [code_of(key)]), key
            assert all(message.startswith(f"{key} is ") for _, message in found)
            # And the other way round: what one side lacks, the other has too many.
            back = differences(original, path)
            assert [code for code, _ in back] == ([] if excused else [code_of(key)])


def test_sentences(content: rewrite.Content, original: Path, tmp_path: Path) -> None:
    metadata = dict(content.metadata)
    metadata["llama.rope.freq_base"] = (5e5, gguf.GGUFValueType.FLOAT32, None)
    metadata["general.name"] = ("a long name " * 9, TEXT, None)
    metadata["tokenizer.ggml.tokens"] = (
        metadata["tokenizer.ggml.tokens"][0][:-1],
        *metadata["tokenizer.ggml.tokens"][1:],
    )
    del metadata["llama.attention.head_count_kv"]
    path = rewrite.write(tmp_path / "other.gguf", content._replace(metadata=metadata))
    assert [message for _, message in differences(path, original)] == [
        f"general.name is {'a long name ' * 5!r}...', and 'hifi_ref sample' in the source".replace("'...'", "...'"),
        "tokenizer.ggml.tokens is a list of 255 string, and a list of 256 string in the source",
        "llama.attention.head_count_kv is missing, and 2 in the source",
        "llama.rope.freq_base is 500000, and the source has no such key",
    ]


def test_the_verdict(content: rewrite.Content, original: Path, tmp_path: Path) -> None:
    """Other numbers, and the same tensors: not reproduced; other descriptions are a note."""
    metadata = content.metadata | {"llama.attention.head_count": (8, gguf.GGUFValueType.UINT32, None)}
    path = rewrite.write(tmp_path / "other.gguf", content._replace(metadata=metadata))
    code, report, text = compare(path, original)
    assert code == 1 and report["verdict"]["kind"] == "not reproduced"
    assert "\nnot reproduced: other hyper-parameters (1)\n" in text
    sentence = report["verdict"]["sentence"]
    assert sentence.startswith("other.gguf: 12 of 12 tensors are bit for bit what the reference encoder")
    assert sentence.endswith("; the metadata that llama.cpp computes by are not the source's.")
    assert report["source"]["metadata"]["read"] == ["llama.attention.head_count"]
    assert compare(path, original, "--ignore=E014")[1]["verdict"]["kind"] == "not reproduced"
    metadata = content.metadata | {"general.author": ("someone", TEXT, None)}
    path = rewrite.write(tmp_path / "other.gguf", content._replace(metadata=metadata))
    for flags in ((), ("--ignore=E016",)):
        code, report, text = compare(path, original, *flags)
        assert code == 0 and report["verdict"]["kind"] == "reproduced" and report["source"]["metadata"]["read"] == []


def test_a_big_endian_source(folder: Path, tmp_path: Path) -> None:
    assert differences(folder / "15.gguf", sources.big_endian(folder / "f32.gguf", tmp_path / "big.gguf")) == []


def test_config_json(folder: Path, tmp_path: Path) -> None:
    """Each number that is not the file's is found; without a config, nothing is claimed."""
    keys = rewrite.read(folder / "15.gguf").metadata
    right = {name: keys[f"llama.{key}"][0] for name, (key, *_) in CONFIG.items() if f"llama.{key}" in keys}
    right |= {"rope_theta": 10000.0, "torch_dtype": "float16", "tie_word_embeddings": True, "head_dim": None}
    assert len(right) == 12
    for name, value in right.items():
        for config in (right, {"text_config": right}):
            (tmp_path / "config.json").write_text(json.dumps(config))
            assert differences(folder / "15.gguf", tmp_path, "safetensors") == []
        if f"llama.{CONFIG.get(name, ('',))[0]}" in keys:
            (tmp_path / "config.json").write_text(json.dumps(right | {name: value * 2}))
            key = f"llama.{CONFIG[name][0]}"
            own = f"{key} is {np.float32(keys[key][0]) if name == 'rms_norm_eps' else value}"
            found = differences(folder / "15.gguf", tmp_path / "model.safetensors", "safetensors")
            assert found == [("E014", f"{own}, and {name} of the source's config.json is {value * 2}")]
    for text in ("[]", "{", None):
        (tmp_path / "config.json").unlink()
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        found = compare_metadata(open_gguf(folder / "15.gguf"), tmp_path, "safetensors", Findings())
        assert (found.source, found.line) == (None, "metadata not compared")
        (tmp_path / "config.json").touch()
