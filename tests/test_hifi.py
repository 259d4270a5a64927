"""The formats of the HIFI fork: golden vectors, both lanes, contexts, and what the files say of the fork's faults."""

from __future__ import annotations

import doctest
import hashlib
import json
import re
from fractions import Fraction
from typing import Any

import jax
import jsonschema
import numpy as np
import pytest

import hifi_ref as hr
from golden import judge
from golden.vectors import id_of
from hifi_ref.formats import FORMATS, HIFI, LLAMA_CPP
from hifi_ref.formats.hifi import e4m3, importance, outliers, q4_hifi
from hifi_ref.known_bugs import hifi as known_bugs
from hifi_ref.known_bugs.bug import Bug
from hifi_ref.model_files.dialects import DIALECTS

GOLDEN = judge.HERE
INDEX = json.loads((GOLDEN / "hifi" / "index.json").read_text())
SCHEMA = jsonschema.Draft202012Validator(json.loads((GOLDEN / "schema" / "vectors.schema.json").read_text()))
each_file = pytest.mark.parametrize(
    ("name", "operation"), [pytest.param(f["format"], f["operation"], id=f["path"]) for f in INDEX["files"]]
)
each_format = pytest.mark.parametrize("name", HIFI)


def load(name: str, operation: str) -> dict[str, Any]:
    return judge.load(name, operation, GOLDEN / "hifi")


def run(name: str, operation: str, test: dict[str, Any], lane: str) -> np.ndarray:
    if operation == "decode":
        return hr.decode(name, judge.raw(test["blocks"]), lane=lane)[None]
    if operation == "dot":
        return hr.dot(name, judge.raw(test["w"])[None], judge.raw(test["a"]), lane=lane)[None]
    own = None if test["importance"] is None else judge.floats(test["importance"])
    return hr.encode(name, judge.floats(test["weights"]), own, lane=lane, **test.get("context", {}))[None]


@each_file
def test_the_numpy_lane_agrees_with_the_vectors(name: str, operation: str) -> None:
    tests = judge.all_tests(load(name, operation))
    assert not [t["id"] for t in tests if not judge.agrees(run(name, operation, t, "numpy"), [t]).all()]


@pytest.mark.parametrize("operation", ["decode", "dot"])
@each_format
def test_the_jax_lane_decodes_and_multiplies_alike(name: str, operation: str) -> None:
    if operation == "dot" and HIFI[name].dot is None:
        with pytest.raises(NotImplementedError, match="no dot in the HIFI fork"):
            hr.dot(name, np.zeros((1, 132), np.uint8), np.zeros(292, np.uint8))
        return
    rng = np.random.default_rng(7)
    blocks = rng.integers(0, 256, (9, 2 * HIFI[name].type_size), dtype=np.uint8)
    if operation == "decode":
        results = [hr.decode(name, blocks, lane=lane) for lane in ("numpy", "jax")]
    else:
        a = hr.encode("Q8_K", rng.standard_normal(512).astype(np.float32))
        results = [hr.dot(name, blocks, a, lane=lane) for lane in ("numpy", "jax")]
    right, result = results
    assert ((right.view(np.uint32) == result.view(np.uint32)) | (np.isnan(right) & np.isnan(result))).all()


@pytest.mark.parametrize("name", ["Q4_K_HIFI", "Q6_K_HIFI_RES8", "Q2_K_LITE"])
def test_the_jax_lane_encodes_alike(name: str) -> None:
    """tools.hifi_npz holds every format and context against the fork in this lane."""
    tests = [t for t in judge.all_tests(load(name, "encode")) if t["importance"] is not None and "context" not in t]
    assert not [t["id"] for t in tests if not judge.agrees(run(name, "encode", t, "jax"), [t]).all()]


@pytest.mark.parametrize("name", ["Q5_K_HIFI_RES8", "Q3_K_LITE"])
def test_several_rows_with_importance_are_encoded_alike(name: str) -> None:
    rng = np.random.default_rng(3)
    x, own = rng.standard_normal((3, 512)).astype(np.float32), np.exp(rng.standard_normal(512)).astype(np.float32)
    expected = hr.encode(name, x, own, lane="numpy").tobytes()
    assert hr.encode(name, x, own, lane="jax").tobytes() == expected
    assert np.asarray(jax.jit(lambda x: hr.encode(name, x, own))(x)).tobytes() == expected


