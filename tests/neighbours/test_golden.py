"""golden/<system>: every vector in NumPy; of each encoder and product one in jax, at top level or in jax.jit.

The whole comparison in jax takes minutes: `python -m tools.neighbours_golden --check --lane=jax FOLDER`.
"""

import hashlib
import json

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest

from hifi_ref import neighbours as nb
from hifi_ref.conform.cases import vectors_folder
from hifi_ref.conform.neighbours.vectors import dialects, read_dialect
from hifi_ref.neighbours import hyper

FOLDER = vectors_folder()
FILES = {f"{f.dialect}/{f.scheme}.{f.operation}": f for d in dialects(FOLDER) for f in read_dialect(FOLDER, d)}
# Vectors that belong to no scheme: a fork's kernels, which read llama.cpp's own blocks.
OURS = {name: f for name, f in FILES.items() if f.scheme in nb.SCHEMES}
# Of each encoder and product one dialect's, every second of them inside jit, since each takes a second to compile;
# test_lanes.py and test_one_system.py hold the decoders.
ONE = list({(f.scheme, f.operation): name for name, f in OURS.items() if f.operation in ("encode", "matmul")}.values())
FIRST, LATER = ONE[0::2], ONE[1::2]
MOST = 6_000_000


def answer(f, vector, given, parameters):
    given = dict(given)
    if f.operation == "loss":
        return {"loss": np.array(hyper.loss(given["x"], given["y"], **parameters), np.float32)}
    if f.operation == "encode":
        return nb.encode(f.scheme, given.pop("x"), **given, **parameters)
    if f.operation == "decode":
        return {"y": nb.decode(f.scheme, given, vector.shape, **parameters)}
    return {"z": nb.matmul(f.scheme, given, given.pop("a"), **parameters)}


def check(vector, result):
    for name, expected in vector.expected.items():
        got = np.asarray(result[name]).reshape(expected.shape)
        if name in vector.bound:
            assert (abs(got - expected) <= vector.bound[name]).all(), vector.id
            continue
        # jax has no integers of 64 bits
        assert got.dtype == expected.dtype or expected.dtype == np.int64, f"{vector.id} {name}"
        different = got != expected
        if expected.dtype.kind == "f":
            bits = f"u{expected.dtype.itemsize}"
            different = (got.view(bits) != expected.view(bits)) & ~(np.isnan(got) & np.isnan(expected))
        assert not different.any(), f"{vector.id} {name}: {different.sum()} of {expected.size}, {vector.comment}"


def hardest(f):
    """A vector with most flags."""
    return max(f.vectors, key=lambda v: (len(v.flags), v.id))


@pytest.mark.parametrize("name", OURS)
def test_every_vector_in_numpy(name):
    for vector in OURS[name].vectors:
        result = answer(OURS[name], vector, vector.given, vector.parameters)
        assert all(type(array) is np.ndarray for array in result.values())
        check(vector, result)


@pytest.mark.parametrize("name", LATER)
def test_a_vector_in_jax(name):
    f = OURS[name]
    vector = hardest(f)
    result = answer(f, vector, {key: jnp.asarray(array) for key, array in vector.given.items()}, vector.parameters)
    assert all(isinstance(array, jax.Array) for array in result.values())
    check(vector, result)


@pytest.mark.parametrize("name", FIRST)
def test_a_vector_inside_jit(name):
    f = OURS[name]
    vector = hardest(f)
    check(vector, jax.jit(lambda given: answer(f, vector, given, vector.parameters))(dict(vector.given)))


def test_indexes_and_schema():
    schema = json.loads((FOLDER / "schema" / "neighbours.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    total = 0
    for dialect in dialects(FOLDER):
        index = json.loads((FOLDER / dialect / "index.json").read_text())
        assert {e["path"] for e in index["files"]} == {
            f"{dialect}/{path.name}" for path in (FOLDER / dialect).glob("*.*.json")
        }
        for entry in index["files"]:
            raw = (FOLDER / entry["path"]).read_bytes()
            total += len(raw)
            assert hashlib.sha256(raw).hexdigest() == entry["sha256"] and len(raw) == entry["bytes"], entry["path"]
            validator.validate(json.loads(raw))
    assert total <= MOST


def test_each_scheme_has_vectors_of_what_it_offers():
    by_analogy = {"fp8.tensor"}
    have = {(f.scheme, f.operation) for f in OURS.values()}
    for name, scheme in nb.SCHEMES.items():
        if name not in by_analogy:
            assert (name, "encode") in have or scheme.encode is None, name


def test_ids_differ():
    ids = [v.id for f in FILES.values() for v in f.vectors]
    assert len(ids) == len(set(ids))
