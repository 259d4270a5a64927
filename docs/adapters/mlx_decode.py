"""MLX's GGUF loader as a target: `python -m hifi_ref.conform python:mlx_decode`, run in this folder.

It keeps Q4_0, Q4_1 and Q8_0 quantized in a layout of its own, and turns the other formats that it knows into float16,
which no comparison of bits could accept. So only those three are asked, and decoded with what the loader makes of them.
"""

import tempfile
from importlib.metadata import version
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np

__version__ = version("mlx")
BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}


def decode(name: str, blocks: np.ndarray) -> np.ndarray:
    if name not in BITS:
        raise NotImplementedError
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "blocks.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tensor("x.weight", blocks, raw_dtype=gguf.GGMLQuantizationType[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        loaded = mx.load(path)
    scales, biases = (loaded[f"x.{part}"].astype(mx.float32) for part in ("scales", "biases"))
    values = mx.dequantize(loaded["x.weight"], scales, biases, group_size=32, bits=BITS[name])
    return np.array(values)
