"""Whole files that other builds quantized: `python -m tests.quantize.builds [PROFILE ...] [--types=A,B]`.

A small model under each file type, without importance and with it, by the profile's own llama_model_quantize. Held
against it are `quantize --profile`, which must write the same tensors, and `check`: the file is what the profile
writes; by the strict profile every tensor that differs is told to be the profile's; a flipped bit is found where it is.
It prints what it saw and the counts; exit code 1 where anything is not as it must be. `--digests` writes those of a few
files' tensors to tests/data/tensors_of_builds.json, for the tests, and looks at nothing else. What it needs stands in
tools/conformance.py and tools/built_here.py, what it found in docs/profiles.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import random
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hifi_ref.formats import builds
from hifi_ref.mixtures.llama_quantize import file_types
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.model_files.imatrix import read_imatrix
from hifi_ref.quantize import command
from reference import quantizer
from tests import sources
from tests.check.helpers import compare, different
from tests.quantize import families
from tools import conformance, make_sample
from tools.profiles import ON_X86, build_of

DIGESTS = Path(__file__).resolve().parent.parent / "data" / "tensors_of_builds.json"
DRIVER = "tools/quantizing_driver.c"
# File types whose digests are kept.
IN_TESTS = ("Q5_1", "Q2_K", "Q4_K_M")
ROWS = 32


class Model(NamedTuple):
    """A source, importance for it in a file and as rows, and the metadata that llama-quantize records of it."""

    source: Path
    matrix: Path
    rows: dict[str, np.ndarray]
    keys: dict[str, int | float | str]


def model(folder: Path) -> Model:
    source, matrix = folder / "source.gguf", folder / "importance.dat"
    make_sample.write_model(source, layers=1, rows=ROWS)
    given = {name: row for name, row in make_sample.importance().items() if not name.startswith("blk.1.")}
    matrix.write_bytes(sources.dat_imatrix(given))
    rows = read_imatrix(matrix).rows
    return Model(source, matrix, rows, families.keys(matrix, rows))


def command_of(profile: str) -> list[str]:
    """How the build is called, but for the source, the target and the number of a file type. Raises RuntimeError."""
    build = build_of(profile)
    folder, old = build.library.parent, profile in ON_X86
    driver = conformance.FIELD / f"quantizing_driver_{build.compiler}"
    compiler = ("g++", "-x", "c++") if old else (build.compiler,)
    conformance.run(*compiler, "-O2", "-o", str(driver), DRIVER, "-ldl")
    libraries = ("libggml.so", "libllama.so") if old else quantizer.LIBRARIES
    return [*build.runner, str(driver), *(str(folder / name) for name in libraries)]


def question(rows: Mapping[str, np.ndarray], keys: Mapping[str, int | float | str]) -> bytes:
    """The lists, as the driver reads them."""
    parts = [struct.pack("<q", len(rows))]
    for name, row in rows.items():
        parts += [struct.pack("<qq", len(name.encode()), row.size), name.encode(), row.astype("<f4").tobytes()]
    parts.append(struct.pack("<q", len(keys)))
    return b"".join(parts) + b"".join(bytes(quantizer.key_override(key, value)) for key, value in keys.items())


def written(called: list[str], source: Model, target: Path, file_type: str, weighted: bool) -> bool:
    """Whether the build wrote the file."""
    lists = question(source.rows, source.keys) if weighted else question({}, {})
    words = [*called, str(source.source), str(target), str(file_types()[file_type])]
    return subprocess.run(words, input=lists, capture_output=True, check=False).returncode == 0


def tensors_of(path: Path) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of each tensor, by name."""
    gguf = open_gguf(path)
    return {tensor.name: (tensor.type_name, gguf.blocks(tensor).tobytes()) for tensor in gguf.tensors}


def digest(path: Path) -> str:
    """SHA-256 of all tensors, by name, whatever their order in the file."""
    found = hashlib.sha256()
    for name, (kind, data) in sorted(tensors_of(path).items()):
        found.update(f"{name} {kind} {len(data)}\n".encode() + data)
    return found.hexdigest()


