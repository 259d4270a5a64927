"""pygguf's decoders as a target, from a checkout of https://github.com/99991/pygguf:

    PYGGUF=CHECKOUT python -m hifi_ref.conform python:pygguf_decode     (this folder on PYTHONPATH)

Its module is called gguf, as the package is that hifi_ref reads files with, so that it is loaded from its file.
"""

import importlib.util
import os

import numpy as np

SPEC = importlib.util.spec_from_file_location("pygguf", os.path.join(os.environ["PYGGUF"], "gguf.py"))
pygguf = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pygguf)
DECODERS = {"Q4_K": pygguf.dequantize_q4_k, "Q6_K": pygguf.dequantize_q6_k, "Q8_0": pygguf.dequantize_q8_0}


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    if name not in DECODERS:
        raise NotImplementedError
    return DECODERS[name](blocks.tobytes()).astype(np.float32)
