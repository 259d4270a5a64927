"""What the vectors of a format reach, counted from the vectors themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden import places
from hifi_ref.formats import Format

Documents = dict[str, dict[str, Any]]


def coverage(f: Format, documents: Documents) -> dict[str, Any]:
    """Bits and numbers of all decoded and all expected blocks, classes of scales, and the tests by flag."""
    decoded = blocks_of(f, documents["decode"], "blocks")
    written = blocks_of(f, documents["encode"], "expected") if "encode" in documents else decoded[:0]
    fields = {field.name: field_coverage(f, field, decoded) for field in f.layout.fields}
    numbers = {
        kind: {"decode": number_coverage(at, found), "encode": number_coverage(at, places.read(f.name, written)[kind])}
        for (kind, at), found in zip(places.bits(f.name).items(), places.read(f.name, decoded).values(), strict=True)
    }
    return {"fields": fields, "numbers": numbers, "tests": {op: by_flag(d) for op, d in documents.items()}}


def blocks_of(f: Format, document: dict[str, Any], key: str) -> np.ndarray:
    tests = (test for group in document["groups"] for test in group["tests"])
    return np.concatenate([np.frombuffer(bytes.fromhex(test[key]), np.uint8) for test in tests]).reshape(
        -1, f.type_size
    )


def field_coverage(f: Format, field: Any, blocks: np.ndarray) -> dict[str, Any]:
    """Bits that are 0 in one block and 1 in another; byte values; classes of floats."""
    part = blocks[:, f.layout.span(field.name)]
    bits = np.unpackbits(part, axis=1)
    both = int((bits.any(axis=0) & ~bits.all(axis=0)).sum())
    found = {"bits": 8 * field.size, "bits_both_ways": both, "byte_values": len(np.unique(part))}
    if field.dtype in ("f16", "f32"):
        found["classes"] = classes(np.ascontiguousarray(part).view(f"<f{field.size // field.count}").reshape(-1))
    return found


def classes(values: np.ndarray) -> list[str]:
    """The classes of floats among the values, of both signs."""
    info = np.finfo(values.dtype)
    size = abs(values)
    kinds = {
        "zero": size == 0, "smallest subnormal": size == info.smallest_subnormal,
        "subnormal": (size > 0) & (size < info.smallest_normal), "smallest normal": size == info.smallest_normal,
        "normal": (size >= info.smallest_normal) & (size <= info.max), "largest": size == info.max,
        "infinity": np.isinf(values), "NaN": np.isnan(values),
    }  # fmt: skip
    signs = (("", ~np.signbit(values)), ("negative ", np.signbit(values)))
    return [sign + kind for kind, found in kinds.items() for sign, signed in signs if (found & signed).any()]


def number_coverage(at: np.ndarray, found: np.ndarray) -> dict[str, int]:
    """Of a kind of number: how many values occur, and how many values at each place."""
    count, width = at.shape
    pairs = len(np.unique(found + (np.arange(count) << width)))
    values = 1 << width
    return {"places": count, "values": values, "values_seen": len(np.unique(found)),
            "values_at_places": count * values, "values_at_places_seen": pairs}  # fmt: skip


def by_flag(document: dict[str, Any]) -> dict[str, int]:
    tests = [test for group in document["groups"] for test in group["tests"]]
    flags = sorted({flag for test in tests for flag in test["flags"]})
    return {"all": len(tests), **{flag: sum(flag in test["flags"] for test in tests) for flag in flags}}
