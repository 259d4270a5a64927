"""The vectors of the neighbouring systems, read from golden/<dialect>: a file a scheme and operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from hifi_ref.conform.cases import VectorError, read_json

SCHEMA = "hifi_ref.golden.neighbours/1"
OPERATIONS = ("encode", "decode", "matmul", "loss")
# What an answer that is no dict of arrays by name is called
ANSWERS = {"decode": "y", "matmul": "z", "loss": "loss"}


@dataclass(frozen=True, eq=False)
class Vector:
    """One question and its answer, arrays by name.

    given: x for encode, what is stored for decode, that and a for matmul. expected: what is stored, y, or z. shape: of
    the weights, for decode. without: flag of a fault of the system -> what an implementation answers that does not
    share it; arrays that are not in there may hold anything. faulty: flag -> what one answers that has the fault.
    bound: how far a sound answer may be off.
    """

    id: str
    comment: str
    flags: tuple[str, ...]
    parameters: Mapping[str, Any]
    given: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    shape: tuple[int, ...] = ()
    without: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    faulty: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    bound: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class VectorFile:
    """One operation of one scheme. notes: flag -> what it means. reference: whose bits these are."""

    path: Path
    scheme: str
    dialect: str
    operation: str
    notes: Mapping[str, Mapping[str, Any]]
    reference: Mapping[str, str]
    vectors: tuple[Vector, ...]


def dialects(folder: Path) -> list[str]:
    """The dialects of which the folder has such vectors."""
    return sorted(path.parent.name for path in folder.glob("*/index.json") if _is_ours(path))


def read_dialect(
    folder: Path, dialect: str, schemes: Sequence[str] = (), operations: Sequence[str] = OPERATIONS
) -> list[VectorFile]:
    """The files of a dialect, in its index's order. No schemes means all. Raises VectorError."""
    entries = read_json(folder / dialect / "index.json")["files"]
    known = list(dict.fromkeys(entry["format"] for entry in entries))
    for name in schemes:
        if name not in known:
            raise VectorError(f"the dialect {dialect!r} has no vectors of {name!r}; there are {' '.join(known)}")
    chosen = [e for e in entries if (not schemes or e["format"] in schemes) and e["operation"] in operations]
    return [read_file(folder / entry["path"]) for entry in chosen]


def read_file(path: Path) -> VectorFile:
    """Raises VectorError."""
    content = read_json(path)
    try:
        vectors = tuple(_vector(test) for group in content["groups"] for test in group["tests"])
        return VectorFile(
            path, content["format"], content["dialect"], content["operation"], content["notes"], content["reference"],
            vectors,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise VectorError(f"{path} is no file of vectors as the schema describes them: {error!r}") from error


def _vector(test: Mapping[str, Any]) -> Vector:
    without, faulty = (
        {flag: arrays_of(arrays) for flag, arrays in test.get(kind, {}).items()} for kind in ("without", "faulty")
    )
    return Vector(
        test["id"], test["comment"], tuple(test["flags"]), test["parameters"], arrays_of(test["given"]),
        arrays_of(test["expected"]), tuple(test.get("shape", ())), without, faulty, arrays_of(test.get("bound", {})),
    )  # fmt: skip


def arrays_of(written: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Of each name. Raises as array_of."""
    return {name: array_of(each) for name, each in written.items()}


def array_of(written: Mapping[str, Any]) -> np.ndarray:
    """An array from its dtype, shape and hexadecimal bytes, little-endian. Raises KeyError, TypeError, ValueError."""
    dtype = np.dtype(ml_dtypes.bfloat16 if written["dtype"] == "bfloat16" else written["dtype"])
    return np.frombuffer(bytes.fromhex(written["bytes"]), dtype).reshape(written["shape"])


def written(array: np.ndarray) -> dict[str, Any]:
    """The inverse of array_of."""
    return {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": np.ascontiguousarray(array).tobytes().hex()}


def _is_ours(path: Path) -> bool:
    return str(read_json(path).get("schema", "")).startswith("hifi_ref.golden.neighbours.")
