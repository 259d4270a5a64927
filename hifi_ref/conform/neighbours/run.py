"""A run on the vectors of a neighbouring system, as a report like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import hifi_ref
from hifi_ref.commands import provenance, terminal
from hifi_ref.conform.cases import VectorError
from hifi_ref.conform.judge import ACCEPTABLE, EXACT
from hifi_ref.conform.line_target import NoAnswerError
from hifi_ref.conform.neighbours.diagnose import diagnose
from hifi_ref.conform.neighbours.judge import Cell, Verdict, different, judge_file
from hifi_ref.conform.neighbours.vectors import OPERATIONS, VectorFile, read_dialect
from hifi_ref.conform.report import (
    CONFORMS,
    NOT,
    NOT_OFFERED,
    SHOWN,
    CellReport,
    Failure,
    Report,
    Subject,
    reproduced_by,
)
from hifi_ref.conform.targets import Opened, digests, machine, open_targets


def files_of(
    folder: Path, dialect: str, schemes: Sequence[str], operations: Sequence[str], only: Sequence[str]
) -> list[VectorFile]:
    """What is to be asked; the operation "dot" stands for "matmul". Raises VectorError."""
    from dataclasses import replace

    asked = [{"dot": "matmul"}.get(operation, operation) for operation in operations]
    asked += ["loss"] if {"encode", "decode", "matmul"} <= set(asked) else []
    for operation in asked:
        if operation not in OPERATIONS:
            raise VectorError(f"no operation is called {operation!r}; there are {' '.join(OPERATIONS)}")
    files = read_dialect(folder, dialect, schemes, asked)
    if not only:
        return files
    known = {vector.id for file in files for vector in file.vectors}
    for id in only:
        if id not in known:
            raise VectorError(f"no case has the id {id!r} among these {len(known)}")
    files = [replace(file, vectors=tuple(v for v in file.vectors if v.id in only)) for file in files]
    return [file for file in files if file.vectors]


def report_of(
    spelling: str, dialect: str, files: Sequence[VectorFile], seconds: float, debug: bool, repeated: Sequence[str] = ()
) -> Report:
    """Judge a target. Raises TargetError."""
    date = provenance.date()
    opened, not_judged = open_targets(spelling, seconds, debug)
    subjects = tuple(_subject(one, files, repeated) for one in opened)
    total = hashlib.sha256()
    for file in files:
        total.update(file.path.read_bytes())
    count = sum(len(file.vectors) for file in files)
    facts = {"suites": len(files), "cases": count, "seed": 0, "sha256": total.hexdigest()}
    versions = provenance.versions()
    return Report(hifi_ref.__version__, dialect, 1, facts, machine(), subjects, not_judged, (), date, versions)


def _subject(one: Opened, files: Sequence[VectorFile], repeated: Sequence[str]) -> Subject:
    try:
        name = one.target.hello()
        cells = []
        with terminal.progress(len(files), "cells", one.spelling[-40:]) as advance:
            for file in files:
                cells.append(cell_report(judge_file(one.target, file), one.spelling, repeated))
                advance(1)
    except NoAnswerError as error:
        return Subject(one.spelling, "", digests(one.libraries), (), str(error))
    finally:
        one.target.close()
    return Subject(one.spelling, name, digests(one.libraries), tuple(cells))


def cell_report(cell: Cell, spelling: str, repeated: Sequence[str] = ()) -> CellReport:
    """A cell's verdict, its first failures and its diagnosis, and the faults that its right answers show."""
    file, wrong = cell.file, cell.failures
    verdict = NOT_OFFERED if not cell.verdicts else NOT if wrong else CONFORMS
    failures = tuple(
        _failure(v, reproduced_by(spelling, file.scheme, file.operation, repeated, v.vector.id)) for v in wrong[:SHOWN]
    )
    counts = dict(sorted(cell.counts.items()))
    accepted, faults = cell.flags(ACCEPTABLE), cell.flags(EXACT)
    says = {flag: file.notes[flag]["description"] for flag in {**accepted, **faults}}
    return CellReport(
        file.scheme, file.operation, verdict, len(file.vectors), counts, cell.not_asked, cell.declined, diagnose(cell),
        failures, accepted, faults, says,
    )  # fmt: skip


def _failure(verdict: Verdict, command: str) -> Failure:
    vector = verdict.vector
    if verdict.observed is None:
        return Failure(vector.id, vector.comment[:60], vector.flags, verdict.detail, reproduce=command)
    for name, expected in vector.expected.items():
        observed = verdict.observed[name].reshape(-1)
        at = np.flatnonzero(different(observed, expected))
        if at.size:
            index = int(at[0])
            row, kind = _row(vector.comment, expected, index)
            return Failure(
                vector.id, _parameters(verdict), vector.flags, f"{at.size} of {expected.size} differ{kind}", row, name,
                "value", index, _shown(expected.reshape(-1)[index]), _shown(observed[index]), None, command,
            )  # fmt: skip
    raise AssertionError("an answer that differs nowhere is no failure")


def _parameters(verdict: Verdict) -> str:
    return ", ".join(f"{name}={value}" for name, value in verdict.vector.parameters.items()) or "no parameters"


def _row(comment: str, expected: np.ndarray, index: int) -> tuple[int | None, str]:
    """The row of a value, and what kind it is, where the vector's rows have kinds."""
    kinds = comment.split(", ") if comment else []
    if not kinds or expected.shape[0] % len(kinds):
        return None, ""
    row = index // (expected.size // len(kinds))
    return row, f", first in a row of kind {kinds[row]}"


def _shown(value: np.generic) -> str:
    """A number, with a float's bits."""
    if value.dtype.kind not in "fV":
        return str(value)
    width = 2 * value.dtype.itemsize
    return f"{float(value)!r} ({int(value.view(f'u{value.dtype.itemsize}')):0{width}x})"
