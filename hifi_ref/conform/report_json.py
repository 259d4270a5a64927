"""The report as JSON's types; report.schema.json describes them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hifi_ref.conform.report import CellReport, Report

SCHEMA = "hifi_ref.conform/3"


def to_json(report: Report) -> dict[str, Any]:
    """The whole report."""
    return {
        "schema": SCHEMA,
        "hifi_ref": report.version,
        "date": report.date,
        "versions": report.versions,
        "conforms": report.conforms,
        "dialect": report.dialect,
        "level": report.level,
        "profile": report.profile,
        "vectors": report.vectors,
        "machine": report.machine,
        "subjects": [
            {
                "target": subject.target,
                "name": subject.name,
                "conforms": subject.conforms,
                "fault": subject.fault,
                "libraries": list(subject.libraries),
                "profiles": [match._asdict() for match in subject.profiles],
                "cells": [_cell_json(cell) for cell in subject.cells],
            }
            for subject in report.subjects
        ],
        "not_judged": [{"target": target, "reason": reason} for target, reason in report.not_judged.items()],
        "unexpected_passes": list(report.unexpected_passes),
    }


def _cell_json(cell: CellReport) -> dict[str, Any]:
    diagnosis = None if cell.diagnosis is None else cell.diagnosis._asdict()
    return {**asdict(cell), "diagnosis": diagnosis}
