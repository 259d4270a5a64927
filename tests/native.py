"""The pinned llama.cpp release as an oracle: fetched through npm, verified, and called through ctypes.

`python -m tests.native` fetches it ahead of time and prints where it lies. HIFI_REF_CACHE moves the cache (default
~/.cache/hifi_ref). Anything that keeps it from being had is an error, never a skipped test.

Some of the encoders end the process where an assertion of theirs fails. `encode_or_refuse` therefore runs them in a
process of their own, and tells which rows they refused.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import mmap
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hifi_ref.formats import FORMATS

PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
SHA256 = "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0"


def library_dir() -> Path:
    """The folder with the release's shared libraries, fetched on first use.

    Raises RuntimeError, in one sentence, when npm cannot bring it or its digest is not the pinned one.
    """
    cache = Path(os.environ.get("HIFI_REF_CACHE", Path.home() / ".cache" / "hifi_ref"))
    target = cache / f"llama.cpp-v0.5.0-{SHA256[:12]}"
    libraries = target / "package" / "bins" / "linux-x64"
    if libraries.is_dir():
        return libraries
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        packed = subprocess.run(["npm", "pack", PACKAGE], cwd=scratch, capture_output=True, text=True, check=False)
        archives = list(Path(scratch).glob("*.tgz"))
        if packed.returncode or not archives:
            raise RuntimeError(f"npm pack {PACKAGE} failed: {packed.stderr.strip()[-300:]}")
        digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
        if digest != SHA256:
            raise RuntimeError(f"{PACKAGE} has sha256 {digest}, not the pinned {SHA256}")
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unpacked, filter="data")
        try:
            unpacked.rename(target)
        except OSError:
            # Another process was first; its copy passed the same check.
            if not libraries.is_dir():
                raise
    return libraries


@functools.cache
def base() -> ctypes.CDLL:
    """libggml-base: the reference encoders and decoders."""
    lib = ctypes.CDLL(str(library_dir() / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_init.argtypes = [ctypes.c_int]
    return lib


@functools.cache
def cpu(variant: str = "x64") -> ctypes.CDLL:
    """libggml-cpu-VARIANT: the dot products. Tables inside it exist only after ggml_cpu_init."""
    base()
    lib = ctypes.CDLL(str(library_dir() / f"libggml-cpu-{variant}.so"))
    lib.ggml_cpu_init()
    return lib


def _pointer(a: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(a.ctypes.data)


def encode(name: str, x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """ggml_quantize_chunk over f32[rows, n] (quantize_row_q8_1_ref and q8_K_ref for the two it does not offer)."""
    f = FORMATS[name]
    x = np.ascontiguousarray(x, np.float32)
    rows, n = x.shape
    out = np.zeros((rows, n // f.block_size * f.type_size), np.uint8)
    if name in ("Q8_1", "Q8_K"):
        getattr(base(), f"quantize_row_{_c_name(name)}_ref")(_pointer(x), _pointer(out), ctypes.c_int64(x.size))
        return out
    qw = None if weights is None else np.ascontiguousarray(weights, np.float32)
    base().ggml_quantize_init(f.type_id)
    written = base().ggml_quantize_chunk(
        ctypes.c_int(f.type_id), _pointer(x), _pointer(out), ctypes.c_int64(0), ctypes.c_int64(rows), ctypes.c_int64(n),
        None if qw is None else _pointer(qw),
    )  # fmt: skip
    assert written == out.size, (name, written, out.size)
    return out


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
        [sys.executable, "-m", "tests.native", "serve"], cwd=Path(__file__).resolve().parent.parent, env=environment,
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


def decode(name: str, blocks: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """dequantize_row_* over uint8[blocks, type_size] -> f32[blocks, block_size], written to out where given."""
    f = FORMATS[name]
    blocks = np.ascontiguousarray(blocks, np.uint8).reshape(-1, f.type_size)
    out = np.empty((len(blocks), f.block_size), np.float32) if out is None else out
    symbol = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}.get(
        name, f"dequantize_row_{_c_name(name)}"
    )
    if name == "F32":
        out[:] = blocks.view(np.float32)
    elif name == "Q8_1":
        # The release has no decoder for it; its codes and scale lie as in Q8_0.
        q8_0 = np.concatenate([blocks[:, :2], blocks[:, 4:]], axis=1)
        return decode("Q8_0", q8_0)
    else:
        getattr(base(), symbol)(_pointer(blocks), _pointer(out), ctypes.c_int64(out.size))
    return out


def dot(name: str, w: np.ndarray, a: np.ndarray, variant: str = "x64", generic: bool = True) -> np.ndarray:
    """ggml_vec_dot_*_generic of every row of w with a -> f32[rows]."""
    f = FORMATS[name]
    w, a = np.ascontiguousarray(w, np.uint8), np.ascontiguousarray(a, np.uint8)
    n = w.shape[1] // f.type_size * f.block_size
    symbol = f"ggml_vec_dot_{_c_name(name)}"
    if name not in ("F32", "F16", "BF16"):
        symbol += f"_{_c_name(f.dot_with)}"
        if generic and hasattr(cpu(variant), symbol + "_generic"):
            symbol += "_generic"
    function = getattr(cpu(variant), symbol)
    out = np.zeros(len(w), np.float32)
    zero = ctypes.c_size_t(0)
    for row in range(len(w)):
        function(
            ctypes.c_int(n), ctypes.c_void_p(out[row:].ctypes.data), zero, ctypes.c_void_p(w[row].ctypes.data), zero,
            _pointer(a), zero, ctypes.c_int(1),
        )  # fmt: skip
    return out


def _c_name(name: str) -> str:
    return name[:-1].lower() + "K" if name.endswith("_K") else name.lower()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        # The release prints what it complains of.
        with os.fdopen(os.dup(1), "wb") as answers:
            os.dup2(2, 1)
            _serve(sys.stdin.buffer, answers)
    else:
        print(library_dir())
