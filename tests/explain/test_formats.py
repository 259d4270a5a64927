"""What a page says is what the code does: places, steps, bits, and the worked block, for every format."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import hifi_ref as hr
from golden import judge
from hifi_ref.explain import byte_map, effects, explained, family, levels, places, worked
from hifi_ref.explain.steps import steps
from hifi_ref.formats import FORMATS, HIFI, LLAMA_CPP
from hifi_ref.known_bugs import BUGS
from hifi_ref.known_bugs import hifi as hifi_bugs
from tools import explain_facts

ROOT = Path(__file__).resolve().parent.parent.parent
each_format = pytest.mark.parametrize("name", FORMATS)
# Bits that decoding ignores: sums that dot products need, and padding.
IGNORED = {"s", "bsums", "outlier pad"}


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))


@each_format
def test_decoding_by_hand_gives_the_bits_of_decode(name: str) -> None:
    """The worked block, blocks of random bytes, NaN and infinite scales among them, and outliers in use."""
    rng = np.random.default_rng(0)
    random = [rng.integers(0, 256, FORMATS[name].type_size).astype(np.uint8) for _ in range(20)]
    for block in (worked.worked(name).block, *random, *(effects.some_block(name, rng, i) for i in range(8))):
        by_hand = steps(name, block)[-1].values
        assert by_hand.dtype == np.float32
        assert same_bits(by_hand, hr.decode(name, block, lane="numpy")).all()


@each_format
def test_every_bit_belongs_to_one_number(name: str) -> None:
    bits = np.concatenate([numbers.bits.ravel() for numbers in places.numbers_of(name)])
    assert sorted(bits.tolist()) == list(range(8 * FORMATS[name].type_size))
    rows = explained.account(name)
    assert sum(row["bits"] for row in rows) == 8 * FORMATS[name].type_size
    assert sum(row["bits_per_weight"] for row in rows) == FORMATS[name].layout.bits_per_weight


@each_format
def test_flipping_a_bit_moves_the_weights_that_its_number_serves(name: str) -> None:
    """Numbers of one kind serve as many weights each, one after the other, and together all."""
    size = FORMATS[name].block_size
    for numbers in places.numbers_of(name):
        moved = effects.weights_of(name, numbers)
        if numbers.kind in IGNORED:
            assert all(len(weights) == 0 for weights in moved)
        elif numbers.kind == "digits":
            assert sorted(np.concatenate(moved).tolist()) == list(range(size))
        elif not numbers.kind.startswith("outlier"):
            whole = np.arange(size).reshape(len(moved), -1)
            assert all(np.array_equal(a, b) for a, b in zip(moved, whole, strict=True)), numbers.kind


@each_format
def test_the_map_holds_every_bit_where_it_lies(name: str) -> None:
    """The periods, written out again, are the numbers' places."""
    at = {numbers.kind: numbers.bits for numbers in places.numbers_of(name)}
    seen = 0
    runs = byte_map.runs_of(name)
    for run in runs:
        for i in range(run.size):
            for piece in run.pieces:
                index, first = piece.at + i * piece.step, piece.first + i * piece.shift
                wanted = 8 * (run.byte + i) + np.arange(piece.low, piece.high + 1)
                bits = at[piece.kind][index]
                assert np.array_equal(bits[first : first + len(wanted)], wanted)
                seen += len(wanted)
    assert seen == 8 * FORMATS[name].type_size
    periods = byte_map.periods_of(name)
    again = [run.byte + k * period.stride for period in periods for k in range(period.times) for run in period.runs]
    assert again == [run.byte for run in runs]


@each_format
def test_the_worked_block_is_what_the_encoder_writes(name: str) -> None:
    e = explained.explanation(name)
    work = e["worked"]
    x = np.array(work["weights"], np.float32)
    importance = None if work["importance"] is None else np.ones_like(x)
    block = hr.encode(name, x, importance, lane="numpy")
    decoded = hr.decode(name, block, lane="numpy")
    assert work["bytes"] == block.tobytes().hex()
    # The decimals that a page shows mean these very numbers.
    assert same_bits(np.array(work["steps"][-1]["values"], np.float32), decoded).all()
    for shown in work["by_hand"]:
        assert shown["lines"][-1][1].endswith(f"= {worked.number(decoded[shown['weight']])}")
    assert len(work["by_hand"]) == (1 if FORMATS[name].block_size == 1 else 3 if name in HIFI else 2)


