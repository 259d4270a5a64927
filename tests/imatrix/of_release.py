"""An importance matrix written by the release's own gguf functions, in the order of calls that llama-imatrix makes."""

from __future__ import annotations

import ctypes as C
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from reference.fetch import library_dir


class _Params(C.Structure):
    """ggml_init_params of ggml.h."""

    _fields_ = [("mem_size", C.c_size_t), ("mem_buffer", C.c_void_p), ("no_alloc", C.c_bool)]


def write(
    path: Path, importance: Mapping[str, tuple[np.ndarray, np.ndarray]], datasets: Sequence[str], chunks: int, size: int
) -> Path:
    ggml = C.CDLL(str(library_dir() / "libggml-base.so"))
    for name in ("ggml_init", "ggml_new_tensor_2d", "gguf_init_empty", "ggml_get_data_f32", "ggml_set_name"):
        getattr(ggml, name).restype = C.c_void_p
    ggml.ggml_init.argtypes = [_Params]
    ggml.ggml_new_tensor_2d.argtypes = [C.c_void_p, C.c_int, C.c_int64, C.c_int64]
    pointer = C.c_void_p
    context, file = pointer(ggml.ggml_init(_Params(1 << 24, None, False))), pointer(ggml.gguf_init_empty())
    ggml.gguf_set_val_str(file, b"general.type", b"imatrix")
    texts = (C.c_char_p * len(datasets))(*(text.encode() for text in datasets))
    ggml.gguf_set_arr_str(file, b"imatrix.datasets", texts, C.c_size_t(len(datasets)))
    ggml.gguf_set_val_u32(file, b"imatrix.chunk_count", C.c_uint32(chunks))
    ggml.gguf_set_val_u32(file, b"imatrix.chunk_size", C.c_uint32(size))
    for name in sorted(importance):
        sums, counts = importance[name]
        for suffix, values in ((".in_sum2", sums), (".counts", counts[:, None])):
            tensor = pointer(ggml.ggml_new_tensor_2d(context, 0, values.shape[1], values.shape[0]))
            ggml.ggml_set_name(tensor, (name + suffix).encode())
            raw = values.astype(np.float32).tobytes()
            C.memmove(ggml.ggml_get_data_f32(tensor), raw, len(raw))
            ggml.gguf_add_tensor(file, tensor)
    ggml.gguf_write_to_file(file, str(path).encode(), C.c_bool(False))
    ggml.gguf_free(file)
    ggml.ggml_free(context)
    return path
