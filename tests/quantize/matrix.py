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


def compared(source: Path, folder: Path, names: list[str], matrix: str) -> dict[str, str]:
    """For each file type "same", "both refuse", or what differs in one sentence.

    What the release writes is asked for in one command, since types share much of the work; the rest one by one.
    """
    given, flags, params = folder / f"{matrix}.dat", list[str](), dict[str, Any]()
    if matrix != "none":
        rows = families.importance(source, given, matrix == "partial")
        params = {"importance": rows, "keys": families.keys(given, rows)}
        flags.append(f"--imatrix={given}")
    problems = {}
    for name in names:
        own = params | ({"only_copy": True} if name == "COPY" else {})
        problems[name] = quantizer.quantize(source, folder / f"theirs-{name}", file_types().get(name, 0), **own).problem
    for wanted in [[name for name in names if not problems[name]], *([name] for name in names if problems[name])]:
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            what = [f"--mixture={','.join(wanted)}", "--quiet", *flags, str(source), str(folder / "ours-{type}")]
            code = command.main(what) if wanted else 0
        for name in wanted:
            if problems[name]:
                problems[name] = "both refuse" if code == 2 else f"written, the release: {problems[name]}"
            elif code:
                problems[name] = out.getvalue().strip()
            else:
                same = (folder / f"ours-{name}").read_bytes() == (folder / f"theirs-{name}").read_bytes()
                problems[name] = "same" if same else "other bytes"
    return problems


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
            for matrix in MATRICES:
                for file_type, found in compared(source, folder, given.types.split(","), matrix).items():
                    counts[found if found in ("same", "both refuse") else "differ"] += 1
                    if found not in ("same", "both refuse"):
                        print(f"{family} {kind} {file_type}, importance {matrix}: {found}", flush=True)
        print(f"{family} {kind}: {dict(counts)} so far", file=sys.stderr, flush=True)
    print(f"{counts.total()} files: {counts['same']} the same, {counts['both refuse']} refused by both, "
          f"{counts['differ']} differ")  # fmt: skip
    return int(counts["differ"] > 0)


if __name__ == "__main__":
    sys.exit(main())
