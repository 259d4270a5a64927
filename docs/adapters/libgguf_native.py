"""libgguf's native rows as a target: `python -m hifi_ref.conform python:libgguf_native`, this folder on PYTHONPATH."""

from importlib.metadata import version

import libgguf
import numpy as np

from hifi_ref import FORMATS

__version__ = version("libgguf")


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    f = FORMATS[name]
    n = blocks.shape[1] // f.type_size * f.block_size
    if f.block_size == 1 or libgguf.row_size(f.type_id, n) == 0:
        raise NotImplementedError
    return np.frombuffer(libgguf.dequantize_rows_raw(f.type_id, blocks, len(blocks), n), np.float32).reshape(-1, n)


def encode(name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    f = FORMATS[name]
    if f.block_size == 1 or libgguf.row_size(f.type_id, x.shape[1]) == 0:
        raise NotImplementedError
    blocks = libgguf.quantize_rows_raw(f.type_id, x, len(x), x.shape[1], weights)
    return np.frombuffer(blocks, np.uint8).reshape(len(x), -1)
