"""A module with a bug, and a program to be judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import ROOT


@pytest.fixture
def spoilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that swaps nibbles and can do nothing else."""
    (tmp_path / "spoilt.py").write_text(
        "from hifi_ref import api\n"
        "def decode(name, blocks):\n"
        "    if name != 'Q4_0': raise NotImplementedError\n"
        "    blocks = blocks.copy()\n"
        "    blocks[:, 2:] = blocks[:, 2:] >> 4 | blocks[:, 2:] << 4\n"
        "    return api.decode(name, blocks, lane='numpy')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return "python:spoilt"
