"""`python -m tools.profiles [PROFILE ...] [--formats=Q4_K,...] [--blocks=100000] [--weights=FILE] [--results=FILE]`
holds profiles of hifi_ref/formats/builds.py against the builds that they are named after, over all families of
formats.hard_inputs and every kind of importance, or on the weights of a safetensors file, and prints the lines of the
tables in docs/profiles.md. Exits with 1 where a block differs. It is the NumPy lane that is held against them, which on
hard inputs is the quicker one but for IQ1 to IQ3; tests/compiled_builds.py holds what is compiled against it.

The builds are fetched from npm into build/, or made there (see tools/built_here.py); that for arm64 runs under
qemu-aarch64 (see tools/conformance.py). They and the pinned release, the strict one, are asked through a small driver,
tools/profiles_driver.c, which survives the rows that a build refuses. Turns are kept in a file as they are done, and
what that file has is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.formats import FORMATS, Format, builds
from hifi_ref.formats import hard_inputs as inputs
from hifi_ref.model_files.safetensors_file import read_safetensors
from reference import fetch
from tools import built_here, conformance, history

N = 512
REAL_ROWS = 2048
# Their searches are long enough for compiling to pay even where many blocks are marked
COMPILED = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
# Where the libraries of the builds lie that run here, fetched or built.
ON_X86 = {"gcc-x86-fma": lambda: history.fetch("3.2.0"), "gcc-x86-fma-intel": built_here.built}
Batches = Iterable[tuple[str, np.ndarray, np.ndarray | None]]
HEADING = "| profile | format | blocks | other than strict | other than the build |\n|---|---|---|---|---|"


class Build(NamedTuple):
    """How the library of a profile is called: by a compiler's driver, under an emulator or none."""

    compiler: str
    runner: tuple[str, ...]
    library: Path


def build_of(profile: str) -> Build:
    """Fetch what a profile was proven against. Raises RuntimeError."""
    if profile == builds.STRICT:
        return Build("gcc", (), fetch.library_dir() / "libggml-base.so")
    if profile in ON_X86:
        return Build("gcc", (), ON_X86[profile]() / "libggml.so")
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


def hard(f: Format, turn: int) -> Batches:
    """All families, with every kind of importance in turn."""
    kinds = inputs.importance_kinds(f)
    rng = np.random.default_rng(1000 * turn + (f.type_id or 0))
    for i, family in enumerate(inputs.FAMILIES):
        kind = kinds[(turn + 1 + i) % len(kinds)]
        x = inputs.weights(family, rng, 2 * f.block_size, N)
        yield f"{family}, {kind}", x, inputs.importance(kind, 100 * (turn + 1) + i, N)


def real(rows: np.ndarray, f: Format, turn: int) -> Batches:
    """Rows drawn from a model's, no row twice until all have been, without importance and with it."""
    order = np.random.default_rng(f.type_id).permutation(len(rows))
    x = rows[order[np.arange(turn * REAL_ROWS, (turn + 1) * REAL_ROWS) % len(rows)]]
    for kind in ("none", "lognormal"):
        if kind in inputs.importance_kinds(f):
            yield f"turn {turn}, {kind}", x, inputs.importance(kind, turn, N)


def rows_of(path: Path) -> np.ndarray:
    """f32[n, N]: the tensors of a safetensors file of float32, but for what is left of a tensor at its end."""
    parts = []
    for entry in read_safetensors(path).values():
        values = np.frombuffer(entry.data, "<f4", (entry.stop - entry.start) // 4, entry.start)
        parts.append(values[: values.size // N * N].reshape(-1, N))
    return np.concatenate(parts)


def compared(
    processes: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]], profile: str, name: str, batches: Batches
) -> Iterator[tuple[int, int, int]]:
    """(blocks, those other than strict, those other than the build's), batch by batch, of the build and the release."""
    f, (build, release) = FORMATS[name], processes
    for label, x, weights in batches:
        expected, accepted = ask(build, name, x, weights)
        strict, _ = ask(release, name, x, weights)
        observed, known = encoded(profile, name, x, weights)
        accepted &= known
        others = [(blocks != expected)[accepted].reshape(-1, f.type_size).any(axis=1) for blocks in (strict, observed)]
        if others[1].any():
            print(f"  {profile} {name} {label}: {int(others[1].sum())} differ", file=sys.stderr)
        yield others[0].size, int(others[0].sum()), int(others[1].sum())


def totals(
    processes: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]],
    profile: str,
    name: str,
    options: argparse.Namespace,
) -> tuple[int, int, int]:
    """Turns until there are so many blocks, but for those that the file of results has; to which others are added."""
    rows, source = (None, "") if options.weights is None else (rows_of(options.weights), options.weights.name)
    key = {"profile": profile, "format": name, "weights": source}
    done = options.results.read_text().splitlines() if options.results.exists() else []
    turns = [one["counts"] for one in map(json.loads, done) if {k: one.get(k, "") for k in key} == key]
    while sum(counts[0] for counts in turns) < options.blocks:
        turn = len(turns)
        batches = hard(FORMATS[name], turn) if rows is None else real(rows, FORMATS[name], turn)
        turns.append([sum(column) for column in zip(*compared(processes, profile, name, batches), strict=True)])
        with options.results.open("a") as file:
            file.write(json.dumps(key | {"counts": turns[-1]}) + "\n")
    found = [sum(column) for column in zip(*turns, strict=True)]
    return found[0], found[1], found[2]


def encoded(profile: str, name: str, x: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """uint8[rows, row bytes], and bool[rows]: the rows of which it is known what the build writes."""
    f, known = FORMATS[name], np.ones(len(x), bool)
    lane = "auto" if name in COMPILED else "numpy"
    blocks = np.zeros((len(x), x.shape[1] // f.block_size * f.type_size), np.uint8)
    while known.any():
        try:
            blocks[known] = hr.encode(name, x[known], weights, lane=lane, profile=profile)
            break
        except exact.UnknownBlocks as error:
            # Only the definition tells of all rows at once which they are
            if lane == "numpy":
                assert error.known is not None
                known[known] = error.known.reshape(known.sum(), -1).all(axis=1)
            lane = "numpy"
    return blocks, known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="*", default=list(builds.BUILDS))
    parser.add_argument("--formats", default="")
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--results", type=Path, default=Path("build/profiles.jsonl"))
    options = parser.parse_args()
    differing = 0
    print(HEADING)
    for profile in options.profiles:
        processes = start(build_of(profile)), start(build_of(builds.STRICT))
        for name in options.formats.split(",") if options.formats else searched(profile):
            found = totals(processes, profile, name, options)
            print(f"| {profile} | {name} | {' | '.join(f'{n:,}' for n in found)} |".replace("_", r"\_"), flush=True)
            differing += found[2]
        for process in processes:
            process.kill()
    return 1 if differing else 0


def searched(profile: str) -> list[str]:
    """The formats that a profile knows, without the plain floats and those that are only for activations."""
    return [
        name for name in builds.known_formats(profile) if FORMATS[name].block_size > 1 and name not in ("Q8_1", "Q8_K")
    ]


if __name__ == "__main__":
    sys.exit(main())
