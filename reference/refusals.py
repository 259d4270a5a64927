"""Which rows the release refuses to encode: where an assertion fails, its encoders end the process.

They are therefore run in a process of their own: `python -m reference.refusals` answers requests on its standard input.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hifi_ref.formats import FORMATS
from reference.release import base, encode


def encode_or_refuse(name: str, x: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """As encode, and bool[rows]: where the release wrote the row, instead of ending its process."""
    f = FORMATS[name]
    rows, n = x.shape
    if not may_refuse(name):
        return encode(name, x, weights), np.ones(rows, bool)
    process = _worker()
    request = {"name": name, "rows": rows, "n": n, "weights": weights is not None}
    process.stdin.write(json.dumps(request).encode() + b"\n" + np.ascontiguousarray(x, np.float32).tobytes())
    process.stdin.write(b"" if weights is None else np.ascontiguousarray(weights, np.float32).tobytes())
    process.stdin.flush()
    row_bytes = n // f.block_size * f.type_size
    blocks = np.frombuffer(process.stdout.read(rows * row_bytes), np.uint8).reshape(rows, row_bytes)
    return blocks, np.frombuffer(process.stdout.read(rows), bool)


def may_refuse(name: str) -> bool:
    """Whether the release's encoder can end its process: only those that search a grid do."""
    return name.startswith("IQ")


@functools.cache
def _worker() -> subprocess.Popen:
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "reference.refusals"], cwd=Path(__file__).resolve().parent.parent, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Rows are encoded by a child that shares its output with us; where one dies, another goes on behind that row."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while line := requests.readline():
        request = json.loads(line)
        name, rows, n = request["name"], request["rows"], request["n"]
        x = np.frombuffer(requests.read(4 * rows * n), np.float32).reshape(rows, n)
        weights = np.frombuffer(requests.read(4 * n), np.float32) if request["weights"] else None
        base().ggml_quantize_init(FORMATS[name].type_id)
        row_bytes = n // FORMATS[name].block_size * FORMATS[name].type_size
        shared = np.frombuffer(mmap.mmap(-1, rows * (row_bytes + 1)), np.uint8)
        blocks, accepted = shared[: rows * row_bytes].reshape(rows, row_bytes), shared[rows * row_bytes :]
        first = 0
        while first < rows:
            child = os.fork()
            if not child:
                for row in range(first, rows):
                    blocks[row] = encode(name, x[row : row + 1], weights)[0]
                    accepted[row] = 1
                os._exit(0)
            os.waitpid(child, 0)
            rest = np.flatnonzero(accepted[first:] == 0)
            first += int(rest[0]) + 1 if rest.size else rows
        answers.write(shared.tobytes())
        answers.flush()


if __name__ == "__main__":
    # The release prints what it complains of.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        _serve(sys.stdin.buffer, answers)
