"""Failures that are expected, from a file. Each has a reason, and one that no longer fails is reported.

# the kernels of AVX2 negate activations
Q4_0.dot: cannot negate an activation code of -128
*.encode: no encoder is exact yet
*.dot unreachable-activations: where --strict accepts none of these
Q4_1.decode 32681c0ec4d8bdab: this vector alone
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hifi_ref.conform.judge import Cell, Verdict

LINE = re.compile(r"(?P<cell>[\w*]+\.(?:decode|encode|dot|\*))(?:\s+(?P<id>[^\s:]+))?\s*:\s*(?P<reason>.*)")


class XfailError(Exception):
    """The file cannot be used; one sentence says why."""


@dataclass(frozen=True)
class Expectation:
    """One line: the cells, the vector or the deviation's flag (None: any), why it fails, and where it stands."""

    cells: str
    id: str | None
    reason: str
    line: int

    def covers(self, cell: Cell, verdict: Verdict) -> bool:
        return fnmatchcase(cell.name, self.cells) and self.id in (None, verdict.case.id, verdict.deviation)

    def __str__(self) -> str:
        return f"line {self.line}, {self.cells}{'' if self.id is None else f' {self.id}'}: {self.reason}"


def read_expectations(path: Path) -> list[Expectation]:
    """Raises XfailError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise XfailError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    expectations = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise XfailError(f"{path}, line {number}: {line!r} is not FORMAT.OPERATION [ID or DEVIATION]: REASON")
        if not match["reason"]:
            raise XfailError(f"{path}, line {number}: a reason is missing behind {line!r}")
        expectations.append(Expectation(match["cell"], match["id"], match["reason"], number))
    return expectations


def expectation_of(cell: Cell, verdict: Verdict, expectations: Iterable[Expectation]) -> Expectation | None:
    """The first line that covers a failure."""
    return next((e for e in expectations if e.covers(cell, verdict)), None)


def unexpected_passes(cells: Sequence[Cell], expectations: Iterable[Expectation]) -> list[Expectation]:
    """The lines that cover a judged case but no failure."""
    return [
        e for e in expectations
        if any(e.covers(cell, v) for cell in cells for v in cell.verdicts)
        and not any(e.covers(cell, v) for cell in cells for v in cell.failures)
    ]  # fmt: skip
