"""tinygrad's GGUF decoder as a target: `python -m hifi_ref.conform python:tinygrad_decode`, run in this folder."""

from importlib.metadata import version

import numpy as np
from tinygrad import Tensor, dtypes
from tinygrad.llm.gguf import ggml_data_to_tensor

from hifi_ref import FORMATS

__version__ = version("tinygrad")


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    f = FORMATS[name]
    n = blocks.size // f.type_size * f.block_size
    try:
        values = ggml_data_to_tensor(Tensor(blocks.reshape(-1)), n, f.type_id)
    except ValueError as error:
        raise NotImplementedError from error
    return values.cast(dtypes.float32).numpy()
