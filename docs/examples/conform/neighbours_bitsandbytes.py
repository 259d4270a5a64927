"""bitsandbytes as a target, on its CPU back end: run where it and hifi_ref are installed, in this folder:

    python -m hifi_ref.conform python:neighbours_bitsandbytes --dialect=bitsandbytes

Its verdict stands in docs/conformance/neighbours.
"""

import bitsandbytes
import numpy as np
import torch
from bitsandbytes import functional

__version__ = bitsandbytes.__version__
BLOCKS = {"nf4", "fp4"}


def _kind(name, rule):
    """The kind of a scheme. What this back end does not compute is not offered: CUDA's rule, and the default one's."""
    if rule not in ("cpu", "cpu-avx512"):
        raise NotImplementedError
    return name.partition(".")[2]


def _tensor(x):
    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def encode(name, x, block_size=64, nested=False, threshold=0.0, rule="cpu", offset=None):
    if offset is not None:
        # The mean of all absmax, which the library takes itself
        raise NotImplementedError
    kind = _kind(name, rule)
    if kind == "llm-int8":
        # The back end takes binary16 alone
        codes, row_stats, columns = functional.int8_vectorwise_quant(torch.from_numpy(x), threshold)
        found = np.zeros(0, np.int64) if columns is None else columns.numpy()
        return {"codes": codes.numpy(), "row_stats": row_stats.numpy(), "outlier_cols": found}
    if kind == "int8":
        codes, state = functional.quantize_blockwise(_tensor(x), blocksize=block_size)
        return {"codes": codes.numpy(), "absmax": state.absmax.numpy()}
    codes, state = functional.quantize_4bit(
        _tensor(x), blocksize=block_size, quant_type=kind, compress_statistics=nested
    )
    if not nested:
        return {"codes": codes.numpy(), "absmax": state.absmax.numpy()}
    return {
        "codes": codes.numpy(), "absmax_codes": state.absmax.numpy(), "absmax2": state.state2.absmax.numpy(),
        "offset": state.offset.reshape(1).numpy(),
    }  # fmt: skip


def decode(name, stored, shape, block_size=64, nested=False, rule="cpu"):
    kind = _kind(name, rule)
    codes = torch.from_numpy(stored["codes"])
    if kind == "int8":
        absmax = torch.from_numpy(stored["absmax"])
        return functional.dequantize_blockwise(codes, absmax=absmax, blocksize=block_size).numpy()
    state = functional.QuantState(
        absmax=torch.from_numpy(stored["absmax_codes" if nested else "absmax"]), shape=torch.Size(shape),
        blocksize=block_size, quant_type=kind, dtype=torch.float32, code=functional.get_4bit_type(kind, device="cpu"),
    )  # fmt: skip
    if nested:
        state.nested, state.offset = True, torch.from_numpy(stored["offset"])[0]
        state.state2 = functional.QuantState(
            absmax=torch.from_numpy(stored["absmax2"]), blocksize=256, dtype=torch.float32,
            code=functional.create_dynamic_map(),
        )  # fmt: skip
    return functional.dequantize_4bit(codes.reshape(-1, 1), state).reshape(shape).numpy()


def matmul(name, stored, a, threshold=0.0, rule="cpu"):
    if _kind(name, rule) != "llm-int8":
        raise NotImplementedError
    codes, row_stats, _ = functional.int8_vectorwise_quant(torch.from_numpy(a), threshold)
    sums = functional.int8_linear_matmul(codes, torch.from_numpy(stored["codes"]))
    # In binary32: the function that is called for products rounds to binary16
    scaled = torch.ops.bitsandbytes.int8_mm_dequant.default(
        sums, row_stats, torch.from_numpy(stored["row_stats"]), dtype=torch.float32
    )
    return scaled.numpy()
