"""The records that findings are kept in. What their codes mean stands in finding_codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hifi_ref.model_files.finding_codes import CODES


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``offset`` is a byte offset in the file, of the first where it occurs ``count`` times.

    ``file`` names the file where a model has several.
    """

    code: str
    message: str
    tensor: str | None = None
    field: str | None = None
    block: int | None = None
    offset: int | None = None
    count: int = 1
    file: str | None = None

    @property
    def severity(self) -> str:
        return CODES[self.code].severity


@dataclass
class Findings:
    """Every code's number of findings, and the first ``limit`` of each: a broken file may hold millions.

    What ``ignores`` says yes to is only counted, in ``ignored``.
    """

    limit: int = 100
    ignores: Callable[[Finding], bool] = lambda finding: False
    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        if self.ignores(finding):
            self.ignored[finding.code] += 1
            return
        self.counts[finding.code] += 1
        if self.counts[finding.code] <= self.limit:
            self.kept.append(finding)

    def take(self, others: Findings, file_of: Callable[[Finding], str | None]) -> None:
        """Add others, each with the name of its file; None where there is but one."""
        for finding in others.kept:
            if sum(kept.code == finding.code for kept in self.kept) < self.limit:
                file = file_of(finding)
                named = replace(finding, message=f"{file}: {finding.message}", file=file) if file else finding
                self.kept.append(named)
        self.counts += others.counts
        self.ignored += others.ignored

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.kept if finding.severity == "error"]
