"""gguf-py's own encoders and decoders, as a module that serve can call. It has no dots, and takes no importance."""

from __future__ import annotations

from importlib.metadata import version

import gguf
import numpy as np

__name__ = "gguf-py"
__version__ = version("gguf")


def encode(name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if weights is not None:
        raise NotImplementedError
    # It leaves F32 and F16 as numbers.
    return gguf.quants.quantize(x, gguf.GGMLQuantizationType[_known(name)]).view(np.uint8)


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[_known(name)])


def _known(name: str) -> str:
    if name not in gguf.GGMLQuantizationType.__members__:
        raise NotImplementedError
    return name
