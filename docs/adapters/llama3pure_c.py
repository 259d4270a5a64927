"""llama3pure's C engine as a target, from the library that llama3pure_c.c makes:

    LLAMA3PURE=./libllama3pure.so python -m hifi_ref.conform python:llama3pure_c     (this folder on PYTHONPATH)

Its products of the formats that the reference multiplies with Q8_K take other activations, and are not asked for.
"""

import ctypes
import os

import numpy as np

from hifi_ref import FORMATS

LIBRARY = ctypes.CDLL(os.environ["LLAMA3PURE"])
LIBRARY.adapter_decode.restype = ctypes.POINTER(ctypes.c_float)
DECODED = (
    "F32",
    "F16",
    "BF16",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_NL",
)


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    if name not in DECODED:
        raise NotImplementedError
    f, given = FORMATS[name], np.ascontiguousarray(blocks).reshape(-1)
    n = given.size // f.type_size * f.block_size
    found = LIBRARY.adapter_decode(_pointer(given), n, f.type_id)
    if not found:
        raise NotImplementedError
    return np.ctypeslib.as_array(found, (n,)).copy()


def encode(name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if name != "Q8_0":
        raise NotImplementedError
    blocks = np.zeros((len(x), x.shape[1] // 32 * 34), np.uint8)
    for row, out in zip(np.ascontiguousarray(x), blocks, strict=True):
        LIBRARY.adapter_encode_q8_0(_pointer(row), _pointer(out), row.size)
    return blocks


def dot(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    f = FORMATS[name]
    if f.dot_with != "Q8_0" or name not in DECODED:
        raise NotImplementedError
    sums = np.zeros(len(w), np.float32)
    for i, row in enumerate(np.ascontiguousarray(w)):
        if not LIBRARY.adapter_dot(_pointer(row), _pointer(a), a.size // 34 * 32, f.type_id, _pointer(sums[i : i + 1])):
            raise NotImplementedError
    return sums


def _pointer(a: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(a.ctypes.data)
