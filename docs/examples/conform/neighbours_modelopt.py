"""NVIDIA's ModelOpt as a target: run where it and hifi_ref are installed, in this folder:

    python -m hifi_ref.conform python:neighbours_modelopt --dialect=modelopt

Its verdict stands in docs/conformance/neighbours.
"""

from importlib.metadata import version

import torch
from modelopt.torch.quantization.qtensor import MXFP4QTensor, MXFP8QTensor, NVFP4QTensor

__version__ = version("nvidia-modelopt")


def encode(name, x, rule="modelopt", writer="modelopt"):
    x = torch.from_numpy(x).float()
    if name == "nvfp4":
        made, scale, tensor_scale = NVFP4QTensor.quantize(x, 16)
        codes = made._quantized_data
        return {
            "codes": codes.view(torch.uint8).numpy(), "scale": scale.view(torch.uint8).numpy(),
            "tensor_scale": tensor_scale.reshape(1).numpy(),
        }  # fmt: skip
    made, scale = MXFP4QTensor.quantize(x, 32) if name == "mx.fp4_e2m1" else MXFP8QTensor.quantize(x)
    return {"codes": made._quantized_data.view(torch.uint8).numpy(), "scale": scale.view(torch.uint8).numpy()}


def decode(name, stored, shape, rule="modelopt", writer="modelopt"):
    codes, scale = torch.from_numpy(stored["codes"]), torch.from_numpy(stored["scale"])
    if name == "nvfp4":
        rows = codes.reshape(-1, shape[-1] // 2)
        made = NVFP4QTensor(torch.Size(shape), torch.float32, rows)
        scale = scale.view(torch.float8_e4m3fn).reshape(rows.shape[0], -1)
        double_scale = torch.from_numpy(stored["tensor_scale"])[0]
        values = made.dequantize(torch.float32, scale=scale, double_scale=double_scale, block_sizes={-1: 16})
    elif name == "mx.fp4_e2m1":
        made = MXFP4QTensor(torch.Size(shape), torch.float32, codes)
        values = made.dequantize(torch.float32, scale=scale, block_sizes={-1: 32})
    else:
        raise NotImplementedError
    return values.reshape(shape).numpy()