def test_inside_jit_a_faint_scale_is_decoded_by_the_definition() -> None:
    f = HIFI["Q3_K_HIFI_RES8"]
    block = np.zeros(f.type_size, np.uint8)
    block[110], block[112:120], block[120:128] = 8, np.arange(8), 100
    block[128:] = np.array([1e-44], "<f4").view(np.uint8)
    result = np.asarray(jax.jit(lambda b: hr.decode("Q3_K_HIFI_RES8", b))(block))
    expected = hr.decode("Q3_K_HIFI_RES8", block, lane="numpy")
    assert expected[0] > 0 and np.array_equal(result.view(np.uint32), expected.view(np.uint32))


# FILES


@each_file
def test_a_file_is_what_the_schema_says(name: str, operation: str) -> None:
    content = load(name, operation)
    SCHEMA.validate(content)
    f = FORMATS[name]
    assert (f.type_id, f.block_size, f.type_size) == tuple(content[k] for k in ("type_id", "block_size", "type_size"))
    tests = judge.all_tests(content)
    assert {flag for test in tests for flag in test["flags"]} == set(content["notes"])
    assert all(test["id"] == id_of(test) for test in tests) and len({test["id"] for test in tests}) == len(tests)


def test_the_index_lists_every_file() -> None:
    assert {entry["path"] for entry in INDEX["files"]} == {f"hifi/{p.name}" for p in (GOLDEN / "hifi").glob("*.*.json")}
    for entry in INDEX["files"]:
        text = (GOLDEN / entry["path"]).read_bytes()
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(text).hexdigest(), len(text))
    assert sum(entry["bytes"] for entry in INDEX["files"]) < 3_500_000


# FORMATS


@each_format
def test_the_docstring_has_the_sizes(name: str) -> None:
    f = HIFI[name]
    module = __import__(f"hifi_ref.formats.hifi.{name.lower()}", fromlist=["LAYOUT"])
    first = module.__doc__.splitlines()[0]
    bits = f"{f.layout.bits_per_weight:.7g}"
    assert first.startswith(f"{name}: 256 weights in {f.type_size} bytes, {bits} bits per weight")
    rows = re.findall(r"^    (\d+)(?:-(\d+))? +(\w+) +([ui]8|f16|f32)(?:\[(\d+)\])? ", module.__doc__, re.M)
    for at, _, field, dtype, count in rows:
        assert f.layout.offset(field) == int(at)
        assert [(x.dtype, x.count) for x in f.layout.fields if x.name == field] == [(dtype, int(count or 1))]


def test_the_numbers_are_those_of_the_dialect() -> None:
    ids = DIALECTS["hifi-lite"].ids
    assert all(ids[f.type_id].name == f.name for f in HIFI.values() if f.type_id is not None)
    assert not set(HIFI) & set(LLAMA_CPP) and {f.dialect for f in LLAMA_CPP.values()} == {"llama.cpp"}


@each_format
def test_a_context_that_means_nothing_is_refused(name: str) -> None:
    x = np.ones(256, np.float32)
    f = HIFI[name]
    with pytest.raises(ValueError, match="outliers is 99"):
        hr.encode(name, x, outliers=99)
    if f.outliers is None:
        with pytest.raises(ValueError, match="has no choice of outliers"):
            hr.encode(name, x, outliers=1)
    if not f.by_model_size:
        with pytest.raises(ValueError, match="does not depend on the model's size"):
            hr.encode(name, x, model_params=7.0)
    with pytest.raises(ValueError, match="Q4_K has no choice of outliers"):
        hr.encode("Q4_K", x, outliers=1)


@pytest.mark.parametrize("name", ["Q6_K_HIFI_L", "Q4_HIFI"])
def test_the_roadmap_blocks_keep_their_outliers(name: str) -> None:
    x = np.random.default_rng(3).standard_normal((4, 256)).astype(np.float16).astype(np.float32)
    x[:, [5, 100, 255]] *= 32
    f = HIFI[name]
    for count in f.outliers:
        blocks = hr.encode(name, x, outliers=count)
        kept = np.sort(np.argsort(-abs(x), axis=-1, kind="stable")[:, :count])
        y = hr.decode(name, blocks)
        assert np.array_equal(np.take_along_axis(y, kept, -1), np.take_along_axis(x, kept, -1))
    assert [q4_hifi.outlier_count(p, m) for p in (1, 30, 31) for m in (False, True)] == [8, 16, 10, 16, 16, 16]


