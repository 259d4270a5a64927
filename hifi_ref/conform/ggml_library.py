"""ggml's C symbols in a folder of shared libraries, through ctypes. A wrong call ends the process: serve calls from one
of its own.

Parts of a folder (or of one library that holds everything; it has the parts base and cpu):

    base      libggml-base: ggml_quantize_chunk, quantize_row_*_ref, dequantize_row_*, and the *_generic dot products of
              the plainest libggml-cpu. This is ggml's own reference.
    VARIANT   libggml-cpu-VARIANT (cpu where there is but libggml-cpu): its ggml_vec_dot_* and quantize_row_*, SIMD
              where the variant has any.

`python -m hifi_ref.conform.ggml_library DIR` prints the parts as JSON: part -> why it cannot run here, or null.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hifi_ref.formats import FORMATS, Format

FLOATS = ("F32", "F16", "BF16")
FROM_FLOAT = {"F16": "ggml_cpu_fp32_to_fp16", "BF16": "ggml_cpu_fp32_to_bf16", "F32": "ggml_cpu_fp32_to_fp32"}
# Built without any extension; the first of these that a folder has gives base its dot products.
PLAINEST = ("x64", "armv8.0_1", "cpu", "sse42")


class Part:
    """encode, decode and dot of one part; see the module."""

    def __init__(self, folder: Path, part: str):
        self.base = ctypes.CDLL(str(base_library(folder)), mode=ctypes.RTLD_GLOBAL)
        self.is_base = part == "base"
        variant = plainest(folder) if self.is_base else part
        self.cpu = ctypes.CDLL(str(cpu_libraries(folder)[variant])) if variant else None
        for library in (self.base, self.cpu):
            if library is not None:
                _make_tables(library)
        self.__name__ = f"libggml-base, dots of {variant or 'no library'}" if self.is_base else f"libggml-cpu-{part}"

    def encode(self, name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        f = _known(name)
        x = np.ascontiguousarray(x)
        rows, n = x.shape
        out = np.zeros((rows, n // f.block_size * f.type_size), np.uint8)
        library: ctypes.CDLL | None = self.base
        symbol = f"quantize_row_{c_name(name)}_ref"
        if self.is_base and name not in ("Q8_1", "Q8_K"):
            self._check_known(f)
            self.base.ggml_quantize_init(_type_id(f))
            self.base.ggml_quantize_chunk.restype = ctypes.c_size_t
            self.base.ggml_quantize_chunk(
                _type_id(f), _pointer(x), _pointer(out), ctypes.c_int64(0), ctypes.c_int64(rows),
                ctypes.c_int64(n), None if weights is None else _pointer(weights),
            )  # fmt: skip
            return out
        if not self.is_base:
            library = self.cpu
            symbol = FROM_FLOAT.get(name, f"quantize_row_{c_name(name)}")
            if weights is not None:
                raise NotImplementedError
        for row in range(rows):
            _symbol(library, symbol)(_pointer(x[row]), _pointer(out[row]), ctypes.c_int64(n))
        return out

    def decode(self, name: str, blocks: np.ndarray) -> np.ndarray:
        f = _known(name)
        blocks = np.ascontiguousarray(blocks)
        out = np.empty((len(blocks), blocks.shape[1] // f.type_size * f.block_size), np.float32)
        library: ctypes.CDLL | None = self.base
        symbol = f"dequantize_row_{c_name(name)}"
        if name in ("F16", "BF16"):
            kind = "fp16" if name == "F16" else "bf16"
            library = self.base if self.is_base else self.cpu
            symbol = f"ggml_{kind}_to_fp32_row" if self.is_base else f"ggml_cpu_{kind}_to_fp32"
        elif not self.is_base:
            raise NotImplementedError
        _symbol(library, symbol)(_pointer(blocks), _pointer(out), ctypes.c_int64(out.size))
        return out

    def dot(self, name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        f = _known(name)
        if self.cpu is None or f.dot_with is None:
            raise NotImplementedError
        symbol = f"ggml_vec_dot_{c_name(name)}"
        if name not in FLOATS:
            symbol += f"_{c_name(f.dot_with)}"
            # Where a format has no SIMD kernel at all, the plain name is the generic one.
            if self.is_base and hasattr(self.cpu, f"{symbol}_generic"):
                symbol += "_generic"
        out, zero = np.zeros(len(w), np.float32), ctypes.c_size_t(0)
        n = w.shape[1] // f.type_size * f.block_size
        for row in range(len(w)):
            _symbol(self.cpu, symbol)(
                ctypes.c_int(n), _pointer(out[row:]), zero, _pointer(w[row]), zero, _pointer(a), zero, ctypes.c_int(1)
            )
        return out

    def _check_known(self, f: Format) -> None:
        """Asked for a type that it does not know, ggml ends the process. Raises NotImplementedError instead."""
        if f.block_size > 1:
            _symbol(self.base, f"quantize_{c_name(f.name)}")
        elif f.name == "BF16":
            _symbol(self.base, "ggml_fp32_to_bf16_row")
        self.base.ggml_type_name.restype = ctypes.c_char_p
        if self.base.ggml_type_name(_type_id(f)) != c_name(f.name).encode():
            raise NotImplementedError


def open_part(folder: str, part: str) -> Part:
    """Raises OSError, ValueError."""
    at = Path(folder)
    if part != "base" and part not in cpu_libraries(at):
        raise ValueError(f"{folder} has no part {part!r}; there are base {' '.join(cpu_libraries(at))}")
    return Part(at, part)


def base_library(folder: Path) -> Path:
    """Raises ValueError where there is none."""
    if folder.is_file():
        return folder
    found = sorted(folder.glob("libggml-base.*")) or _whole(folder)
    if not found:
        raise ValueError(f"{folder} holds no libggml-base")
    return found[0]


def _whole(folder: Path) -> list[Path]:
    """The library that holds everything, as releases before November 2024 have it."""
    return [] if sorted(folder.glob("libggml-*")) else sorted(folder.glob("libggml.*"))


def cpu_libraries(folder: Path) -> dict[str, Path]:
    """variant -> library, in alphabetical order."""
    if folder.is_file():
        return {"cpu": folder}
    found = dict(zip(["cpu"], _whole(folder), strict=False))
    for path in sorted(folder.glob("libggml-cpu*")):
        if match := re.fullmatch(r"libggml-cpu(?:-([\w.]+?))?\.(?:so|dylib)", path.name):
            found[match[1] or "cpu"] = path
    return found


def plainest(folder: Path) -> str | None:
    """The variant whose generic dot products count as base's."""
    return next((variant for variant in PLAINEST if variant in cpu_libraries(folder)), None)


