"""`python -m tools.profiles [PROFILE ...] [--formats=Q4_K,...] [--blocks=100000] [--results=FILE]` holds profiles of
hifi_ref/formats/builds.py against the builds that they are named after, over all families of formats.hard_inputs and
every kind of importance, and prints the lines of the table in docs/profiles.md. Exits with 1 where a block differs.

The builds are fetched from npm into build/; that for arm64 runs under qemu-aarch64 (see tools/conformance.py). They are
asked through a small driver, tools/profiles_driver.c, which survives the rows that a build refuses. Each turn over all
families is written to a file as it is done, and what that file has is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.formats import FORMATS, builds
from hifi_ref.formats import hard_inputs as inputs
from tools import conformance, history

# The text of a profile is slow to begin with: few rows at a time would take several times as long.
ROWS, N = 128, 512
HEADING = "| profile | format | blocks | other than strict | other than the build |\n|---|---|---|---|---|"


class Build(NamedTuple):
    """How the library of a profile is called: by a compiler's driver, under an emulator or none."""

    compiler: str
    runner: tuple[str, ...]
    library: Path


def build_of(profile: str) -> Build:
    """Fetch what a profile was proven against. Raises RuntimeError."""
    if profile == "gcc-x86-fma":
        return Build("gcc", (), history.fetch("3.2.0") / "libggml.so")
    conformance.FIELD.mkdir(parents=True, exist_ok=True)
    conformance.fetch_arm64()
    library = conformance.FIELD / "linux-arm64" / "libggml-base.so"
    return Build("aarch64-linux-gnu-gcc", tuple(conformance.QEMU.split()), library)


def start(build: Build) -> subprocess.Popen[bytes]:
    driver = conformance.FIELD / f"profiles_driver_{build.compiler}"
    driver.parent.mkdir(parents=True, exist_ok=True)
    conformance.run(build.compiler, "-O2", "-o", str(driver), "tools/profiles_driver.c", "-ldl")
    command = [*build.runner, str(driver), str(build.library)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **pipes, env=os.environ | {"GGML_NO_BACKTRACE": "1"})  # type: ignore[call-overload]


def ask(
    process: subprocess.Popen[bytes], name: str, x: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """uint8[rows, row bytes], and bool[rows]: where the build wrote the row."""
    f, (rows, n) = FORMATS[name], x.shape
    row_bytes = n // f.block_size * f.type_size
    head = np.array([f.type_id, rows, n, row_bytes, weights is not None], np.int64)
    question = head.tobytes() + x.tobytes() + (b"" if weights is None else weights.tobytes())
    questions, answers = process.stdin, process.stdout
    assert questions is not None and answers is not None
    writer = threading.Thread(target=_write, args=(questions, question))
    writer.start()
    answer = np.frombuffer(answers.read(rows * (row_bytes + 1)), np.uint8)
    writer.join()
    return answer[: rows * row_bytes].reshape(rows, row_bytes), answer[rows * row_bytes :].astype(bool)


def _write(questions: IO[bytes], question: bytes) -> None:
    questions.write(question)
    questions.flush()


def compared(process: subprocess.Popen[bytes], profile: str, name: str, turn: int) -> Iterator[tuple[int, int, int]]:
    """(blocks, those other than strict, those other than the build's), family by family; other weights each turn."""
    f = FORMATS[name]
    kinds = inputs.importance_kinds(f)
    rng = np.random.default_rng(1000 * turn + (f.type_id or 0))
    for i, family in enumerate(inputs.FAMILIES):
        kind = kinds[(turn + 1 + i) % len(kinds)]
        x, weights = inputs.weights(family, rng, ROWS, N), inputs.importance(kind, 100 * (turn + 1) + i, N)
        expected, accepted = ask(process, name, x, weights)
        strict = hr.encode(name, x, weights, lane="numpy")
        observed, known = encoded(profile, name, x, weights)
        accepted &= known
        others = [(blocks != expected)[accepted].reshape(-1, f.type_size).any(axis=1) for blocks in (strict, observed)]
        if others[1].any():
            print(f"  {profile} {name} {kind} {family!r}: {int(others[1].sum())} differ", file=sys.stderr)
        yield others[0].size, int(others[0].sum()), int(others[1].sum())


def totals(
    process: subprocess.Popen[bytes], profile: str, name: str, blocks: int, results: Path
) -> tuple[int, int, int]:
    """Turns until there are so many blocks, but for those that the file of results has; to which others are added."""
    done = results.read_text().splitlines() if results.exists() else []
    turns = [one["counts"] for one in map(json.loads, done) if (one["profile"], one["format"]) == (profile, name)]
    while sum(counts[0] for counts in turns) < blocks:
        families = zip(*compared(process, profile, name, len(turns)), strict=True)
        turns.append([sum(column) for column in families])
        with results.open("a") as file:
            file.write(json.dumps({"profile": profile, "format": name, "counts": turns[-1]}) + "\n")
    found = [sum(column) for column in zip(*turns, strict=True)]
    return found[0], found[1], found[2]


def encoded(profile: str, name: str, x: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """uint8[rows, row bytes], and bool[rows]: the rows of which it is known what the build writes."""
    try:
        return hr.encode(name, x, weights, lane="numpy", profile=profile), np.ones(len(x), bool)
    except exact.UnknownBlocks:
        if len(x) == 1:
            return np.zeros((1, x.shape[1] // FORMATS[name].block_size * FORMATS[name].type_size), np.uint8), np.zeros(
                1, bool
            )
    rows = [encoded(profile, name, x[i : i + 1], weights) for i in range(len(x))]
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="*", default=list(builds.BUILDS))
    parser.add_argument("--formats", default="")
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--results", type=Path, default=Path("build/profiles.jsonl"))
    options = parser.parse_args()
    differing = 0
    print(HEADING)
    for profile in options.profiles:
        process = start(build_of(profile))
        for name in options.formats.split(",") if options.formats else searched(profile):
            found = totals(process, profile, name, options.blocks, options.results)
            print(f"| {profile} | {name} | {' | '.join(f'{n:,}' for n in found)} |".replace("_", r"\_"), flush=True)
            differing += found[2]
        process.kill()
    return 1 if differing else 0


def searched(profile: str) -> list[str]:
    """The formats that a profile knows, without the plain floats and those that are only for activations."""
    return [
        name for name in builds.known_formats(profile) if FORMATS[name].block_size > 1 and name not in ("Q8_1", "Q8_K")
    ]


if __name__ == "__main__":
    sys.exit(main())