@pytest.mark.parametrize("name", ["Q6_K_HIFI", "Q6_K_HIFI_L", "Q4_HIFI"])
def test_the_dot_products_defined_here_are_those_of_the_decoded_weights(name: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_t(2, (8, 1024)).astype(np.float32)
    a = hr.encode("Q8_K", rng.standard_normal(1024).astype(np.float32))
    blocks = hr.encode(name, x)
    exact = hr.decode(name, blocks).astype(np.float64) @ hr.decode("Q8_K", a).astype(np.float64)
    assert np.allclose(hr.dot(name, blocks, a), exact, rtol=1e-5, atol=1e-3)


# PARTS


def test_the_largest_are_chosen_as_a_loop_in_c_chooses_them() -> None:
    def loop(score: np.ndarray, count: int, once: bool) -> list[int]:
        score, chosen = score.copy(), []
        for _ in range(count):
            m = 0
            for i in range(1, len(score)):
                if score[i] > score[m] and not (once and i in chosen):
                    m = i
            chosen.append(m)
            score[m] = -1
        return chosen

    rng = np.random.default_rng(5)
    score = rng.integers(-3, 9, (40, 256)).astype(np.float32)
    score[:9] = -abs(score[:9]) - 1
    score[3, 0] = score[4, 7] = np.nan
    score[5] = 0
    for once in (False, True):
        expected = [loop(row, 8, once) for row in score]
        assert np.array_equal(outliers.largest(score, 8, once), expected)
        assert np.array_equal(outliers.largest(jax.numpy.asarray(score), 8, once), expected)


def test_e4m3_returns_what_it_can_hold() -> None:
    codes = np.arange(1, 128, dtype=np.uint8)
    assert np.array_equal(e4m3.narrow(e4m3.widen(codes)), codes)
    assert e4m3.narrow(np.array([0, 0.0083, 1e9], np.float32)).tolist() == [0, 0, 127]
    assert e4m3.widen(np.array([0x80, 0x7F], np.uint8)).tolist() == [-(2.0**-7), 480.0]


def test_importance_of_even_and_uneven_blocks() -> None:
    even, uneven = np.ones((1, 256), np.float32), np.ones((1, 256), np.float32)
    uneven[0, 9] = 1e4
    counts = [importance.outlier_count(importance.of_block(w), 8, 4.0)[0] for w in (even, uneven)]
    assert counts[0] == 7 < counts[1]


@pytest.mark.parametrize("wrong", [pytest.param(b, id=b.name) for b in known_bugs.bugs()])
def test_a_known_bug_is_seen(wrong: Bug) -> None:
    assert wrong.kind in known_bugs.KINDS
    if (wrong.format, wrong.operation) == ("Q6_K_HIFI", "dot"):
        x = np.random.default_rng(6).standard_normal((2, 512)).astype(np.float32)
        w, a = hr.encode("Q6_K_HIFI", x), hr.encode("Q8_K", x[0])
        assert (wrong.run(w, a) != hr.dot("Q6_K_HIFI", w, a)).all()
        return
    content = load(wrong.format, wrong.operation)
    for group in content["groups"]:
        group["tests"] = [test for test in group["tests"] if "context" not in test]
    assert next(judge.failing(content, wrong.run), None) is not None


# TRUE DOT PRODUCTS AND MATRIX PRODUCTS

with_dot = pytest.mark.parametrize("name", [name for name, f in HIFI.items() if f.dot is not None])
# Those whose dot product in the fork leaves activations of |q| <= 4 out, or adds what decoding replaces.
ANOTHER_DOT = {"Q2_K_HIFI", "Q5_K_HIFI_RES8", "Q6_K_HIFI_RES8", "Q6_K_HIFI_DYNAMIC"}


def hostile_blocks(name: str, rows: int, n: int) -> np.ndarray:
    """Random bytes, positions twice over among them, that decode to finite weights."""
    f = HIFI[name]
    rng = np.random.default_rng(8)
    w = rng.integers(0, 256, (rows, n // 256, f.type_size), dtype=np.uint8)
    at = f.layout.offset("at")
    w[::2, :, at + 1] = w[::2, :, at]
    for field in f.layout.fields:
        if field.dtype in ("f16", "f32"):
            numbers = rng.standard_normal((rows, n // 256, field.count)) * 2.0 ** rng.integers(-8, 3, (rows, 1, 1))
            start, dtype = f.layout.offset(field.name), {"f16": "<f2", "f32": "<f4"}[field.dtype]
            w[..., start : start + field.size] = numbers.astype(dtype).view(np.uint8)
    return w.reshape(rows, -1)


def activations(n: int) -> np.ndarray:
    return hr.encode("Q8_K", np.random.default_rng(9).standard_normal(n).astype(np.float32))


def blocks_of(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    d, q, _ = FORMATS["Q8_K"].layout.unpack(a.reshape(-1, 292))
    return np.repeat(d, 256), q.reshape(-1)


@with_dot
def test_the_true_dot_product_is_that_of_the_decoded_weights(name: str) -> None:
    w, a = hostile_blocks(name, 6, 512), activations(512)
    weights = hr.decode(name, w, lane="numpy")
    d, q = blocks_of(a)
    found = hr.dot_exact(name, w, a)
    for row, value, high in zip(weights, found.value, found.high, strict=True):
        products = zip(row.tolist(), q.tolist(), d.tolist(), strict=True)
        true = sum((Fraction(x) * y * Fraction(z) for x, y, z in products), Fraction(0))
        assert high == float(true)
        gap = abs(Fraction(float(value)) - true)
        assert all(gap <= abs(Fraction(float(np.nextafter(value, np.float32(s)))) - true) for s in (-np.inf, np.inf))


@with_dot
def test_any_order_of_additions_is_within_the_bound(name: str) -> None:
    w, a = hostile_blocks(name, 16, 512), activations(512)
    d, q = blocks_of(a)
    products = hr.decode(name, w, lane="numpy") * q.astype(np.float32) * d
    found = hr.dot_exact(name, w, a)
    assert np.isfinite(found.bound).all()
    assert not found.holds(found.value + np.float32(3) * found.bound.astype(np.float32)).any()
    rng = np.random.default_rng(10)
    for order in (np.argsort(abs(products[0])), np.argsort(products[0]), *(rng.permutation(512) for _ in range(20))):
        shuffled = products[:, order]
        assert found.holds(np.add.accumulate(shuffled, axis=1)[:, -1]).all()
        while shuffled.shape[1] > 1:
            shuffled = shuffled[:, ::2] + shuffled[:, 1::2]
        assert found.holds(shuffled[:, 0]).all()


@with_dot
def test_dot_products_of_encoded_rows_are_within_the_bound(name: str) -> None:
    x = np.random.default_rng(11).standard_t(3, (8, 1024)).astype(np.float32)
    a = activations(1024)
    w = hr.encode(name, x)
    inside = hr.dot_exact(name, w, a).holds(hr.dot(name, w, a, lane="numpy"))
    assert inside.all() or name in ANOTHER_DOT
    if name == "Q2_K_HIFI":
        assert not inside.all()
        w = hr.encode(name, x, np.ones(1024, np.float32))
        assert hr.dot_exact(name, w, a).holds(hr.dot(name, w, a, lane="numpy")).all()


def test_the_format_without_a_dot_product_has_no_true_one() -> None:
    with pytest.raises(NotImplementedError, match="Q3_K_HIFI_RES8 has no dot in the HIFI fork"):
        hr.dot_exact("Q3_K_HIFI_RES8", np.zeros((1, 132), np.uint8), np.zeros(292, np.uint8))


@with_dot
def test_the_matrix_product_is_the_dot_product_of_every_column(name: str) -> None:
    w = hostile_blocks(name, 3, 512)
    x = np.random.default_rng(12).standard_normal((4, 512)).astype(np.float32)
    columns = np.stack([hr.dot(name, w, a, lane="numpy") for a in hr.encode("Q8_K", x)])
    assert np.array_equal(hr.matmul(name, w, x).view(np.uint32), columns.view(np.uint32))


def test_the_examples_of_the_document() -> None:
    result = doctest.testfile(str(GOLDEN.parent / "docs" / "hifi.md"), module_relative=False)
    assert result.attempted == 4 and result.failed == 0
