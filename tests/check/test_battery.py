"""Every damage of both tables is found, plain and with the source; verdicts agree with the release's loader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reference.loader import outcomes
from tests.check.damages import DAMAGES
from tests.check.helpers import different
from tests.check.injuries import INJURIES, Patient, Sound
from tests.check.test_reports import schema
from tests.hostile import run_check


def report_of(path: Path, *flags: str) -> tuple[int, dict]:
    code, out, err = run_check(path, "--json", *flags)
    assert err == ""
    report = json.loads(out)
    assert list(schema().iter_errors(report)) == []
    return code, report


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_found(tmp_path: Path, folder: Path, name: str) -> None:
    damage, path = DAMAGES[name], tmp_path / "q.gguf"
    damage.spoil(folder / "15.gguf", path)
    code, report = report_of(path)
    assert (set(report["counts"]), report["verdict"]["kind"]) == (damage.plain, damage.kind[0])
    assert code == (1 if damage.plain - {"G025"} else 0)
    (outcome,) = outcomes([path])
    assert report["loading"]["kind"] in ("loads" if outcome.loads else "will not load", "not judged")
    assert outcome.loads or code == 1
    code, report = report_of(path, f"--source={folder / 'f32.gguf'}")
    assert (set(report["counts"]), report["verdict"]["kind"]) == (damage.plain | damage.sourced, damage.kind[1])
    assert code == 1 and ": every tensor is" not in report["verdict"]["sentence"]


@pytest.mark.parametrize("name", ["15.gguf", "7.gguf", "weighted.gguf", "f32.gguf"])
def test_what_is_sound_loads(folder: Path, name: str) -> None:
    (outcome,) = outcomes([folder / name])
    code, report = report_of(folder / name)
    assert outcome.loads and code == 0
    assert (report["verdict"]["kind"], report["loading"]["kind"]) == ("sound", "loads")


@pytest.mark.parametrize("name", INJURIES)
def test_an_injury_is_found(tmp_path: Path, sound: Callable[[str], Sound], name: str) -> None:
    """Plain by its codes; with the source it is told which tensors were changed, these and no others."""
    kind, injure, expected = INJURIES[name]
    before, path = sound(kind), tmp_path / "damaged.gguf"
    patient = Patient(before.path)
    injure(patient)
    path.write_bytes(patient.data)
    code, report = report_of(path, "--ignore=L")
    assert code == 1 and expected <= set(report["counts"]), report["findings"]
    assert report["verdict"]["kind"] in ("broken", "not sound")
    matrix = [f"--imatrix={before.imatrix}"] if before.imatrix else []
    code, report = report_of(path, "--ignore=L", f"--source={before.source}", *matrix)
    assert code == 1 and expected <= set(report["counts"])
    assert set(different(report)) == patient.changed(before.path)
    assert ": every tensor is" not in report["verdict"]["sentence"]
