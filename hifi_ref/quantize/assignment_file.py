"""FILE.json of --assign: what a user asks for types by tensor. docs/assign.md has its fields."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hifi_ref.formats import FORMATS
from hifi_ref.mixtures.assignments import Assignment
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.quantize.in_formats import HIFI_DIALECT
from hifi_ref.quantize.options import NOT_WRITTEN

FIELDS = Assignment._fields
# Of bits and of weights.
LARGEST = 1e30


def read(path: str) -> Assignment:
    """Raises OSError, or InputError in one sentence."""
    shown = printable(path)
    try:
        found = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError):
        raise InputError(f"{shown} is no JSON") from None
    if not isinstance(found, dict):
        raise InputError(f"{shown} is no JSON object")
    unknown = [field for field in found if field not in FIELDS]
    if unknown:
        raise InputError(f"{shown}: there is no field {printable(unknown[0])!r}; there are {', '.join(FIELDS)}")
    bits, candidates = found.get("bits"), found.get("candidates", [])
    if bits is not None and not _is_positive(bits):
        raise InputError(f"{shown}: bits is no positive number")
    if not isinstance(candidates, list):
        raise InputError(f"{shown}: candidates is no list of types")
    types, weights = (_by_pattern(found.get(field, {}), field, shown) for field in ("types", "weights"))
    for pattern, weight in weights:
        if not _is_positive(weight):
            raise InputError(f"{shown}: the weight of {printable(pattern)} is no positive number")
    named = tuple(_type(kind, shown) for kind in candidates)
    return Assignment(bits, named, tuple((p, _type(kind, shown)) for p, kind in types), weights)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LARGEST


def _by_pattern(value: Any, field: str, shown: str) -> tuple[tuple[str, Any], ...]:
    if not isinstance(value, dict):
        raise InputError(f"{shown}: {field} is no object of regular expressions")
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{shown}: {printable(pattern)} in {field} is no regular expression: {error}") from None
    return tuple(value.items())


def _type(value: Any, shown: str) -> str:
    """A type that is encoded, and that a file can hold."""
    numbered = {kind.name for dialect in (REFERENCE, HIFI_DIALECT) for kind in DIALECTS[dialect].ids.values()}
    known = [name for name, f in FORMATS.items() if f.encode and name in numbered and name not in NOT_WRITTEN]
    if not isinstance(value, str) or value.upper() not in known:
        raise InputError(f"{shown}: {printable(str(value))!r} is no type; there are {' '.join(known)}")
    return value.upper()
