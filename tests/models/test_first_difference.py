"""The tool that says where a pass first leaves the release: nowhere, or where a fault was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hifi_ref.models import exact_mode
from tests.models import small
from tools.first_difference import LOGITS, differences

IDS = list(range(3, 25))


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_nothing_differs(tmp_path: Path, name: str) -> None:
    assert differences(str(small.write(tmp_path / "model.gguf", name)), IDS) == []


def test_a_fault_is_found_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return (gate / (1 + np.exp(-gate.astype(np.float64))) * up).astype(np.float32)

    path = str(small.write(tmp_path / "model.gguf", "llama"))
    faulty = exact_mode.ARITHMETIC._replace(swiglu=swiglu)
    monkeypatch.setattr(exact_mode, "ARITHMETIC", faulty)
    found = differences(path, IDS)
    assert found[0].name == "blk.0.ffn_down.weight" and 0 < found[0].count < found[0].of
    assert found[0].largest < 1e-3 and found[-1].name == LOGITS
