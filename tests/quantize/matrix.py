"""Every file type held against the release's own: `python -m tests.quantize.matrix [--families=A,B] [--types=A,B]`.

Each family of models, as F32, F16 and BF16, under each of the release's file types and COPY, without importance, with
it, and with it for every second matrix: the bytes must be the release's, or both must refuse. It prints what differs,
and the counts; exit code 1 where any does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hifi_ref.mixtures.llama_quantize import file_types
from hifi_ref.quantize import command
from reference import quantizer
from tests.quantize import families

KINDS = ("F32", "F16", "BF16")
MATRICES = ("none", "whole", "partial")


def compared(source: Path, folder: Path, name: str, matrix: str) -> str:
    """ "same", "both refuse", or what differs in one sentence."""
    ours, theirs, given = folder / "ours.gguf", folder / "theirs.gguf", folder / f"{matrix}.dat"
    for path in (ours, theirs):
        path.unlink(missing_ok=True)
    params: dict[str, Any] = {"only_copy": True} if name == "COPY" else {}
    flags = [f"--mixture={name}", "--quiet"]
    if matrix != "none":
        rows = families.importance(source, given, matrix == "partial")
        params |= {"importance": rows, "keys": families.keys(given, rows)}
        flags.append(f"--imatrix={given}")
    answer = quantizer.quantize(source, theirs, file_types().get(name, 0), **params)
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = command.main([*flags, str(source), str(ours)])
    if answer.problem or code:
        if answer.problem and code == 2:
            return "both refuse"
        return f"{err.getvalue().strip() or 'written'}, the release: {answer.problem or 'writes it'}"
    return "same" if ours.read_bytes() == theirs.read_bytes() else "other bytes"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--families", default=",".join(families.SHAPES))
    parser.add_argument("--types", default=",".join([*file_types(), "COPY"]))
    given = parser.parse_args()
    counts = Counter[str]()
    for family, kind in itertools.product(given.families.split(","), KINDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            source = families.written(families.described(family), folder / "source.gguf", kind)
            for file_type, matrix in itertools.product(given.types.split(","), MATRICES):
                found = compared(source, folder, file_type, matrix)
                counts[found if found in ("same", "both refuse") else "differ"] += 1
                if found not in ("same", "both refuse"):
                    print(f"{family} {kind} {file_type}, importance {matrix}: {found}", flush=True)
        print(f"{family} {kind}: {dict(counts)} so far", file=sys.stderr, flush=True)
    print(f"{counts.total()} files: {counts['same']} the same, {counts['both refuse']} refused by both, "
          f"{counts['differ']} differ")  # fmt: skip
    return int(counts["differ"] > 0)


if __name__ == "__main__":
    sys.exit(main())
