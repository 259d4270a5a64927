"""Whole files against the release, two threads each: `python -m bench.quantize [--weights=400000000] [--types=A,B]`.

A file of F16 weights is made, and quantized by llama_model_quantize and by `python -m hifi_ref.quantize`, in turn, each
in a process of its own that was started for it; a first run of ours, which compiles, is not counted. Prints a table of
medians: seconds, and how many times the release's time ours goes into it; the same of the processor's seconds, on which
what else runs has less influence; megaweights a second, and our largest resident memory. For the seconds that pass
nothing else may run meanwhile.
"""

from __future__ import annotations

import filecmp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

from bench.made_model import made
from hifi_ref.mixtures.llama_quantize import file_types

_WEIGHTS = flags.DEFINE_integer("weights", 400_000_000, "How many weights at least.", lower_bound=1)
_TYPES = flags.DEFINE_list("types", ["Q8_0", "Q4_K_M", "Q4_0", "Q6_K", "IQ4_XS", "F16"], "File types.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "How often.", lower_bound=1)

THREADS = 2
RELEASE = (
    "import sys; from reference import quantizer; "
    f"sys.exit(bool(quantizer.quantize(sys.argv[1], sys.argv[2], int(sys.argv[3]), nthread={THREADS}).problem))"
)


def run(command: list[str]) -> tuple[float, float, int]:
    """Seconds, the processor's seconds, and KiB of resident memory at most."""
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, *command])
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"exit status {status}: {' '.join(command[:4])}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, ours, theirs = (str(folder / f"{n}.gguf") for n in ("source", "ours", "theirs"))
        weights = made(Path(source), _WEIGHTS.value)
        print(f"{weights / 1e6:.0f} M weights\n")
        print("| type | release, s | ours, s | ratio | release, CPU s | ours, CPU s | ratio | ours, Mw/s | ours, MiB |")
        print("|---" * 9 + "|")
        for kind in _TYPES.value:
            command = ["-m", "hifi_ref.quantize", f"--mixture={kind}", "--quiet", source, ours]
            other = ["-c", RELEASE, source, theirs, str(file_types()[kind])]
            run(command)
            pairs = [(run(other), run(command)) for _ in range(_REPEAT.value)]
            # In pieces: what this process has at its peak is counted for each that it starts.
            if not filecmp.cmp(ours, theirs, shallow=False):
                raise RuntimeError(f"{kind}: other bytes than the release's")
            cells = []
            for clock in (0, 1):
                release, own = (statistics.median(pair[i][clock] for pair in pairs) for i in (0, 1))
                cells += [f"{release:.1f}", f"{own:.1f}", f"{release / own:.2f}"]
            speed = weights / statistics.median(pair[1][0] for pair in pairs) / 1e6
            memory = max(pair[1][2] for pair in pairs) / 1024
            print("|", " | ".join([kind, *cells, f"{speed:.0f}", f"{memory:.0f}"]), "|", flush=True)


if __name__ == "__main__":
    app.run(main)
