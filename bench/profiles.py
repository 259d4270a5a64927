"""What it costs to name the build of a file: `python -m bench.profiles [--formats=Q4_K,Q4_K_M,...] [--repeat=3]
[--times=4] [--importance]`.

Five tensors of eight million F16 weights each, of two million that are drawn, in a format, as each profile's
build writes them; under Q4_K_M one of them in Q6_K. `--times` says how often a tensor has its two million.
`python -m hifi_ref.check --source` of each file, in turn, in a process of its own: seconds of the processor's
time, user's and system's, the median, and how often that is the strict file's. Before that each is run once,
since what is compiled then is kept. What it needs stands in tools/conformance.py and tools/built_here.py.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags

import hifi_ref as hr
from hifi_ref.formats import FORMATS, builds, hard_inputs
from tests.hostile import build
from tests.sources import write_imatrix
from tools import profiles

_FORMATS = flags.DEFINE_list("formats", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M", "IQ4_XS"], "Formats.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "How often.", lower_bound=1)
_TIMES = flags.DEFINE_integer("times", 4, "How often a tensor has the weights that are drawn.", lower_bound=1)
_IMPORTANCE = flags.DEFINE_bool("importance", False, "With lognormal importance, as IQ2_XXS and IQ2_XS need it.")

ROWS, N = 512, 4096
MIXTURES = {"Q4_K_M": ("Q4_K", "Q4_K", "Q4_K", "Q4_K", "Q6_K")}


def written(folder: Path, kind: str, x: np.ndarray, importance: np.ndarray | None, profile: str) -> tuple[Path, float]:
    """A file of the build's blocks, and which part of them the strict profile writes otherwise."""
    names, made, other = MIXTURES.get(kind, (kind,) * 5), {}, {}
    for name in dict.fromkeys(names):
        made[name] = strict = hr.encode(name, x, importance)
        if profile != builds.STRICT:
            process = profiles.start(profiles.build_of(profile))
            made[name], _ = profiles.ask(process, name, x, importance)
            process.kill()
        other[name] = (made[name] != strict).reshape(-1, FORMATS[name].type_size).any(axis=1).mean()
    path = file_of(folder / f"{profile}.gguf", [(FORMATS[name].type_id or 0, made[name]) for name in names])
    return path, float(np.mean([other[name] for name in names]))


def file_of(path: Path, tensors: list[tuple[int, np.ndarray]]) -> Path:
    """Each tensor's type and rows."""
    parts = [
        (f"t{i}", kind, (N, _TIMES.value * ROWS), rows.tobytes() * _TIMES.value)
        for i, (kind, rows) in enumerate(tensors)
    ]
    path.write_bytes(build(parts))
    return path


def cost(path: Path, source: Path, matrix: Path | None) -> float:
    """Seconds of the processor's time that check takes."""
    words = [sys.executable, "-m", "hifi_ref.check", str(path), f"--source={source}", "--ignore=L"]
    words += [f"--imatrix={matrix}"] if matrix else []
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise RuntimeError(f"check ends with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime


def main(_: list[str]) -> None:
    x = (np.random.default_rng(0).standard_t(5, (ROWS, N)) * 0.02).astype(np.float16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = file_of(folder / "source.gguf", [(1, x)] * 5)
        row = matrix = None
        if _IMPORTANCE.value:
            row, matrix = hard_inputs.importance("lognormal", 0, N), folder / "imatrix.gguf"
            write_imatrix(matrix, {f"t{i}": row for i in range(5)})
        print("| format | profile | blocks other than strict | seconds | times strict |\n|---|---|---|---|---|")
        for kind in _FORMATS.value:
            files = {p: written(folder, kind, x.astype(np.float32), row, p) for p in builds.PROFILES}
            runs = [
                {p: cost(path, source, matrix) for p, (path, _) in files.items()} for _ in range(_REPEAT.value + 1)
            ][1:]
            for profile, (_, other) in files.items():
                seconds = statistics.median(run[profile] for run in runs)
                ratio = statistics.median(run[profile] / run[builds.STRICT] for run in runs)
                print(f"| {kind} | {profile} | {other:.2%} | {seconds:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
