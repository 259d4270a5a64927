"""The golden vectors: what the schema says they are, what both lanes compute, and what the generator writes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import hifi_ref as hr
from golden import generate
from hifi_ref.formats import FORMATS
from tests.inputs import FAMILIES
from tests.test_formats import ROWS, N

GOLDEN = Path(generate.__file__).resolve().parent
INDEX = json.loads((GOLDEN / "index.json").read_text())
SCHEMA = jsonschema.Draft202012Validator(json.loads((GOLDEN / "schema" / "vectors.schema.json").read_text()))
# As many weights as tests.test_formats encodes at a time, so that nothing is compiled anew.
ENCODED = len(FAMILIES) * ROWS * N
each_file = pytest.mark.parametrize(
    "path", [pytest.param(f["path"], marks=pytest.mark.xdist_group(f["format"])) for f in INDEX["files"]]
)


def load(path: str) -> dict[str, Any]:
    return json.loads((GOLDEN / path).read_text())


def all_tests(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [test for group in content["groups"] for test in group["tests"]]


def raw(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), np.uint8)


def floats(text: str) -> np.ndarray:
    return raw(text).view("<f4").astype(np.float32)


def observed(content: dict[str, Any], test: dict[str, Any], lane: str) -> np.ndarray:
    name = content["format"]
    if content["operation"] == "decode":
        return hr.decode(name, raw(test["blocks"]), lane=lane)
    if content["operation"] == "dot":
        return hr.dot(name, raw(test["w"])[None], raw(test["a"]), lane=lane)
    x = floats(test["weights"])
    if test["importance"] is not None:
        return hr.encode(name, x, floats(test["importance"]), lane=lane)
    rows = np.zeros((ENCODED // len(x), len(x)), np.float32)
    rows[0] = x
    return hr.encode(name, rows, lane=lane)[0]


@each_file
@pytest.mark.parametrize("lane", ["numpy", "jax"])
def test_both_lanes_agree_with_the_vectors(path: str, lane: str) -> None:
    content = load(path)
    for test in all_tests(content):
        result = observed(content, test, lane)
        if result.dtype == np.float32:
            expected = floats(test["expected"])
            same = (result.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(result) & np.isnan(expected))
        else:
            same = result == raw(test["expected"])
        assert same.all(), f"{path} {test['id']} {test['flags']}: {(~same).sum()} of {same.size} differ"


@each_file
def test_a_file_is_what_the_schema_says(path: str) -> None:
    content = load(path)
    SCHEMA.validate(content)
    f = FORMATS[content["format"]]
    assert (f.type_id, f.block_size, f.type_size) == tuple(content[k] for k in ("type_id", "block_size", "type_size"))
    assert [(e["field"], e["offset"]) for e in content["layout"]] == [
        (field.name, f.layout.offset(field.name)) for field in f.layout.fields
    ]
    assert {flag for test in all_tests(content) for flag in test["flags"]} == set(content["notes"])
    for test in all_tests(content):
        said = {k: v for k, v in test.items() if k not in ("id", "flags", "result")}
        assert test["id"] == hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def test_the_index_lists_every_file() -> None:
    paths = {str(p.relative_to(GOLDEN)) for p in GOLDEN.glob("*/*.json") if p.parent.name != "schema"}
    assert {entry["path"] for entry in INDEX["files"]} == paths
    offered = {(f.name, op) for f in FORMATS.values() for op in ("decode", "encode", "dot") if getattr(f, op)}
    assert {(entry["format"], entry["operation"]) for entry in INDEX["files"]} == offered
    for entry in INDEX["files"]:
        text = (GOLDEN / entry["path"]).read_bytes()
        assert hashlib.sha256(text).hexdigest() == entry["sha256"]
        assert entry["tests"] == len(all_tests(json.loads(text)))
    assert list(INDEX["coverage"]) == list(FORMATS)
    for fields in INDEX["coverage"].values():
        assert all(field["bits"] == field["bits_both_ways"] for field in fields.values())


def test_the_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    written = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.json")}
    kept = {p.relative_to(GOLDEN): p.read_bytes() for p in GOLDEN.rglob("*.json") if p.parent.name != "schema"}
    assert written == kept


def test_a_wrong_bit_is_seen() -> None:
    """The comparison itself: a flipped bit in any expected value must fail."""
    content = load("llama.cpp/Q4_0.decode.json")
    test = all_tests(content)[0]
    expected = raw(test["expected"]).copy()
    expected[5] ^= 1
    assert not np.array_equal(observed(content, test, "numpy").view(np.uint8), expected)
