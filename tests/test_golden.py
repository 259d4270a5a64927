"""The golden vectors: what the schemas say they are, what both lanes compute, and what the generator writes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import hifi_ref as hr
from golden import generate, judge, places, vector_file
from golden.vectors import id_of, trace
from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.formats.hard_inputs import FAMILIES
from reference import release
from tests.test_formats import DOT_ROWS, ROWS, N

GOLDEN = judge.HERE
EXAMPLES = GOLDEN / "examples"
INDEX = json.loads((GOLDEN / "index.json").read_text())
# Rows that tests.test_formats encodes at a time: the same shapes, so that nothing is compiled anew.
ENCODED = len(FAMILIES) * ROWS
# Rows with importance where the rest of a row counts, so that all batches of one width are compiled once.
WEIGHED = 48
# Weights of the longest rows of a dot product: twelve super-blocks.
DOT_N = 12 * 256
each_file = pytest.mark.parametrize(
    ("name", "operation"),
    [pytest.param(f["format"], f["operation"], id=f["path"]) for f in INDEX["files"]],
)
each_with_places = pytest.mark.parametrize("name", [name for name in LLAMA_CPP if places.bits(name)])


def schema(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((GOLDEN / "schema" / f"{name}.schema.json").read_text()))


VECTORS_SCHEMA = schema("vectors")


# BOTH LANES


def numpy_lane(name: str, operation: str) -> Callable:
    return {
        "decode": lambda blocks: hr.decode(name, blocks, lane="numpy"),
        "encode": lambda x, importance: hr.encode(name, x, importance, lane="numpy"),
        "dot": lambda w, a: hr.dot(name, w, a, lane="numpy"),
    }[operation]


def jax_lane(name: str, operation: str) -> Callable:
    """The compiled lane, over rows padded with zeros to the shapes that tests.test_formats compiles."""
    f = FORMATS[name]

    def encode(x: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        rows, n = x.shape
        row_bytes = n // f.block_size * f.type_size
        if importance is None:
            padded = np.zeros((ENCODED * N // n, n), np.float32)
            padded[:rows] = x
            return hr.encode(name, padded, lane="jax")[:rows]
        if f.row_scoped:
            # The rest of a row counts, so that only rows can be added.
            padded = np.zeros((max(rows, WEIGHED), n), np.float32)
            padded[:rows] = x
            return hr.encode(name, padded, importance, lane="jax")[:rows]
        padded, weights = np.zeros((ENCODED, N), np.float32), np.ones(N, np.float32)
        padded[:rows, :n], weights[:n] = x, importance
        return hr.encode(name, padded, weights, lane="jax")[:rows, :row_bytes]

    def dot(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        g = FORMATS[f.dot_with]
        if len(w) > DOT_ROWS:
            return np.concatenate([dot(w[:DOT_ROWS], a), dot(w[DOT_ROWS:], a)])
        padded = np.zeros((DOT_ROWS, DOT_N // f.block_size * f.type_size), np.uint8)
        activations = np.zeros(DOT_N // g.block_size * g.type_size, np.uint8)
        padded[: len(w), : w.shape[1]], activations[: len(a)] = w, a
        return hr.dot(name, padded, activations, lane="jax")[: len(w)]

    return {"decode": lambda blocks: hr.decode(name, blocks, lane="jax"), "encode": encode, "dot": dot}[operation]


@each_file
@pytest.mark.parametrize("lane", [numpy_lane, jax_lane])
def test_both_lanes_agree_with_the_vectors(name: str, operation: str, lane: Callable) -> None:
    content = judge.load(name, operation)
    size = {"decode": 1 << 30, "encode": ENCODED, "dot": DOT_ROWS}[operation]
    failing = [(test["id"], test["flags"]) for test in judge.failing(content, lane(name, operation), size)]
    assert not failing


def test_a_wrong_bit_is_seen() -> None:
    """The comparison itself: a flipped bit in any expected value must fail, and an expected NaN takes any NaN."""
    content = judge.load("Q4_0", "decode")
    tests = judge.all_tests(content)[:1]
    expected = np.stack([judge.floats(test["expected"]) for test in tests])
    assert judge.agrees(expected, tests).all()
    expected.view(np.uint32)[0, 5] ^= 1
    assert not judge.agrees(expected, tests).any()
    some_nan = np.array([[np.nan]], np.float32).view(np.uint32) | np.uint32(1 << 31 | 5)
    assert judge.agrees(some_nan.view(np.float32), [{"expected": "0000c07f"}]).all()


# FILES


@each_file
def test_a_file_is_what_the_schema_says(name: str, operation: str) -> None:
    content = judge.load(name, operation)
    VECTORS_SCHEMA.validate(content)
    f = FORMATS[name]
    assert (content["format"], content["operation"]) == (name, operation)
    assert (f.type_id, f.block_size, f.type_size) == tuple(content[k] for k in ("type_id", "block_size", "type_size"))
    assert [(e["field"], e["offset"]) for e in content["layout"]] == [
        (field.name, f.layout.offset(field.name)) for field in f.layout.fields
    ]
    tests = judge.all_tests(content)
    assert {flag for test in tests for flag in test["flags"]} == set(content["notes"])
    assert len({test["id"] for test in tests}) == len(tests)
    for test in tests:
        assert test["id"] == id_of(test)
        if "trace" in test:
            blocks = judge.raw(test["blocks" if operation == "decode" else "expected"]).reshape(-1, f.type_size)
            assert test["trace"] == trace(name, blocks)
        if "bound" in test:
            error = judge.floats(test["expected"]).astype(np.float64) - judge.floats(test["exact"])
            assert (abs(error) <= judge.floats(test["bound"])).all()


def test_the_index_lists_every_file() -> None:
    schema("index").validate(INDEX)
    paths = {str(p.relative_to(GOLDEN)) for d in INDEX["dialects"] for p in (GOLDEN / d).glob("*.json")}
    assert {entry["path"] for entry in INDEX["files"]} == paths
    offered = {(f.name, op) for f in LLAMA_CPP.values() for op in judge.GIVEN if getattr(f, op)}
    assert {(entry["format"], entry["operation"]) for entry in INDEX["files"]} == offered
    for entry in INDEX["files"]:
        text = (GOLDEN / entry["path"]).read_bytes()
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(text).hexdigest(), len(text))
        assert entry["tests"] == len(judge.all_tests(json.loads(text)))
    # With those of the HIFI family under 16 MB
    assert sum(entry["bytes"] for entry in INDEX["files"]) <= 12_500_000


def test_the_vectors_reach_every_number() -> None:
    """Every bit both ways, every code, scale, min, sign code and row of a grid, every class of f16 of either sign."""
    assert list(INDEX["coverage"]) == list(LLAMA_CPP)
    for name, table in INDEX["coverage"].items():
        for field in FORMATS[name].layout.fields:
            reached = table["fields"][field.name]
            assert reached["bits"] == reached["bits_both_ways"], (name, field.name)
            if field.dtype in ("f16", "f32"):
                classes = {
                    "zero",
                    "subnormal",
                    "smallest subnormal",
                    "normal",
                    "smallest normal",
                    "largest",
                    "infinity",
                }
                both = {sign + kind for kind in classes for sign in ("", "negative ")}
                assert field.name == "s" or both | {"NaN"} <= {*reached["classes"]} | {"negative zero"}, (
                    name,
                    field.name,
                )
        for kind, at in places.bits(name).items():
            reached = table["numbers"][kind]["decode"]
            assert reached["values_seen"] == reached["values"] == 2 ** at.shape[1], (name, kind)
            if at.shape[1] <= 6:
                assert reached["values_at_places_seen"] == reached["values_at_places"], (name, kind)


@each_with_places
def test_a_number_moves_the_weights_of_its_place(name: str) -> None:
    """The release itself shows that places.bits says where each number lies."""
    f = FORMATS[name]
    rng = np.random.default_rng(21)
    block = inputs.tame_scales(f, inputs.random_blocks(f, rng, 1), rng)
    values = release.decode(name, block)[0]
    for kind, at in places.bits(name).items():
        count, width = at.shape
        if name == "TQ1_0":
            continue
        numbers = np.tile(places.read(name, block)[kind], (count, 1))
        np.fill_diagonal(numbers, numbers.diagonal() ^ rng.integers(1, 2**width, count))
        moved = release.decode(name, places.write(name, np.tile(block, (count, 1)), **{kind: numbers})) != values
        reach = f.block_size // count
        outside = np.kron(np.eye(count, dtype=bool), np.ones(reach, bool)) == 0
        assert not (moved & outside).any(), kind
        # Two rows of a grid can agree in part, a scale and a min can be multiplied by 0, code 8 of MXFP4 is 0 as well
        assert moved.any(axis=1).mean() > 0.8, kind


def test_the_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    written = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.json")}
    assert written.keys() == {Path("index.json"), *(Path(entry["path"]) for entry in INDEX["files"])}
    assert all((GOLDEN / path).read_bytes() == text for path, text in written.items())


# EXAMPLES


EXEMPLARY = ("Q4_0", "Q8_0", "Q4_K", "IQ3_S")


def example(language: str, scratch: Path) -> list[str]:
    """The command that runs an example consumer."""
    if language == "c":
        program = str(scratch / "consume")
        source = str(EXAMPLES / "consume.c")
        subprocess.run(["gcc", "-std=c11", "-O2", "-Wall", "-Werror", "-o", program, source, "-lm"], check=True)
        return [program]
    return {"python": [sys.executable, "-I", "-S"], "javascript": ["node"]}[language] + [
        str(EXAMPLES / {"python": "consume.py", "javascript": "consume.js"}[language])
    ]


@pytest.mark.parametrize("language", ["python", "javascript", "c"])
def test_an_example_consumer_agrees_and_sees_a_wrong_bit(language: str, tmp_path: Path) -> None:
    command = example(language, tmp_path)
    counts = {entry["format"]: entry["tests"] for entry in INDEX["files"] if entry["operation"] == "decode"}
    said = subprocess.run([*command, str(GOLDEN / "llama.cpp")], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"{name} decode: {counts[name]} of {counts[name]} tests agree" for name in EXEMPLARY]

    for name in EXEMPLARY:
        content = judge.load(name, "decode")
        if name == "Q8_0":
            test = judge.all_tests(content)[-1]
            test["expected"] = f"{int(test['expected'][:2], 16) ^ 1:02x}{test['expected'][2:]}"
        (tmp_path / f"{name}.decode.json").write_text(vector_file.text_of(content))
    wrong = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert f"Q8_0 decode: {counts['Q8_0'] - 1} of {counts['Q8_0']} tests agree" in wrong.stdout
    assert test["id"] in wrong.stdout
