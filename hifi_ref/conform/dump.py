"""One case whole, for somebody who debugs it: what is given, what is expected, field by field and value by value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType

from hifi_ref import api
from hifi_ref.commands import terminal
from hifi_ref.conform.cases import Case, Suite, hexed
from hifi_ref.dot_bound import dot_exact
from hifi_ref.formats import FORMATS
from hifi_ref.formats.layout import Field, Layout

SCHEMA = "hifi_ref.conform.case/1"
RESULTS = {
    "valid": "every implementation must give these bits",
    "profile-dependent": "builds of the release for other platforms give other bits",
    "undefined-in-c": "C leaves the result open, and other bits are not wrong",
}
# The bytes that are read as numbers in the table of a block.
VALUED = ("f16", "f32", "i8", "i16", "u16")


def to_text(suite: Suite, case: Case, folder: Path) -> str:
    """All that is known of a case. ``folder``: of the vectors, where grids.json tells how numbers are packed."""
    parts: list[RenderableType] = [f"{suite.name} {case.id}", f"group: {case.group}"]
    parts.append(f"result: {case.result}: {RESULTS.get(case.result, 'no answer is expected')}")
    parts += [f"flag {flag}: {suite.notes.get(flag, '')}".rstrip(": ") for flag in case.flags]
    parts += [f"{key}: {value}" for key, value in case.context.items()]
    shown = {"decode": _decode, "encode": _encode, "dot": _dot}[suite.operation]
    return terminal.rendered([*parts, *shown(suite, case, folder)], colour=False)


def to_json(suite: Suite, case: Case, dialect: str) -> dict[str, Any]:
    """A file of vectors with this one case: what reads the golden files reads it."""
    layout = suite.layout
    given = {key: None if value is None else hexed(value) for key, value in case.given.items()}
    context = {key: value for key, value in case.context.items() if key != "rows"}
    test = {
        "id": case.id, "flags": list(case.flags), **given, "expected": hexed(case.expected), "result": case.result,
        **({"rows": case.rows} if case.rows > 1 else {}), **({"context": context} if context else {}),
        **_of_profiles(case),
    }  # fmt: skip
    return {
        "schema": SCHEMA,
        "format": layout.name,
        "dialect": dialect,
        "operation": suite.operation,
        "type_id": layout.type_id,
        "block_size": layout.block_size,
        "type_size": layout.type_size,
        "dot_with": layout.dot_with,
        "layout": [
            {"field": f.name, "type": f.dtype, "count": f.count, "offset": layout.offset(f.name), "bytes": f.size,
             "holds": f.holds}
            for f in layout.fields
        ],
        "notes": {flag: {"description": suite.notes[flag]} for flag in case.flags if flag in suite.notes},
        "groups": [{"name": case.group, "tests": [test]}],
    }  # fmt: skip


def _of_profiles(case: Case) -> dict[str, Any]:
    profiles = {profile: None if blocks is None else hexed(blocks) for profile, blocks in case.profiles.items()}
    arm64 = {"arm64": profiles["clang-arm64"]} if "clang-arm64" in profiles else {}
    return {**arm64, "profiles": profiles} if profiles else {}


# WHAT EACH OPERATION HAS


def _decode(suite: Suite, case: Case, folder: Path) -> Iterator[RenderableType]:
    yield from _blocks("given: blocks", suite.layout, case.array("blocks"), folder)
    yield from _values("expected: weights", {"weight": case.expected})


def _encode(suite: Suite, case: Case, folder: Path) -> Iterator[RenderableType]:
    importance = case.given["importance"]
    columns = {"weight": case.array("weights")}
    if importance is not None:
        columns["importance"] = np.tile(importance, case.rows)
    yield from _values("given: weights" + ("" if importance is not None else ", without importance"), columns, case)
    yield from _blocks("expected: blocks", suite.layout, case.expected, folder)
    for profile, blocks in case.profiles.items():
        if blocks is not None:
            yield from _blocks(f"expected of profile {profile}: blocks", suite.layout, blocks, folder)


def _dot(suite: Suite, case: Case, folder: Path) -> Iterator[RenderableType]:
    layout, partner = suite.layout, FORMATS.get(suite.layout.dot_with or "")
    w, a = case.array("w"), case.array("a")
    yield from _blocks(f"given: w, blocks of {layout.name}", layout, w, folder)
    columns = _decoded("w", layout, w)
    if partner is not None:
        yield from _blocks(f"given: a, blocks of {partner.name}", partner.layout, a, folder)
        columns |= {name: np.tile(values, case.rows) for name, values in _decoded("a", partner.layout, a).items()}
    if columns:
        yield from _values("the same as values", columns, case)
    sums = {"sum": case.expected} | _bounds(layout, case)
    yield from _values("expected: one sum a row" if case.rows > 1 else "expected: the sum", sums)


def _decoded(name: str, layout: Layout, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """The values of an operand, where hifi_ref knows its format."""
    f = FORMATS.get(layout.name)
    if f is None or f.decode is None or f.layout.fields != layout.fields:
        return {}
    return {name: api.decode(layout.name, blocks, lane="numpy")}


def _bounds(layout: Layout, case: Case) -> dict[str, np.ndarray]:
    """The correctly rounded true value, and what any order of additions may be off from it, where that is proven."""
    try:
        found = dot_exact(layout.name, case.array("w").reshape(case.rows, -1), case.array("a"))
    except (ValueError, NotImplementedError):
        return {}
    proven = np.isfinite(found.bound).all() and found.holds(case.expected).all()
    return {"true value": found.value, "bound": found.bound} if proven else {}


# BLOCKS AND VALUES


def _blocks(title: str, layout: Layout, data: np.ndarray, folder: Path) -> Iterator[RenderableType]:
    """The fields of each block, and the numbers that are packed in them."""
    places = _places(layout, folder)
    for i, block in enumerate(data.reshape(-1, layout.type_size)):
        yield ""
        yield f"{title}, block {i}" if data.size > layout.type_size else title
        rows = [("bytes", "field", "type", "hex", "value")]
        for field in layout.fields:
            at = layout.span(field.name)
            raw = block[at].tobytes()
            rows.append((f"{at.start}-{at.stop - 1}", field.name, field.type, raw.hex(), _numbers(field, raw)))
        yield terminal.table(rows)
        for kind, entries in places.items():
            yield f"{kind}: {' '.join(str(read_number(block, entry)) for entry in entries)}"


def _numbers(field: Field, raw: bytes) -> str:
    if field.dtype not in VALUED:
        return str(raw[0]) if len(raw) == 1 else ""
    values = np.frombuffer(raw, f"<{field.dtype[0]}{int(field.dtype[1:]) // 8}")
    if values.dtype.kind == "f":
        return " ".join(f"{_hexadecimal(value)} = {value}" for value in values)
    return " ".join(map(str, values))


def _places(layout: Layout, folder: Path) -> Mapping[str, list[list[int]]]:
    """Of each kind of number the triples byte, shift, width; none where grids.json does not know the format."""
    path = folder / "grids.json"
    known = json.loads(path.read_text())["formats"].get(layout.name) if path.is_file() else None
    if known is None or [e["field"] for e in known["layout"]] != layout.names:
        return {}
    return known["numbers"]


def read_number(block: np.ndarray, entry: Sequence[int]) -> int:
    """A number of a block u8[n] by triples byte, shift, width, its lowest bits first."""
    value = at = 0
    for byte, shift, width in zip(*[iter(entry)] * 3, strict=True):
        value |= (int(block[byte]) >> shift & (1 << width) - 1) << at
        at += width
    return value


def _values(title: str, columns: Mapping[str, np.ndarray], case: Case | None = None) -> Iterator[RenderableType]:
    """A line an element: of each column the bits, as a hexadecimal float, and in decimals."""
    (n,) = {values.size for values in columns.values()}
    a_row = n // (1 if case is None else case.rows)
    rows = [("number", *(head for name in columns for head in (f"{name}: bits", "hexadecimal", "decimal")))]
    for i in range(n):
        number = str(i) if a_row == n else f"{i // a_row}:{i % a_row}"
        rows.append((number, *(text for values in columns.values() for text in _spelled(values.reshape(-1)[i]))))
    yield ""
    yield title
    yield terminal.table(rows, right={0})


def _spelled(value: Any) -> tuple[str, str, str]:
    bits = int.from_bytes(value.tobytes(), "little")
    return f"{bits:0{2 * value.itemsize}x}", _hexadecimal(value), str(value)


def _hexadecimal(value: Any) -> str:
    """As C's %a: -0x1.4p+2."""
    return re.sub(r"\.?0+p", "p", float(value).hex())
