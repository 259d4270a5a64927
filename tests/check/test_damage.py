"""No damage is found in sound files, and what is found does not depend on the byte order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests import sources
from tests.check import sound_fleet
from tests.check.helpers import findings_of
from tests.check.injuries import Patient
from tests.paths import SAMPLE


def members() -> list[tuple[str, int, int]]:
    """Every statistic, every file type, and files whose tensors begin with pages."""
    fleet = sound_fleet.fleet()
    statistics = list(dict.fromkeys(statistic for statistic, *_ in fleet))
    plain = [member for member in fleet if member[2] == 32]
    chosen = []
    for i, statistic in enumerate(statistics):
        of_it = [member for member in plain if member[0] == statistic]
        chosen.append(of_it[7 * i % len(of_it)])
    missing = set(sound_fleet.TYPES) - {file_type for _, file_type, _ in chosen}
    chosen += [("gaussian", file_type, 32) for file_type in sorted(missing)]
    return chosen + [member for member in fleet if member[2] != 32]


def test_no_false_alarm(tmp_path: Path) -> None:
    """Of the fleet's files; `python -m tests.check.sound_fleet` goes through all."""
    chosen = sorted(members())
    assert len(chosen) >= 40 and {m[1] for m in chosen} == set(sound_fleet.TYPES)
    # They have no tokenizer, so llama.cpp would not load them
    others = {"L007"}
    found = [(member, line) for member, lines in sound_fleet.findings(tmp_path, chosen) for line in lines]
    assert [(member, line) for member, line in found if line[:4] not in others] == []


def test_the_other_byte_order(tmp_path: Path) -> None:
    path = sources.big_endian(SAMPLE, tmp_path / "big.gguf")
    patient = Patient(path)
    # The sign of a big-endian number is in its first byte.
    patient.data[patient.block("blk.0.attn_q", 31, "dmin")] ^= 0x80
    at = patient.tensor("output_norm").start
    patient.data[at : at + 4] = np.array(1e30, ">f4").tobytes()
    path.write_bytes(patient.data)
    assert [code for code, *_ in findings_of(path)] == ["P011", "P013"]
