"""Killed and continued: `python -m tests.quantize.killed [--count=50] [--seed=1]`.

A child process quantizes; it is killed, by SIGKILL, at a moment drawn within the time that the whole takes; then the
same command goes on. It prints how often the bytes differ from those of an undisturbed run; exit code 1 where any do.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.loading.models import Shape, build
from tests.quantize import families


class Outcome(NamedTuple):
    """``continued``: how often something was done already when the kill came."""

    kills: int
    continued: int
    different: int


def rounds(folder: Path, count: int, seed: int) -> Outcome:
    """So many kills, each followed by one undisturbed run."""
    model = build(Shape("llama", layers=6, embd=256, heads=4, kv=2, head=64, ff=512))
    source, out = families.written(model, folder / "source.gguf", "F16"), folder / "out.gguf"
    journal = folder / "out.gguf.part.journal"
    command = [sys.executable, "-m", "hifi_ref.quantize", "--mixture=Q4_K_M", "--quiet", str(source), str(out)]
    subprocess.run(command, check=True)
    started = time.monotonic()
    subprocess.run(command, check=True)
    takes, wanted, draw = time.monotonic() - started, out.read_bytes(), random.Random(seed)
    continued = different = 0
    for _ in range(count):
        out.unlink()
        child = subprocess.Popen(command)
        time.sleep(draw.uniform(0.2, 1) * takes)
        child.kill()
        child.wait()
        continued += journal.exists() and len(journal.read_text().splitlines()) > 1
        whole = not out.exists() or out.read_bytes() == wanted
        subprocess.run(command, check=True)
        left = {path.name for path in folder.iterdir()} - {source.name, out.name}
        different += not whole or out.read_bytes() != wanted or bool(left)
    return Outcome(count, continued, different)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = rounds(Path(folder), given.count, given.seed)
    print(f"{found.kills} kills, {found.continued} with tensors done, {found.different} differ")
    return int(found.different > 0)


if __name__ == "__main__":
    sys.exit(main())
