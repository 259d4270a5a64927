"""`python -m tools.neighbours_golden FOLDER [--to=DIR]` writes the golden vectors of the neighbouring systems.

FOLDER holds what their own programs computed: archives of arrays, and manifest.json (see tools/neighbours_cases).
Where rows are independent a vector holds some of them, others in each vector; every kind of case and every parameter
stays. What is known by its digest alone is written down as hifi_ref computes it, once the digest agrees.

`--check` writes nothing: it compares hifi_ref with all the data. `--lane=jax` does so in jax, which takes minutes.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from golden.vector_file import text_of
from golden.vectors import hexed, id_of
from hifi_ref import neighbours as nb
from tools.neighbours_cases import cases
from tools.neighbours_cases.case import Case
from tools.neighbours_notes import NOTES, flags_of

TO = Path(__file__).resolve().parent.parent / "golden"
SCHEMA, INDEX_SCHEMA = "hifi_ref.golden.neighbours/1", "hifi_ref.golden.neighbours.index/1"
# Bytes of given and expected arrays together, a vector; there are many of hyper.
MOST, MOST_OF = 5000, {"hyper": 500}


def written(array: np.ndarray) -> dict[str, Any]:
    """An array as the vectors have it."""
    array = np.asarray(array)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": hexed(array)}


def vector(case: Case) -> dict[str, Any]:
    """One test of a file."""

    def all_of(arrays: Any) -> dict[str, Any]:
        return {name: written(array) for name, array in arrays.items()}

    said = {"parameters": dict(case.parameters), "given": all_of(_narrow(case)), "expected": all_of(case.expected)}
    if case.shape:
        said["shape"] = list(case.shape)
    kinds = (("without", case.without), ("faulty", case.faulty))
    more = {kind: {f: all_of(arrays) for f, arrays in by_flag.items()} for kind, by_flag in kinds if by_flag}
    if case.bound:
        more["bound"] = all_of(case.bound)
    comment = ", ".join(case.names)
    asked = {"format": case.scheme, "operation": case.operation}
    return {"id": id_of(asked | said), "comment": comment, "flags": flags_of(case), **said, **more, "result": "valid"}


def _narrow(case: Case) -> dict[str, np.ndarray]:
    """What is given, with x in float16 where that holds it and the scheme takes it for the same."""
    given, scheme = dict(case.given), nb.SCHEMES.get(case.scheme)
    if "x" in given and scheme and scheme.widens and "float16" in scheme.takes:
        with np.errstate(over="ignore"):
            half = given["x"].astype(np.float16)
        if np.array_equal(half.astype(np.float32), given["x"]):
            given["x"] = half
    return given


def rows_of(case: Case, turn: int) -> Sequence[int]:
    """Some of the rows: as many as fit, others each turn."""
    size = sum(a.nbytes for a in (*case.given.values(), *case.expected.values()))
    count = min(case.rows, max(1, case.rows * MOST_OF.get(case.scheme, MOST) // size))
    return sorted({(turn * count + i) % case.rows for i in range(count)})


def documents(found: Iterable[Case]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """By dialect, scheme and operation, the content of a file. Raises ValueError where hifi_ref differs."""
    files: dict[tuple[str, str, str], dict[str, Any]] = {}
    turns: Counter[tuple[str, str, str]] = Counter()
    for case in found:
        differ, total = case.differences(answer := case.answer())
        if differ:
            raise ValueError(f"{case.scheme} {case.operation} {case.path}: {differ} of {total} values differ")
        key = case.dialect, case.scheme, case.operation
        case = case.filled(answer)
        if case.smaller:
            case = case.smaller(case, turns[key])
        elif case.rows:
            case = case.part(rows_of(case, turns[key]))
        turns[key] += 1
        case = case.telling()
        files.setdefault(key, header_of(case))["groups"][0]["tests"].append(vector(case))
    for content in files.values():
        tests = content["groups"][0]["tests"]
        content["groups"][0]["tests"] = list({test["id"]: test for test in tests}.values())
        content["notes"] = {flag: NOTES[flag] for flag in sorted({flag for test in tests for flag in test["flags"]})}
    return files


def header_of(case: Case) -> dict[str, Any]:
    if case.scheme in nb.SCHEMES:
        scheme = nb.SCHEMES[case.scheme]
        stored = [{"array": name, "dtype": a.dtype, "holds": a.holds} for name, a in scheme.stored.items()]
        parameters = {name: each.says for name, each in scheme.parameters.items()}
        source, version = scheme.source, scheme.version
    else:
        stored, parameters = [{"array": "blocks", "dtype": "uint8", "holds": "llama.cpp's blocks, a row a row"}], {}
        source, version = case.header["what"], case.header["library"]
    return {
        "schema": SCHEMA,
        "format": case.scheme,
        "dialect": case.dialect,
        "operation": case.operation,
        "stored": stored,
        "parameters": parameters,
        "reference": {
            "library": case.header["library"], "what": case.header["what"], "source": source,
            "version": version, "arrays_sha256": case.header["sha256"],
        },
        "notes": {},
        "groups": [{"name": case.operation, "tests": []}],
    }  # fmt: skip


def generate(folder: Path, to: Path) -> None:
    """Write the files, and an index for each dialect."""
    indexes: dict[str, list[dict[str, Any]]] = {}
    for (dialect, scheme, operation), content in sorted(documents(cases(folder)).items()):
        text = text_of(content)
        path = f"{dialect}/{scheme.removeprefix(f'{dialect}.')}.{operation}.json"
        (to / dialect).mkdir(parents=True, exist_ok=True)
        (to / path).write_text(text)
        indexes.setdefault(dialect, []).append({
            "path": path, "format": scheme, "operation": operation, "tests": len(content["groups"][0]["tests"]),
            "bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest(),
        })  # fmt: skip
    for dialect, files in indexes.items():
        index = {"schema": INDEX_SCHEMA, "dialects": [dialect], "files": files}
        (to / dialect / "index.json").write_text(text_of(index))


def check(folder: Path, library: Any) -> bool:
    """Compare with all the data, and print what differs, by scheme."""
    totals: dict[str, Counter[str]] = {}
    for case in cases(folder):
        differ, total = case.differences(case.answer(library))
        if case.scheme not in nb.SCHEMES:
            continue
        totals.setdefault(case.scheme, Counter()).update(values=total, cases=1, differ=differ)
        if differ:
            print(f"{case.scheme} {case.operation} {case.path} {dict(case.parameters)}: {differ} of {total} differ")
    for scheme, count in totals.items():
        print(f"{scheme:22} {count['cases']:5} cases {count['values']:8} values {count['differ']:6} differ")
    values, differ = (sum(count[key] for count in totals.values()) for key in ("values", "differ"))
    print(f"{len(totals)} schemes, {values} values, {differ} differ")
    return not differ


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", type=Path, default=TO, help="the folder to write to, golden by default")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--lane", choices=("numpy", "jax"), default="numpy", help="of --check")
    options = parser.parse_args()
    if options.check:
        import jax.numpy

        raise SystemExit(0 if check(options.folder, np if options.lane == "numpy" else jax.numpy) else 1)
    generate(options.folder, options.to)
