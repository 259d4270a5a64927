"""A small model, and what the release makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reference import fetch
from tests import sources
from tests.check.injuries import Sound, sound_files
from tools import make_sample

Q4_K_M, Q8_0 = 15, 7


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """f32.gguf, what the release makes of it, and its importance in both forms."""
    folder = tmp_path_factory.mktemp("model")
    make_sample.write_model(folder / "f32.gguf", layers=1)
    for file_type in (Q4_K_M, Q8_0):
        path = folder / f"{file_type}.gguf"
        assert make_sample.quantize(fetch.library_dir(), folder / "f32.gguf", path, file_type, 2, weighted=False) == 0
    weighted = folder / "weighted.gguf"
    assert make_sample.quantize(fetch.library_dir(), folder / "f32.gguf", weighted, Q4_K_M, 2) == 0
    sources.write_imatrix(folder / "imatrix.gguf", make_sample.importance())
    (folder / "imatrix.dat").write_bytes(sources.dat_imatrix(make_sample.importance()))
    return folder


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sound]:
    """A sound file by the name of its matrices' type."""
    return sound_files(tmp_path_factory.mktemp("sound"))
