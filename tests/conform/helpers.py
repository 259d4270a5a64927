"""Implementations to be judged, and what conform says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema
import numpy as np
import pytest

from hifi_ref import api
from hifi_ref.conform import cases, command, judge, report, serve
from hifi_ref.formats import FORMATS
from tests.paths import ROOT

EXAMPLES = ROOT / "docs" / "examples" / "conform"


SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "hifi_ref" / "conform" / "report.schema.json").read_text()))
SUITES = {suite.name: suite for suite in cases.golden_suites(cases.vectors_folder())}


class InProcess:
    """A module-like thing as a target, without a process of its own."""

    def __init__(self, module: Any):
        self.module = module

    def ask(
        self, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float]
    ) -> np.ndarray:
        return serve.call(self.module, operation, name, given, context)


class Reference:
    """hifi_ref itself; a subclass spoils something."""

    def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
        return api.decode(name, blocks, lane="numpy")

    def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return api.encode(name, x, weights, lane="numpy")

    def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        return api.dot(name, w, a, lane="numpy")


def cell_of(module: Any, name: str) -> judge.Cell:
    return judge.judge_suite(InProcess(module), SUITES[name])


def reported(module: Any, name: str) -> report.CellReport:
    return report.cell_report(cell_of(module, name), "python:spoilt", target=InProcess(module))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command.main(arguments)
    return code, *capsys.readouterr()


def spoilt(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Reference:
    """The reference with blocks of one format changed before they are read."""
    size = FORMATS[name].type_size

    class Spoilt(Reference):
        def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
            return super().decode(name, change(blocks.reshape(-1, size)).reshape(blocks.shape))

        def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
            return super().dot(name, change(w.reshape(-1, size)).reshape(w.shape), a)

    return Spoilt()
