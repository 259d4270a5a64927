"""A file of vectors: its header, its tests in groups, its bytes, and its entry in the index."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hifi_ref.formats import Format

SCHEMA = "hifi_ref.golden/1"
INDEX_SCHEMA = "hifi_ref.golden.index/1"


def content_of(
    f: Format,
    dialect: str,
    operation: str,
    reference: dict[str, str],
    note: Callable[[str], dict[str, Any]],
    tests: Iterable[tuple[str, dict[str, Any]]],
) -> dict[str, Any]:
    """The content of one file.

    Args:
        reference: where the expected bits come from.
        note: what is said of a flag.
        tests: group and test, as golden.vectors.test_of makes them. Of equal ones the first counts.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    seen = set()
    for name, test in tests:
        if test["id"] not in seen:
            groups.setdefault(name, []).append(test)
        seen.add(test["id"])
    flags = sorted({flag for group in groups.values() for test in group for flag in test["flags"]})
    return {
        "schema": SCHEMA,
        "format": f.name,
        "dialect": dialect,
        "operation": operation,
        "type_id": f.type_id,
        "block_size": f.block_size,
        "type_size": f.type_size,
        "dot_with": f.dot_with,
        "layout": [
            {"field": field.name, "type": field.dtype, "count": field.count, "offset": f.layout.offset(field.name),
             "bytes": field.size, "holds": field.holds}
            for field in f.layout.fields
        ],
        "reference": reference,
        "notes": {flag: note(flag) for flag in flags},
        "groups": [{"name": name, "tests": tests} for name, tests in groups.items()],
    }  # fmt: skip


def text_of(value: Any) -> str:
    """JSON, a line an entry, except that lists of numbers take one line."""
    text = json.dumps(value, indent=1, ensure_ascii=True) + "\n"
    return re.sub(r"\[\s+(\d[\d,\s]*\d|\d)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)


def write(to: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write a file at its place below the folder ``to``; its entry in the index."""
    text = text_of(content)
    path = f"{content['dialect']}/{content['format']}.{content['operation']}.json"
    (to / path).write_text(text)
    return {
        "path": path,
        "format": content["format"],
        "operation": content["operation"],
        "tests": sum(len(group["tests"]) for group in content["groups"]),
        "bytes": len(text),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def index_of(
    dialect: str, reference: dict[str, Any], files: list[dict[str, Any]], **more: dict[str, Any]
) -> dict[str, Any]:
    """The content of an index."""
    return {"schema": INDEX_SCHEMA, "dialects": [dialect], "reference": reference, "files": files} | more
