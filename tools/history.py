"""`python -m tools.history [VERSION ...]` judges every release of llama.cpp that npm keeps, and writes docs/history.md.

The builds are those of `@node-llama-cpp/linux-x64`, fetched into build/history (10 MB each, 330 MB in all). Judged is
the part `base` of each: the encoders and decoders, and the generic dot products of its plainest CPU library. With
versions the rows are printed, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hifi_ref.conform import report
from hifi_ref.conform.cases import golden_suites, vectors_folder
from hifi_ref.conform.command import judge_subject
from hifi_ref.conform.diagnose import Diagnosis
from hifi_ref.conform.judge import Cell
from hifi_ref.conform.report import NOT, CellReport, Subject
from hifi_ref.conform.report_lines import wrong
from hifi_ref.conform.targets import machine, open_targets
from hifi_ref.model_files.files import write_atomically
from tools.conformance import ROOT, run

PACKAGE = "@node-llama-cpp/linux-x64"
FOLDER = Path("build/history")
HEADING = """\
# What each release writes and reads

Every release of llama.cpp that npm keeps as `{package}`, judged by `python -m hifi_ref.conform` with
the golden vectors of v0.5.0: libggml-base, or the library that held everything before, with its generic dot products
where it exports them (b4435 to b4980 do not). Written by `python -m tools.history` on {date}; {vectors} vectors;
{machine}.

Up to b3995 the encoders were compiled for the machine, with fused multiply-adds. Up to b8179 the searches of IQ1_S and
IQ2_XXS end the process where weights are close to the largest binary32, and IQ1_M gives other blocks there and where
sub-blocks are empty, and not the same ones twice: two packages of one build (b4291) differ. Up to b8352 a block of
IQ4_NL whose trials give only sums of 0 gets a scale that is NaN, not 0.

A line below the table says what would give the same answers. Where few vectors are wrong several things would, and up
to b3995 the fused multiply-adds alone are the cause.

| npm | llama.cpp | cells | conform | formats that came | cells whose answers changed |
|---|---|---|---|---|---|
"""


class Judged(NamedTuple):
    """One release: its versions, what was found, and a digest of all answers of each cell."""

    version: str
    build: str
    subject: Subject
    answers: dict[str, str]


def versions() -> list[str]:
    """All that npm has, in their own order. Raises RuntimeError."""
    done = subprocess.run(["npm", "view", PACKAGE, "versions", "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"npm view {PACKAGE} failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def fetch(version: str) -> Path:
    """The folder with a version's libraries. Raises RuntimeError."""
    folder = FOLDER / version
    if not folder.is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        run("npm", "pack", f"{PACKAGE}@{version}", f"--pack-destination={FOLDER}")
        (archive,) = FOLDER.glob(f"node-llama-cpp-linux-x64-{version}.tgz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        archive.unlink()
    return folder / "package" / "bins" / "linux-x64"


def build_of(folder: Path) -> str:
    """The release of llama.cpp that a folder was built from."""
    found: dict[str, Any] = json.loads((folder / "_nlcBuildMetadata.json").read_text())
    return found["buildOptions"]["llamaCpp"]["release"]


def once(diagnose: Callable[[Cell], Diagnosis | None]) -> Callable[[Cell], Diagnosis | None]:
    """Diagnoses a cell the first time that just these cases fail: releases that follow each other fail alike."""
    found: dict[tuple[str, frozenset[str]], Diagnosis | None] = {}

    def found_or_diagnosed(cell: Cell) -> Diagnosis | None:
        key = cell.name, frozenset(verdict.case.id for verdict in cell.failures)
        if key not in found:
            found[key] = diagnose(cell)
        return found[key]

    return found_or_diagnosed


def judge(version: str) -> Judged:
    """Raises RuntimeError where it cannot be had."""
    folder = fetch(version)
    opened, _ = open_targets(f"ggml:{folder}#base", 300)
    subject, cells = judge_subject(opened[0], list(golden_suites(vectors_folder())))
    return Judged(version, build_of(folder), subject, {cell.name: digest(cell) for cell in cells if cell.offered})


def digest(cell: Cell) -> str:
    """Of the answers of a cell, in the order of its cases; where weights overflow, old searches answer by chance."""
    whole = hashlib.sha256()
    for verdict in cell.verdicts:
        if "Overflow" not in verdict.case.flags:
            whole.update(b"-" if verdict.observed is None else verdict.observed.tobytes())
    return whole.hexdigest()


def row(one: Judged, before: list[Judged]) -> str:
    """One line of the table; ``before`` are the releases that came before it."""
    last = {name: answers for earlier in before for name, answers in earlier.answers.items()}
    formats = {format_of(name) for name in last}
    came = dict.fromkeys(format_of(name) for name in one.answers if before and format_of(name) not in formats)
    changed = [name for name, answers in one.answers.items() if last.get(name, answers) != answers]
    good = sum(cell.verdict != NOT for cell in one.subject.offered)
    cells = (one.version, one.build, str(len(one.subject.offered)), str(good), ", ".join(came), ", ".join(changed))
    return f"| {' | '.join(cells)} |".replace("_", r"\_")


def format_of(cell: str) -> str:
    return cell.partition(".")[0]


def why(cell: CellReport) -> str:
    """What is wrong with a cell, in words that do not change with the process."""
    if cell.diagnosis is not None:
        return cell.diagnosis.says
    return re.sub(r"(died of \w+).*", r"The process \1.", cell.failures[0].detail)


def deviations(judged: list[Judged]) -> list[str]:
    """What does not conform, each kind once, with the releases that it is in."""
    found: dict[str, list[str]] = {}
    for one in judged:
        for cell in one.subject.offered:
            if cell.failures:
                found.setdefault(f"**{cell.name}**: {wrong(cell)}. {why(cell)}".rstrip(), []).append(one.build)
    return [f"- {text} ({span(builds)})".replace("_", r"\_") for text, builds in found.items()]


def span(builds: list[str]) -> str:
    return builds[0] if len(builds) == 1 else f"{builds[0]} to {builds[-1]}, {len(builds)} releases"


def main(chosen: list[str]) -> None:
    judged = []
    report.diagnose = once(report.diagnose)  # type: ignore[assignment]
    for version in chosen or versions():
        print(f"{version} ...", file=sys.stderr, flush=True)
        judged.append(judge(version))
    rows = [row(one, judged[:i]) for i, one in enumerate(judged)]
    lines = [*rows, "", "## What does not conform", "", *deviations(judged)]
    if chosen:
        print("\n".join(lines))
        return
    vectors = sum(len(suite.cases) for suite in golden_suites(vectors_folder()))
    date, on = datetime.now(UTC).date(), ", ".join(machine().values())
    heading = HEADING.format(package=PACKAGE, date=date, vectors=f"{vectors:,}", machine=on)
    write_atomically(ROOT / "docs" / "history.md", heading + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
