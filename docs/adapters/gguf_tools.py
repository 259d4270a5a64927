"""gguf-tools' decoders as a target, from a checkout of https://github.com/antirez/gguf-tools:

    cd CHECKOUT && cc -O3 -march=native -ffast-math -shared -fPIC -o libgguf_tools.so gguflib.c fp16.c
    GGUF_TOOLS=CHECKOUT/libgguf_tools.so python -m hifi_ref.conform python:gguf_tools     (this folder on PYTHONPATH)

The compiler's flags are those of its Makefile.
"""

import ctypes
import os

import numpy as np

from hifi_ref import FORMATS

LIBRARY = ctypes.CDLL(os.environ["GGUF_TOOLS"])
FUNCTIONS = {name: f"gguf_{name.lower()}_to_float" for name in ("Q8_0", "Q4_K", "Q6_K", "Q2_K", "Q4_0", "Q4_1")}


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    if name not in FUNCTIONS:
        raise NotImplementedError
    f = FORMATS[name]
    values = np.zeros(blocks.size // f.type_size * f.block_size, np.float32)
    given = np.ascontiguousarray(blocks).reshape(-1)
    pointers = (ctypes.c_void_p(a.ctypes.data) for a in (given, values))
    getattr(LIBRARY, FUNCTIONS[name])(*pointers, ctypes.c_uint64(values.size), None)
    return values
