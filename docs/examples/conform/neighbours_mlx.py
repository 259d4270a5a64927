"""MLX as a target: run where it and hifi_ref are installed, in this folder:

    python -m hifi_ref.conform python:neighbours_mlx --dialect=mlx

Its verdict stands in docs/conformance/neighbours.
"""

from importlib.metadata import version

import mlx.core as mx
import numpy as np

__version__ = version("mlx")
MODES = {
    "mx.fp4_e2m1": {"mode": "mxfp4", "group_size": 32, "bits": 4},
    "mx.fp8_e4m3": {"mode": "mxfp8", "group_size": 32, "bits": 8},
    "nvfp4": {"mode": "nvfp4", "group_size": 16, "bits": 4},
}


def encode(name, x, bits=4, group_size=64, rule="mlx", writer="mlx"):
    rows = mx.array(x.reshape(-1, x.shape[-1]))
    if name == "mlx.affine":
        parts = mx.quantize(rows, group_size=group_size, bits=bits)
        return dict(zip(("codes", "scales", "biases"), map(np.array, parts), strict=True))
    codes, scale = mx.quantize(rows, **MODES[name])
    return {"codes": np.array(codes).view(np.uint8), "scale": np.array(scale)}


def decode(name, stored, shape, bits=4, group_size=64, rule="mlx", writer="mlx"):
    rows = int(np.prod(shape[:-1]))
    if name == "mlx.affine":
        codes, scales, biases = (mx.array(stored[part]) for part in ("codes", "scales", "biases"))
        values = mx.dequantize(codes, scales, biases, group_size=group_size, bits=bits)
    else:
        codes = mx.array(np.ascontiguousarray(stored["codes"].reshape(rows, -1)).view(np.uint32))
        scale = mx.array(stored["scale"].reshape(rows, -1))
        values = mx.dequantize(codes, scale, **MODES[name], dtype=mx.float32)
    return np.array(values.astype(mx.float32)).reshape(shape)
