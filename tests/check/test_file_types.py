"""No false alarm on any file type that the release writes, and one where the type does not fit."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hifi_ref.check.command import FILE_TYPES, check_file
from hifi_ref.model_files.gguf_file import open_gguf
from reference import fetch
from tests import sources
from tests.check.helpers import findings_of
from tests.hostile import run_check
from tests.paths import SAMPLE
from tools import make_sample


@pytest.fixture(scope="module")
def f32_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "f32.gguf"
    make_sample.write_model(path, layers=1)
    return path


@pytest.mark.parametrize("file_type", sorted(set(FILE_TYPES) - {39}))
def test_no_false_alarm_on_any_file_type(tmp_path: Path, f32_model: Path, file_type: int) -> None:
    """Every file type that the release's quantizer accepts: all of ours but NVFP4, which it does not offer."""
    path = tmp_path / "q.gguf"
    assert make_sample.quantize(fetch.library_dir(), f32_model, path, file_type, threads=2) == 0
    report = check_file(path)
    assert [f.message for f in report.findings.kept] == []
    assert len(report.gguf.tensors) == 12
    # And it is what the source gives; formats that search a grid are slow, so a row of each tensor will do.
    imatrix = tmp_path / "imatrix.dat"
    imatrix.write_bytes(sources.dat_imatrix(make_sample.importance()))
    sample = ["--sample=1"] if FILE_TYPES[file_type][0].startswith("IQ") else []
    code, out, err = run_check(path, f"--source={f32_model}", f"--imatrix={imatrix}", *sample)
    whole = ": every tensor is bit for bit what the reference encoder"
    assert (code, err) == (0, "") and (": 12 of 12 tensors, in a sample" if sample else whole) in out, out


def test_a_file_type_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "f.gguf"
    value = open_gguf(SAMPLE).metadata["general.file_type"]
    for number, wanted in [
        (7, f"general.file_type, at byte {value.start}, is 7 (Q8_0), but no tensor is Q8_0"),
        (5, f"general.file_type, at byte {value.start}, is 5, which stands for no file type in use"),
    ]:
        damaged = bytearray(SAMPLE.read_bytes())
        damaged[value.start : value.start + 4] = struct.pack("<I", number)
        path.write_bytes(damaged)
        assert findings_of(path) == [("G021", wanted, 1, None)]
