"""The known bugs: named well, made right but for the bug, and all caught by the golden vectors."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from golden import judge, mutants
from hifi_ref import exact
from hifi_ref.formats import LLAMA_CPP
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.known_bugs import BUGS, KINDS, bugs_of, decoded_tables, decoded_values, dot_sums, dot_terms, encoded_codes
from hifi_ref.known_bugs.bug import decode, encode
from hifi_ref.known_bugs.rounding import half_away
from tests.test_golden import numpy_lane

OPERATIONS = [(f.name, op) for f in LLAMA_CPP.values() for op in judge.GIVEN if getattr(f, op) is not None]


def test_every_bug_has_a_name_a_kind_and_a_sentence() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert {bug.kind for bug in BUGS} == KINDS.keys()
    for bug in BUGS:
        assert bug.name.startswith(f"{bug.format}.{bug.operation} ")
        assert bug.says[0].isupper() and bug.says.endswith(".") and ". " not in bug.says


def test_every_operation_has_at_least_two() -> None:
    counts = Counter((bug.format, bug.operation) for bug in BUGS)
    assert counts.keys() == set(OPERATIONS)
    assert min(counts.values()) >= 2
    assert sum(len(bugs_of(*of)) for of in OPERATIONS) == len(BUGS)


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_the_vectors_tell_every_bug_from_the_reference(name: str) -> None:
    bugs = (bug for bug in BUGS if bug.format == name)
    assert not [killed.bug.name for killed in mutants.run(bugs) if killed.test is None]


def test_the_reference_itself_survives() -> None:
    """What bugs are made of is right but for the bug: the same builders with nothing wrong fail no test."""
    right = {("MXFP4", "decode"): decoded_tables.mxfp4(decoded_tables.right_e8m0)}
    right["NVFP4", "decode"] = decoded_tables.nvfp4(decoded_tables.right_ue4m3)
    for name in ("Q4_0", "Q5_0"):
        right[name, "encode"] = encoded_codes.offset_codes(name)
    for name in ("Q8_0", "Q8_1"):
        right[name, "encode"] = encoded_codes.signed_codes(
            name, lambda x, d: half_away(x * exact.reciprocal_or_zero(d))
        )
    right["Q8_K", "encode"] = encoded_codes.q8_k(exact.nearest_int)
    for name in LLAMA_CPP:
        if decoded_values.scales_of(name):
            right[name, "decode"] = decoded_values.decode_with(name, decoded_values.right_f16)
    for name in dot_sums.SIMPLE:
        right[name, "dot"] = dot_sums.summed(name, dot_terms.in_order)
    for (name, operation), run in right.items():
        content = judge.load(name, operation)
        # These take an eighth of each block's sum, not of the whole: not the same among subnormal numbers.
        failing = [test["id"] for test in judge.failing(content, run) if not (operation == "dot" and is_faint(test))]
        assert not failing, (name, operation)
        assert not list(judge.failing(content, numpy_lane(name, operation)))


def is_faint(test: dict) -> bool:
    """Whether the sums of a dot product are subnormal numbers, or begin as such."""
    sums = judge.raw(test["expected"]).view("<f4")
    return "FaintSums" in test["flags"] or bool((abs(sums) < 2.0**-126).all())


def test_misreadings_read_what_they_write() -> None:
    """A codec with a bug of layout is at peace with itself: its decoder undoes what its encoder did."""
    x = inputs.weights("gauss", np.random.default_rng(31), 2, 256)
    ones = np.ones(256, np.float32)
    by_name = {bug.name: bug for bug in BUGS}
    kinds = {"nibble order", "bit order", "high-bit plane", "sign of min", "field order", "byte order", "packed scales"}
    pairs = 0
    for bug in BUGS:
        writer = by_name.get(bug.name.replace(".decode", ".encode"))
        loses_bits = bug.name.endswith(("lost", "no min"))
        if bug.operation == "decode" and bug.kind in kinds and writer is not None and not loses_bits:
            blocks = writer.run(x, ones).reshape(-1, LLAMA_CPP[bug.format].type_size)
            expected = decode(bug.format, encode(bug.format, x, ones).reshape(blocks.shape))
            assert np.array_equal(bug.run(blocks), expected), bug.name
            pairs += 1
    assert pairs > 60


def test_the_command_prints_the_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--format=Q4_0", "--kind=nibble order"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["Q4_0.decode", "swapped", "nibbles"]
    assert lines[-1] == "6 of 6 known bugs are caught"


def test_a_survivor_is_reported(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    right = bugs_of("Q4_0", "decode")[0]._replace(name="Q4_0.decode nothing", run=numpy_lane("Q4_0", "decode"))
    monkeypatch.setattr(mutants, "BUGS", (right,))
    assert mutants.main([]) == 1
    out = capsys.readouterr().out
    assert "SURVIVES" in out
    assert out.endswith("0 of 1 known bugs are caught\n")