def libraries_of(folder: Path, part: str) -> list[Path]:
    """The files that a part is made of."""
    variant = plainest(folder) if part == "base" else part
    return [base_library(folder), *([cpu_libraries(folder)[variant]] if variant else [])]


def score(library: Path) -> int:
    """What a variant says of this processor: 0 where it cannot run here, 1 where it does not say."""
    function = getattr(ctypes.CDLL(str(library)), "ggml_backend_score", None)
    return 1 if function is None else function()


def parts(folder: Path) -> dict[str, str | None]:
    """part -> why it cannot run here, or None. Raises ValueError where the folder holds no libggml-base."""
    ctypes.CDLL(str(base_library(folder)), mode=ctypes.RTLD_GLOBAL)
    reasons: dict[str, str | None] = {"base": None}
    for variant, path in cpu_libraries(folder).items():
        try:
            reasons[variant] = None if score(path) else "needs instructions that this processor does not have"
        except OSError as error:
            reasons[variant] = str(error)
    return reasons


class _Parameters(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def _make_tables(library: ctypes.CDLL) -> None:
    """Dot products, and decoders before 2025, read tables that exist only from here on. Then ggml_init made them."""
    if hasattr(library, "ggml_cpu_init"):
        library.ggml_cpu_init()
    if hasattr(library, "ggml_init"):
        library.ggml_init.restype = ctypes.c_void_p
        library.ggml_init(_Parameters(1 << 16, None, False))


def c_name(name: str) -> str:
    """The format's name inside a C symbol."""
    return name[:-1].lower() + "K" if name.endswith("_K") else name.lower()


def _known(name: str) -> Format:
    if name not in FORMATS:
        raise NotImplementedError
    return FORMATS[name]


def _type_id(f: Format) -> ctypes.c_int:
    if f.type_id is None:
        raise NotImplementedError
    return ctypes.c_int(f.type_id)


def _symbol(library: ctypes.CDLL | None, name: str) -> Any:
    if library is None or not hasattr(library, name):
        raise NotImplementedError
    return getattr(library, name)


def _pointer(x: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)


if __name__ == "__main__":
    try:
        print(json.dumps(parts(Path(sys.argv[1]))))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
