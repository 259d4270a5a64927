"""The pinned release, called through ctypes: its encoders, decoders and dot products over NumPy arrays."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from hifi_ref.formats import FORMATS
from reference.fetch import library_dir


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
