"""What is asked and what is expected: the golden vectors, read from a checkout or from the installed package.

A suite describes its format by itself, layout included, so that formats which this package does not compute can be
judged too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from hifi_ref.commands.golden_folder import golden_folder
from hifi_ref.formats.layout import Field, Layout

OPERATIONS = ("decode", "encode", "dot")
DIALECT = "llama.cpp"
HEXADECIMAL = re.compile("[0-9a-f]+")


class VectorError(Exception):
    """The vectors cannot be used; one sentence says why."""


@dataclass(frozen=True, eq=False)
class Case:
    """One question, and its answer.

    given: decode has blocks u8[n]; encode weights f32[n] and importance f32[n] or None; dot w u8[n] and a u8[n].
    expected: f32 for decode and dot, u8 for encode. context: what is given besides: rows=3 where weights or w are so
    many rows, and for some encoders such as outliers=3. profiles: what a profile's build writes, where it differs; None
    where that depends on more than what is given.
    """

    id: str
    group: str
    flags: tuple[str, ...]
    result: str
    given: Mapping[str, np.ndarray | None]
    expected: np.ndarray
    context: Mapping[str, float] = field(default_factory=dict)
    profiles: Mapping[str, np.ndarray | None] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        """An input that is there, as all but importance are."""
        values = self.given[name]
        assert values is not None
        return values

    @property
    def rows(self) -> int:
        return int(self.context.get("rows", 1))


@dataclass(frozen=True, eq=False)
class Suite:
    """All cases of one operation of one format. notes: flag -> what goes wrong."""

    layout: Layout
    operation: str
    cases: tuple[Case, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.layout.name}.{self.operation}"


def vectors_folder() -> Path:
    """The golden vectors: beside the package in a checkout, inside it where it is installed."""
    try:
        return golden_folder()
    except FileNotFoundError as error:
        raise VectorError(f"{error}: pass --vectors=DIR") from None


def golden_suites(
    folder: Path, dialect: str = DIALECT, formats: Sequence[str] = (), operations: Sequence[str] = OPERATIONS
) -> Iterator[Suite]:
    """The suites of a dialect, in the order of its index. No formats means all. Raises VectorError."""
    paths = _paths(folder, dialect)
    known = {name for name, _, _ in paths}
    for name in formats:
        if name not in known:
            raise VectorError(f"no format of {dialect} is called {name!r}; there are {' '.join(dict(_named(paths)))}")
    for name, operation, path in paths:
        if operation in operations and (not formats or name in formats):
            yield read_suite(path)


def question(suite: Suite, case: Case) -> str:
    """A case as line_target asks it."""
    more = [f"{key}={value}" for key, value in case.context.items()]
    return " ".join([suite.operation, suite.layout.name, *map(hexed, case.given.values()), *more])


def digest(suites: Sequence[Suite]) -> str:
    """SHA-256 of what is asked and expected: of each case a line, its question and behind a space what is expected."""
    total = hashlib.sha256()
    for suite in suites:
        for case in suite.cases:
            total.update(f"{question(suite, case)} {hexed(case.expected)}\n".encode())
    return total.hexdigest()


def hexed(values: np.ndarray | None) -> str:
    """Bytes in hexadecimal, numbers little-endian; - for none."""
    if values is None:
        return "-"
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes().hex()


def find_case(suites: Sequence[Suite], id: str) -> tuple[Suite, Case]:
    """The one case with this id. Raises VectorError, which names near ones."""
    found = [(suite, case) for suite in suites for case in suite.cases if case.id == id]
    if len(found) > 1:
        cells = ", ".join(suite.name for suite, _ in found)
        raise VectorError(f"the id {id!r} is that of a case of each of {cells}: --formats and --operations choose one")
    if not found:
        raise VectorError(no_case(suites, id))
    return found[0]


def no_case(suites: Sequence[Suite], id: str) -> str:
    """A sentence that says so and names the ids that come nearest."""
    ids = sorted({case.id for suite in suites for case in suite.cases})
    near = [known for known in ids if len(id) >= 4 and known.startswith(id)][:3] or get_close_matches(id, ids)
    hint = f"; near it are {', '.join(near)}" if near else f" among these {len(ids)}"
    # The ids of the golden vectors are hexadecimal, those of bulk.py are words.
    elsewhere = not HEXADECIMAL.fullmatch(id) and all(HEXADECIMAL.fullmatch(known) for known in ids)
    return f"no case has the id {id!r}{hint}{'; --level=2 has more' if elsewhere else ''}"


def _paths(folder: Path, dialect: str) -> list[tuple[str, str, Path]]:
    """(format, operation, file): those of the index in its order, then those that it does not list."""
    found = sorted((folder / dialect).glob("*.*.json"))
    if not found:
        raise VectorError(f"{folder} holds no vectors of the dialect {dialect!r}")
    listed: list[str] = []
    if (folder / "index.json").is_file():
        listed = [entry["path"] for entry in read_json(folder / "index.json").get("files", [])]
    order = {path: i for i, path in enumerate(listed)}
    ranked = sorted(found, key=lambda path: order.get(f"{dialect}/{path.name}", len(order)))
    return [(name, operation, path) for path in ranked for name, operation in [path.name.split(".")[:2]]]


def _named(paths: list[tuple[str, str, Path]]) -> list[tuple[str, None]]:
    return [(name, None) for name, _, _ in paths]


def read_json(path: Path) -> Any:
    """What a file holds. Raises VectorError."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise VectorError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise VectorError(f"{path} is no JSON: {error}") from error


@functools.cache
def read_suite(path: Path) -> Suite:
    """One file of vectors. Raises VectorError."""
    content = read_json(path)
    try:
        fields = tuple(Field(e["field"], e["type"], e["count"], e["holds"]) for e in content["layout"])
        layout = Layout(content["format"], content["type_id"], content["block_size"], fields, content["dot_with"])
        operation = content["operation"]
        cases = tuple(_case(operation, group["name"], test) for group in content["groups"] for test in group["tests"])
        notes = {flag: note["description"] for flag, note in content["notes"].items()}
        return Suite(layout, operation, cases, notes)
    except (KeyError, TypeError, ValueError) as error:
        raise VectorError(f"{path} is no file of vectors as the schema describes them: {error!r}") from error


def _case(operation: str, group: str, test: Mapping[str, Any]) -> Case:
    given: dict[str, np.ndarray | None]
    if operation == "decode":
        given = {"blocks": _bytes(test["blocks"])}
    elif operation == "encode":
        importance = test["importance"]
        given = {"weights": _floats(test["weights"]), "importance": None if importance is None else _floats(importance)}
    else:
        given = {"w": _bytes(test["w"]), "a": _bytes(test["a"])}
    expected = _bytes(test["expected"]) if operation == "encode" else _floats(test["expected"])
    context = test.get("context", {}) | ({"rows": test["rows"]} if "rows" in test else {})
    arm64 = {"clang-arm64": test["arm64"]} if "arm64" in test else {}
    profiles = {
        profile: None if blocks is None else _bytes(blocks)
        for profile, blocks in (arm64 | test.get("profiles", {})).items()
    }
    return Case(test["id"], group, tuple(test["flags"]), test["result"], given, expected, context, profiles)


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), np.uint8)


def _floats(text: str) -> np.ndarray:
    return _bytes(text).view("<f4").astype(np.float32)
