"""The planted bugs: what those who port kernels of C get wrong. The parts stand in planted_*.py."""

from __future__ import annotations

from tests.conform.battery import planted_blocks, planted_encoders, planted_supers
from tests.conform.battery.plant import Planted

PLANTED: tuple[Planted, ...] = tuple(
    Planted(section, *bug)
    for part in (planted_blocks.BUGS, planted_supers.BUGS, planted_encoders.BUGS)
    for section, bugs in part.items()
    for bug in bugs
)
