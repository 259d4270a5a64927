"""gguf-connector's NumPy lane as a target: `python -m hifi_ref.conform python:gguf_connector_quant`, this folder on
PYTHONPATH. Its package imports more than it needs here, so that the one module is taken.
"""

from importlib.metadata import version

import numpy as np
from gguf_connector.quant import GGMLQuantizationType, dequantize, quantize

from hifi_ref import FORMATS

__version__ = version("gguf-connector")


def _type(name: str) -> GGMLQuantizationType:
    try:
        return GGMLQuantizationType(FORMATS[name].type_id)
    except ValueError as error:
        raise NotImplementedError from error


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    return dequantize(blocks, _type(name)).astype(np.float32)


def encode(name: str, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if weights is not None:
        raise NotImplementedError
    return quantize(x, _type(name)).view(np.uint8)
