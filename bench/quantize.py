"""Whole files against the release: `python -m bench.quantize [--weights=400000000] [--types=A,B] [--importance]`.

A file of F16 weights is made, and quantized by llama_model_quantize and by `python -m hifi_ref.quantize`, in turn, each
in a process of its own that was started for it, on two cores, or on as many as --threads says; a first run of ours,
which compiles, is not counted. With --importance both take an importance matrix, without which some types are refused.
Prints a table of medians: seconds, and how many times the release's time ours goes into it; the same of the processor's
seconds, on which what else runs has less influence; megaweights a second; and of ours the largest memory in MiB, of all
that is resident and of that which is no mapped file. For the seconds that pass nothing else may run meanwhile.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags

from bench.made_model import made
from hifi_ref.mixtures.llama_quantize import file_types
from tests.quantize import families

_WEIGHTS = flags.DEFINE_integer("weights", 400_000_000, "How many weights at least.", lower_bound=1)
_TYPES = flags.DEFINE_list("types", ["Q8_0", "Q4_K_M", "Q4_0", "Q6_K", "IQ4_XS", "F16"], "File types.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "How often.", lower_bound=1)
_IMPORTANCE = flags.DEFINE_boolean("importance", False, "With an importance matrix.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of the release, and cores for either.", lower_bound=1)

# Source, target, the number of the file type, threads; then importance as arrays, and what is recorded of it.
RELEASE = """
import json, sys
import numpy as np
from reference import quantizer
source, target, kind, threads, *given = sys.argv[1:]
rows, keys = (np.load(given[0]), json.loads(given[1])) if given else (None, None)
sys.exit(bool(quantizer.quantize(source, target, int(kind), rows, keys, nthread=int(threads)).problem))
"""
# Seconds between two looks at a process's memory.
LOOK = 0.02


class Used(NamedTuple):
    seconds: float
    processor: float
    resident: int
    """KiB at most, as of the next."""
    anonymous: int


def run(command: list[str]) -> Used:
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, *command])
    ended, anonymous = threading.Event(), [0]

    def look() -> None:
        while not ended.wait(LOOK):
            # A process that has ended has no memory.
            with contextlib.suppress(OSError):
                anonymous.extend(
                    map(int, re.findall(r"RssAnon:\s+(\d+)", Path(f"/proc/{child.pid}/status").read_text()))
                )

    looking = threading.Thread(target=look)
    looking.start()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    ended.set()
    looking.join()
    if status:
        raise RuntimeError(f"exit status {status}: {' '.join(command[:4])}")
    return Used(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss, max(anonymous))


def importance(source: str, folder: Path) -> tuple[list[str], list[str]]:
    """A matrix for the source, as arguments of ours and of RELEASE."""
    matrix, arrays = folder / "importance.dat", folder / "importance.npz"
    rows = families.importance(Path(source), matrix)
    np.savez(arrays, allow_pickle=False, **rows)
    return [f"--imatrix={matrix}"], [str(arrays), json.dumps(families.keys(matrix, rows))]


def main(_: list[str]) -> None:
    # What is started inherits it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: _THREADS.value])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, ours, theirs = (str(folder / f"{n}.gguf") for n in ("source", "ours", "theirs"))
        weights = made(Path(source), _WEIGHTS.value)
        print(f"{weights / 1e6:.0f} M weights\n")
        own, others = importance(source, folder) if _IMPORTANCE.value else ([], [])
        print(
            "| type | release, s | ours, s | ratio | release, CPU s | ours, CPU s | ratio | ours, Mw/s | ours, MiB"
            " | no file |"
        )
        print("|---" * 10 + "|")
        for kind in _TYPES.value:
            command = ["-m", "hifi_ref.quantize", f"--mixture={kind}", "--quiet", *own, source, ours]
            other = ["-c", RELEASE, source, theirs, str(file_types()[kind]), str(_THREADS.value), *others]
            run(command)
            pairs = [(run(other), run(command)) for _ in range(_REPEAT.value)]
            # In pieces: what this process has at its peak is counted for each that it starts.
            if not filecmp.cmp(ours, theirs, shallow=False):
                raise RuntimeError(f"{kind}: other bytes than the release's")
            cells = []
            for clock in ("seconds", "processor"):
                times = [[getattr(used, clock) for used in pair] for pair in pairs]
                release, mine = map(statistics.median, zip(*times, strict=True))
                cells += [f"{release:.1f}", f"{mine:.1f}", f"{release / mine:.2f}"]
            speed = weights / statistics.median(mine.seconds for _, mine in pairs) / 1e6
            memory = [max(getattr(mine, kind) for _, mine in pairs) / 1024 for kind in ("resident", "anonymous")]
            print("|", " | ".join([kind, *cells, *(f"{n:.0f}" for n in (speed, *memory))]), "|", flush=True)


if __name__ == "__main__":
    app.run(main)