@each_format
def test_a_weight_is_one_of_its_levels(name: str) -> None:
    """Beside outliers: each decoded weight of the worked block is a level of its sub-block."""
    work, found = worked.worked(name), levels.of_codes(name)
    if found is None:
        assert FORMATS[name].block_size == 1
        return
    base = next((step.values for step in work.steps if step.name == "base[j]"), work.decoded).astype(float)
    reach = levels.reach(work)
    low = np.repeat([r["low"] for r in reach], len(base) // len(reach))
    high = np.repeat([r["high"] for r in reach], len(base) // len(reach))
    assert (base >= low - 1e-6 * abs(low)).all() and (base <= high + 1e-6 * abs(high)).all()


def test_the_steps_that_a_format_can_have() -> None:
    finest, largest = 2.0**-24, 65504.0
    known = {
        "Q4_0": (finest, largest), "Q4_K": (finest, 63 * largest), "Q6_K": (finest, 128 * largest),
        "IQ4_XS": (finest, 32 * largest), "IQ2_XXS": (finest / 8, 31 * largest / 8), "IQ3_S": (finest, 31 * largest),
        "MXFP4": (2.0**-128, 2.0**127), "NVFP4": (2.0**-10, 240.0), "Q4_K_HIFI": (finest, 63 * largest),
    }  # fmt: skip
    for name, ends in known.items():
        found = levels.steps_possible(name)
        assert found is not None and (found["finest"], found["largest"]) == ends, name
    assert levels.steps_possible("F32") is None
    assert all(levels.steps_possible(name) for name, f in FORMATS.items() if f.block_size > 1)


def test_each_format_has_a_family_and_a_history() -> None:
    named = [name for of_one in family.FAMILIES for name in of_one.formats]
    assert sorted(named) == sorted(FORMATS)
    history = (ROOT / "docs" / "history.md").read_text().replace("\\_", "_")
    rows = [line.split(" | ") for line in re.findall(r"^\| (\d.*) \|$", history, re.MULTILINE)]
    came = {name: row[1] for row in rows for name in row[4].split(", ") if name}
    assert came == family.CAME and rows[0][1] == family.FIRST_LOOKED_AT


# WHAT IS KEPT


def test_the_facts_are_of_all_formats_and_all_bugs() -> None:
    facts = explained.facts()
    assert list(facts["errors"]) == list(FORMATS)
    of_fork = {bug.name for bug in hifi_bugs.bugs()}
    # Its format has no dot product of the fork's to make a vector of.
    assert set(facts["catches"]) == {bug.name for bug in BUGS} | of_fork - {"Q6_K_HIFI.dot stride of the base"}
    index = [json.loads((judge.HERE / folder).read_text()) for folder in ("index.json", "hifi/index.json")]
    assert index[0]["files"] and index[1]["files"]


@pytest.mark.parametrize("operation", ["decode", "dot"])
@pytest.mark.parametrize("name", ["Q4_K", "IQ2_XXS", "MXFP4"])
def test_the_vector_that_is_named_catches_the_bug(name: str, operation: str) -> None:
    content = judge.load(name, operation)
    catches = explained.facts()["catches"]
    tests = {test["id"]: test for test in judge.all_tests(content)}
    for bug in BUGS:
        if (bug.format, bug.operation) == (name, operation):
            test = tests[catches[bug.name]]
            assert not judge.agrees(judge.observed(content, [test], bug.run), [test]).any()


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q1_0", "F16"])
def test_the_errors_that_are_kept(name: str) -> None:
    kinds = explain_facts.samples()
    assert explained.facts()["errors"][name] == {kind: explain_facts.error(name, x) for kind, x in kinds.items()}


def test_formats_of_all_kinds_are_here() -> None:
    assert set(explained.facts()["errors"]) == set(LLAMA_CPP) | set(HIFI)
