"""`python -m golden.generate [--to=DIR]` writes every golden vector, byte for byte the same each time.

The expected bits come from the pinned release of llama.cpp alone (reference/). Of hifi_ref only the layouts are used,
and, for what else a test of a dot product says, the true value and the bound of hifi_ref.dot_exact.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from golden.coverage import coverage
from golden.decode_tests import decode_tests
from golden.dot_tests import dot_tests
from golden.encode_tests import encode_tests
from golden.notes import note
from golden.vector_file import content_of, index_of, text_of, write
from hifi_ref.formats import LLAMA_CPP, Format
from reference import fetch

HERE = Path(__file__).resolve().parent
DIALECT = "llama.cpp"
MAKERS = {"decode": decode_tests, "encode": encode_tests, "dot": dot_tests}
# What the builds of other profiles wrote where that is other bytes: profile -> id -> these.
PROFILES: dict[str, dict[str, str | None]] = json.loads((HERE / "profile_dependent.json").read_text())["profiles"]


@functools.cache
def digest_of(library: str) -> str:
    return hashlib.sha256((fetch.library_dir() / library).read_bytes()).hexdigest()


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
        "repository": "ggml-org/llama.cpp", "release": "v0.5.0", "package": fetch.PACKAGE, "symbol": symbol,
        "profile": "strict", "library": library, "sha256": digest_of(library),
    }  # fmt: skip


def document(f: Format, operation: str) -> dict[str, Any]:
    """One file: the header, then groups of tests in the order in which they come."""
    rng = np.random.default_rng([f.type_id, len(operation)])
    tests = ((group, marked(test)) for group, test in MAKERS[operation](f, rng))
    return content_of(f, DIALECT, operation, reference(f, operation), note, tests)


def marked(test: dict[str, Any]) -> dict[str, Any]:
    """The test with what other builds write, as profile-dependent where those of the same release differ."""
    profiles = {profile: blocks[test["id"]] for profile, blocks in PROFILES.items() if test["id"] in blocks}
    if not profiles or test["result"] != "valid":
        return test
    test = test | {"profiles": profiles}
    if "clang-arm64" not in profiles:
        return test
    marks = {"flags": [*test["flags"], "PlatformDependent"], "result": "profile-dependent"}
    return test | marks | {"arm64": profiles["clang-arm64"]}


def generate(to: Path) -> None:
    """Write all vectors and the index below a folder."""
    (to / DIALECT).mkdir(parents=True, exist_ok=True)
    files, table = [], {}
    for f in LLAMA_CPP.values():
        contents = {op: document(f, op) for op in MAKERS if getattr(f, op) is not None}
        table[f.name] = coverage(f, contents)
        files += [write(to, content) for content in contents.values()]
    libraries = {name: digest_of(name) for name in ("libggml-base.so", "libggml-cpu-x64.so")}
    provenance = {
        "repository": "ggml-org/llama.cpp", "release": "v0.5.0", "package": fetch.PACKAGE,
        "package_sha256": fetch.SHA256, "profile": "strict", "libraries": libraries,
    }  # fmt: skip
    (to / "index.json").write_text(text_of(index_of(DIALECT, provenance, files, coverage=table)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=HERE, help="the folder to write to, golden itself by default")
    generate(parser.parse_args().to)
