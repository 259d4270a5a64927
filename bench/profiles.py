"""What it costs to name the build of a file: `python -m bench.profiles [--formats=Q4_K,Q6_K,IQ4_XS] [--repeat=3]`.

Five tensors of eight million F16 weights each, of two million that are drawn, in a format, as each profile's build
writes them. `python -m hifi_ref.check --source` of each file, in turn, in a process of its own: seconds of the
processor's time, user's and system's, the median, and how often that is the strict file's. What it needs stands in
tools/conformance.py.
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
from hifi_ref.formats import FORMATS, builds
from tests.hostile import build
from tools import profiles

_FORMATS = flags.DEFINE_list("formats", ["Q4_K", "Q6_K", "IQ4_XS"], "Formats.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "How often.", lower_bound=1)

TENSORS, TIMES, ROWS, N = 5, 4, 512, 4096


def written(folder: Path, name: str, x: np.ndarray, profile: str) -> tuple[Path, float]:
    """A file of the build's blocks, and which part of them the strict profile writes otherwise."""
    f, strict = FORMATS[name], hr.encode(name, x)
    blocks = strict
    if profile != builds.STRICT:
        process = profiles.start(profiles.build_of(profile))
        blocks, _ = profiles.ask(process, name, x, None)
        process.kill()
    other = (blocks != strict).reshape(-1, f.type_size).any(axis=1).mean()
    return file_of(folder / f"{profile}.gguf", f.type_id or 0, blocks), float(other)


def file_of(path: Path, type_id: int, rows: np.ndarray) -> Path:
    path.write_bytes(build([(f"t{i}", type_id, (N, TIMES * ROWS), rows.tobytes() * TIMES) for i in range(TENSORS)]))
    return path


def cost(path: Path, source: Path) -> float:
    """Seconds of the processor's time that check takes."""
    words = [sys.executable, "-m", "hifi_ref.check", str(path), f"--source={source}", "--ignore=L"]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise RuntimeError(f"check ends with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime


def main(_: list[str]) -> None:
    x = (np.random.default_rng(0).standard_t(5, (ROWS, N)) * 0.02).astype(np.float16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = file_of(folder / "source.gguf", 1, x)
        print("| format | profile | blocks other than strict | seconds | times strict |\n|---|---|---|---|---|")
        for kind in _FORMATS.value:
            files = {p: written(folder, kind, x.astype(np.float32), p) for p in builds.PROFILES}
            runs = [{p: cost(path, source) for p, (path, _) in files.items()} for _ in range(_REPEAT.value)]
            for profile, (_, other) in files.items():
                seconds = statistics.median(run[profile] for run in runs)
                ratio = statistics.median(run[profile] / run[builds.STRICT] for run in runs)
                print(f"| {kind} | {profile} | {other:.2%} | {seconds:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
