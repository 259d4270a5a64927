"""A tensor that lies in a hole of its file is not read, and gets the findings that zeros get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hifi_ref.check.command import check_file
from hifi_ref.check.damage.survey import of_hole, survey
from hifi_ref.model_files.gguf_file import TENSOR_TYPES, open_gguf
from hifi_ref.model_files.holes import holes
from tests.check.helpers import findings_of
from tests.check.injuries import Patient
from tests.hostile import build
from tests.paths import SAMPLE


def with_holes(path: Path, data: bytes, start: int, stop: int) -> None:
    """Write a file whose bytes from ``start`` to ``stop`` are a hole."""
    with open(path, "wb") as file:
        file.write(data[:start])
        file.seek(stop)
        file.write(data[stop:])
        file.truncate(len(data))


@pytest.mark.parametrize(("name", "expected"), [("blk.0.attn_q", False), ("token_embd", True), ("output_norm", True)])
def test_holes_and_zeros_have_the_same_findings(tmp_path: Path, name: str, expected: bool) -> None:
    patient = Patient(SAMPLE)
    span = patient.span(name)
    start, stop = span.start // 4096 * 4096, -(-span.stop // 4096) * 4096
    patient.data[start:stop] = bytes(stop - start)
    (tmp_path / "zeros.gguf").write_bytes(patient.data)
    with_holes(tmp_path / "hole.gguf", bytes(patient.data), start, stop)
    with holes(tmp_path / "hole.gguf") as is_hole, holes(tmp_path / "zeros.gguf") as is_written:
        assert is_hole(span.start, span.stop) and not is_written(span.start, span.stop)
        assert not is_hole(start - 4097, stop) and not is_hole(span.start, len(patient.data) + 1)
    found = findings_of(tmp_path / "hole.gguf")
    assert found == findings_of(tmp_path / "zeros.gguf") and bool(found) == expected


def test_zeros_break_no_rule(tmp_path: Path) -> None:
    """Of any type: what is not read would have no finding."""
    for i, kind in TENSOR_TYPES.items():
        n = 64
        path = tmp_path / "zeros.gguf"
        path.write_bytes(build([("t", i, (n * kind.block_size,), bytes(n * kind.type_size))]))
        assert [code for code, *_ in findings_of(path) if code != "D003"] == [], kind.name
        gguf = open_gguf(path)
        (tensor,) = gguf.tensors
        read, hole = survey(gguf, tensor), of_hole(tensor)
        assert (read.first, read.runs, read.samples) == (hole.first, hole.runs, hole.samples)
        assert np.array_equal(read.prints, hole.prints)


def test_the_end_of_a_file_that_was_never_written(tmp_path: Path) -> None:
    data = SAMPLE.read_bytes()
    start = open_gguf(SAMPLE).data_start
    assert start is not None
    with_holes(tmp_path / "hole.gguf", data, -(-start // 4096) * 4096, len(data))
    (tmp_path / "zeros.gguf").write_bytes((tmp_path / "hole.gguf").read_bytes())
    found = findings_of(tmp_path / "hole.gguf")
    assert found == findings_of(tmp_path / "zeros.gguf") and "P009" in {code for code, *_ in found}
    assert check_file(tmp_path / "hole.gguf").verdict.kind == "broken"
