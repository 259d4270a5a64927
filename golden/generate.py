"""`python -m golden.generate [--to=DIR]` writes every golden vector, byte for byte the same each time.

The expected bits come from the pinned release of llama.cpp alone (tests.native). Of hifi_ref only the layouts are used,
and, for what else a test of a dot product says, the true value and the bound of hifi_ref.dot_exact.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from golden.coverage import coverage
from golden.decode_tests import decode_tests
from golden.dot_tests import dot_tests
from golden.encode_tests import encode_tests
from golden.notes import note
from hifi_ref.formats import LLAMA_CPP, Format
from tests import native

HERE = Path(__file__).resolve().parent
DIALECT = "llama.cpp"
SCHEMA = "hifi_ref.golden/1"
INDEX_SCHEMA = "hifi_ref.golden.index/1"
MAKERS = {"decode": decode_tests, "encode": encode_tests, "dot": dot_tests}
# Ids of tests of encoding for which the release's arm64 build, run under an emulator, wrote other bytes.
PROFILE_DEPENDENT = frozenset(json.loads((HERE / "profile_dependent.json").read_text())["ids"])


@functools.cache
def digest_of(library: str) -> str:
    return hashlib.sha256((native.library_dir() / library).read_bytes()).hexdigest()


def reference(f: Format, operation: str) -> dict[str, str]:
    """Where the expected bits come from."""
    c_name = f.name[:-1].lower() + "K" if f.name.endswith("_K") else f.name.lower()
    symbol = {
        "decode": {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row", "F32": "memcpy"}.get(
            f.name, f"dequantize_row_{'q8_0' if f.name == 'Q8_1' else c_name}"
        ),
        "encode": f"quantize_row_{c_name}_ref" if f.name in ("Q8_1", "Q8_K") else "ggml_quantize_chunk",
        "dot": f"ggml_vec_dot_{c_name}"
        if f.name in ("F32", "F16", "BF16")
        else f"ggml_vec_dot_{c_name}_{'q8_K' if f.dot_with == 'Q8_K' else str(f.dot_with).lower()}_generic",
    }[operation]
    library = "libggml-cpu-x64.so" if operation == "dot" else "libggml-base.so"
    return {
        "repository": "ggml-org/llama.cpp", "release": "v0.5.0", "package": native.PACKAGE, "symbol": symbol,
        "profile": "strict", "library": library, "sha256": digest_of(library),
    }  # fmt: skip


def document(f: Format, operation: str) -> dict[str, Any]:
    """One file: the header, then groups of tests in the order in which they come."""
    rng = np.random.default_rng([f.type_id, len(operation)])
    groups: dict[str, list[dict[str, Any]]] = {}
    seen = set()
    for name, test in MAKERS[operation](f, rng):
        if test["id"] not in seen:
            groups.setdefault(name, []).append(marked(test))
        seen.add(test["id"])
    flags = sorted({flag for group in groups.values() for test in group for flag in test["flags"]})
    return {
        "schema": SCHEMA,
        "format": f.name,
        "dialect": DIALECT,
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
        "reference": reference(f, operation),
        "notes": {flag: note(flag) for flag in flags},
        "groups": [{"name": name, "tests": tests} for name, tests in groups.items()],
    }  # fmt: skip


def marked(test: dict[str, Any]) -> dict[str, Any]:
    """The test, as profile-dependent where the release's builds differ."""
    if test["id"] not in PROFILE_DEPENDENT or test["result"] != "valid":
        return test
    return test | {"flags": [*test["flags"], "PlatformDependent"], "result": "profile-dependent"}


def text_of(value: Any) -> str:
    """JSON, a line an entry, except that lists of numbers take one line."""
    text = json.dumps(value, indent=1, ensure_ascii=True) + "\n"
    return re.sub(r"\[\s+(\d[\d,\s]*\d|\d)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)


def generate(to: Path) -> None:
    """Write all vectors and the index below a folder."""
    (to / DIALECT).mkdir(parents=True, exist_ok=True)
    files, table = [], {}
    for f in LLAMA_CPP.values():
        contents = {op: document(f, op) for op in MAKERS if getattr(f, op) is not None}
        table[f.name] = coverage(f, contents)
        for operation, content in contents.items():
            text = text_of(content)
            path = f"{DIALECT}/{f.name}.{operation}.json"
            (to / path).write_text(text)
            count = sum(len(group["tests"]) for group in content["groups"])
            files.append(
                {"path": path, "format": f.name, "operation": operation, "tests": count, "bytes": len(text),
                 "sha256": hashlib.sha256(text.encode()).hexdigest()}
            )  # fmt: skip
    libraries = {name: digest_of(name) for name in ("libggml-base.so", "libggml-cpu-x64.so")}
    provenance = {
        "repository": "ggml-org/llama.cpp", "release": "v0.5.0", "package": native.PACKAGE,
        "package_sha256": native.SHA256, "profile": "strict", "libraries": libraries,
    }  # fmt: skip
    index = {"schema": INDEX_SCHEMA, "dialects": [DIALECT], "reference": provenance, "files": files, "coverage": table}
    (to / "index.json").write_text(text_of(index))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=HERE, help="the folder to write to, golden itself by default")
    generate(parser.parse_args().to)
