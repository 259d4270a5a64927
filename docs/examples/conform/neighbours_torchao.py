"""torchao's MX and NVFP4 formats as a target: run where it and hifi_ref are installed, in this folder:

    python -m hifi_ref.conform python:neighbours_torchao --dialect=torchao

Its verdict stands in docs/conformance/neighbours.
"""

from importlib.metadata import version

import torch
from torchao.prototype.mx_formats import mx_tensor
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, nvfp4_quantize, per_tensor_amax_to_scale

__version__ = version("torchao")
ELEMENTS = {
    "mx.fp8_e4m3": torch.float8_e4m3fn,
    "mx.fp8_e5m2": torch.float8_e5m2,
    "mx.fp6_e3m2": mx_tensor.DTYPE_FP6_E3M2,
    "mx.fp6_e2m3": mx_tensor.DTYPE_FP6_E2M3,
    "mx.fp4_e2m1": torch.float4_e2m1fn_x2,
}


def encode(name, x, rule="floor", writer="torchao"):
    x = torch.from_numpy(x).float()
    if name == "nvfp4":
        single = writer == "torchao-single"
        tensor_scale = None if single else per_tensor_amax_to_scale(x.abs().max())
        scale, codes = nvfp4_quantize(x, per_tensor_scale=tensor_scale)
        stored = {"scale": scale.view(torch.uint8).numpy(), "codes": codes.view(torch.uint8).numpy()}
        return stored if single else stored | {"tensor_scale": tensor_scale.reshape(1).numpy()}
    scale, codes = mx_tensor.to_mx(x, ELEMENTS[name], 32, ScaleCalculationMode(rule))
    return {"scale": scale.view(torch.uint8).numpy(), "codes": codes.view(torch.uint8).numpy()}


def decode(name, stored, shape, rule="floor", writer="torchao"):
    codes, scale = torch.from_numpy(stored["codes"]), torch.from_numpy(stored["scale"])
    if name == "nvfp4":
        if writer == "torchao-single":
            raise NotImplementedError
        tensor_scale = torch.from_numpy(stored["tensor_scale"])[0]
        rows = codes.reshape(-1, shape[-1] // 2)
        scale = scale.view(torch.float8_e4m3fn).reshape(rows.shape[0], -1)
        made = NVFP4Tensor(rows, scale, 16, torch.float32, per_tensor_scale=tensor_scale)
        return made.dequantize(torch.float32).reshape(shape).numpy()
    element = ELEMENTS[name]
    is_float8 = element in (torch.float8_e4m3fn, torch.float8_e5m2)
    codes = codes.view(element) if is_float8 else codes
    scale = scale.view(torch.float8_e8m0fnu).reshape(codes.shape[0], -1)
    return mx_tensor.to_dtype(codes, scale, element, 32, torch.float32).reshape(shape).numpy()
