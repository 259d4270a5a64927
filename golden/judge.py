"""An implementation against the vectors: tests of equal shape are run together, and the failing ones named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DIALECT = "llama.cpp"
# The inputs of a test, by operation.
GIVEN = {"decode": ("blocks",), "encode": ("weights", "importance"), "dot": ("w", "a")}


def load(format: str, operation: str, folder: Path = HERE / DIALECT) -> dict[str, Any]:
    return json.loads((folder / f"{format}.{operation}.json").read_text())


def all_tests(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [test for group in content["groups"] for test in group["tests"]]


def raw(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), np.uint8)


def floats(text: str) -> np.ndarray:
    return raw(text).view("<f4").astype(np.float32)


def batches(content: dict[str, Any], size: int = 1 << 30) -> Iterator[list[dict[str, Any]]]:
    """Tests that one call can take: of equal shapes, with the same importance or the same activations, in order.

    At most ``size`` tests each.
    """
    operation = content["operation"]
    found: dict[Any, list[dict[str, Any]]] = {}
    for test in all_tests(content):
        shared = test["a"] if operation == "dot" else test.get("importance")
        sizes = tuple(len(test[k] or "") for k in GIVEN[operation])
        found.setdefault((sizes, test.get("rows", 1), shared), []).append(test)
    for tests in found.values():
        for i in range(0, len(tests), size):
            yield tests[i : i + size]


def observed(content: dict[str, Any], tests: list[dict[str, Any]], run: Callable) -> np.ndarray:
    """What the implementation ``run`` makes of one batch: a row for each test. See known_bugs.Bug.run for its form.

    A test of several rows gives as many rows to ``run``.
    """
    rows = len(tests) * tests[0].get("rows", 1)
    if content["operation"] == "decode":
        blocks = np.stack([raw(test["blocks"]) for test in tests])
        return run(blocks.reshape(-1, content["type_size"])).reshape(len(tests), -1)
    if content["operation"] == "dot":
        w = np.stack([raw(test["w"]) for test in tests]).reshape(rows, -1)
        return run(w, raw(tests[0]["a"])).reshape(len(tests), -1)
    importance = tests[0]["importance"]
    x = np.stack([floats(test["weights"]) for test in tests]).reshape(rows, -1)
    return run(x, None if importance is None else floats(importance)).reshape(len(tests), -1)


def agrees(result: np.ndarray, tests: list[dict[str, Any]]) -> np.ndarray:
    """bool[tests]: bits are equal; of floats any NaN is as good as another."""
    if result.dtype != np.float32:
        return (result == np.stack([raw(test["expected"]) for test in tests])).all(axis=1)
    expected = np.stack([floats(test["expected"]) for test in tests])
    same = (result.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(result) & np.isnan(expected))
    return same.all(axis=1)


def failing(content: dict[str, Any], run: Callable, size: int = 1 << 30) -> Iterator[dict[str, Any]]:
    """The tests that an implementation fails, as far as they are asked for: batch after batch."""
    for tests in batches(content, size):
        result = np.ascontiguousarray(observed(content, tests, run))
        for i in np.flatnonzero(~agrees(result, tests)):
            yield tests[i]