def quantized(source: Model, target: Path, file_type: str, weighted: bool, profile: str) -> int:
    """The exit code of `quantize --profile`."""
    flags = [f"--imatrix={source.matrix}"] if weighted else []
    words = [f"--mixture={file_type}", f"--profile={profile}", "--quiet", *flags, str(source.source), str(target)]
    with contextlib.redirect_stderr(io.StringIO()):
        return command.main(words)


def judged(source: Model, theirs: Path, file_type: str, weighted: bool, profile: str) -> Iterator[str]:
    """What was seen of a file that the build wrote: a few words for each thing, "NOT" where it is not as it must be."""
    ours = theirs.with_name("ours.gguf")
    if quantized(source, ours, file_type, weighted, profile):
        yield "written by the build alone: the profile is not known for it"
        return
    if ours.read_bytes() == theirs.read_bytes():
        yield "the same file"
    else:
        yield "the same tensors" if tensors_of(ours) == tensors_of(theirs) else "NOT the same tensors"
    flags = (f"--imatrix={source.matrix}",) if weighted else ()
    others = different(compare(theirs, source.source, f"--profile={profile}", *flags)[1])
    yield f"NOT reproduced as {profile}: {sorted(others)}" if others else "reproduced"
    yield from named(theirs, source, flags, profile)
    yield damaged(theirs, source, flags, random.Random(f"{profile} {file_type} {weighted}"))


def named(theirs: Path, source: Model, flags: tuple[str, ...], profile: str) -> Iterator[str]:
    """What the strict profile says of it."""
    report = compare(theirs, source.source, *flags)[1]
    results = {tensor["name"]: tensor["source"] for tensor in report["tensors"]}
    others = [result for name, result in results.items() if name in different(report)]
    not_told = [result for result in others if profile not in result["profile"].split(" or ")]
    yield f"NOT told to be {profile}: {not_told}" if not_told else "named" if others else "as strict as any"


def damaged(theirs: Path, source: Model, flags: tuple[str, ...], draw: random.Random) -> str:
    """One bit of a quantized tensor flipped: it must be found, in its block."""
    gguf, content = open_gguf(theirs), bytearray(theirs.read_bytes())
    tensor = draw.choice([tensor for tensor in gguf.tensors if len(tensor.shape) > 1])
    at = draw.randrange(tensor.known_nbytes)
    content[tensor.start + at] ^= 1 << draw.randrange(8)
    path = theirs.with_name("damaged.gguf")
    path.write_bytes(content)
    report = compare(path, source.source, f"--tensors=^{tensor.name}$", *flags)[1]
    result = next(other["source"] for other in report["tensors"] if other["name"] == tensor.name)
    block = at // tensor.known_type.type_size
    first = result["first"] or {}
    found = result["meaning"] == "damage" and first.get("block") == block and result["blocks_differing"] == 1
    return "a flipped bit is found" if found else f"NOT found: bit in block {block} of {tensor.name}, {result}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("profiles", nargs="*", default=list(builds.BUILDS))
    parser.add_argument("--types", default=",".join(file_types()))
    parser.add_argument("--digests", action="store_true")
    given = parser.parse_args()
    types = IN_TESTS if given.digests else given.types.split(",")
    wrong, digests = 0, dict[str, Any]()
    for profile in given.profiles:
        called, counts = command_of(profile), Counter[str]()
        with tempfile.TemporaryDirectory() as folder:
            source, theirs = model(Path(folder)), Path(folder) / "theirs.gguf"
            for file_type, weighted in itertools.product(types, (False, True)):
                if not written(called, source, theirs, file_type, weighted):
                    counts["refused by the build"] += 1
                    continue
                if given.digests:
                    digests.setdefault(profile, {}).setdefault(file_type, []).append(digest(theirs))
                    continue
                seen = list(judged(source, theirs, file_type, weighted, profile))
                print(f"{profile} {file_type}{', importance' * weighted}: {'; '.join(seen)}", flush=True)
                counts.update("NOT as it must be" if "NOT" in one else one for one in seen)
        print(f"{profile}: {dict(counts)}", flush=True)
        wrong += counts["NOT as it must be"]
    if given.digests:
        DIGESTS.write_text(json.dumps(json.loads(DIGESTS.read_text()) | digests, indent=1) + "\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
