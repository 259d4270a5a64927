"""`python -m tests.neighbours.live [bitsandbytes] [torchao] [mlx]`: the schemes against the libraries themselves.

Encodes and decodes random and hard weights by both and compares bits; a library that is asked for and missing ends the
program. Needs the extra ``neighbours``. Prints a line for each scheme and parameters; exit code 1 where a bit differs.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from hifi_ref import neighbours as nb

LIBRARIES = ("bitsandbytes", "torchao", "mlx")
Pair = tuple[str, Any, Any]


def weights(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Rows of many sizes, some with zeros, some of a few values, some with a value that stands out."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 6, (shape[0], 1))
    x[1::5] = np.round(x[1::5] / np.abs(x[1::5]).max(axis=1, keepdims=True) * 12) / 4
    x[2::5] *= rng.random((len(x[2::5]), shape[1])) < 0.5
    x[3::5, ::37] *= 40
    x[4] = 0
    return x.astype(np.float32)


def differing(ours: Any, theirs: Any) -> int:
    """Bits of numbers, NaN equal to NaN; -0 is not 0."""
    a, b = np.asarray(ours).reshape(-1), np.asarray(theirs).reshape(-1)
    if a.size != b.size:
        return max(a.size, b.size)
    if a.dtype.kind != "f":
        return int((a != b).sum())
    same = (a.astype(np.float32).view(np.uint32) == b.astype(np.float32).view(np.uint32)) | ((a != a) & (b != b))
    return int((~same).sum())


def bitsandbytes() -> Iterator[Pair]:
    import torch
    from bitsandbytes import functional

    x = weights((96, 4096), 1)
    t = torch.from_numpy(x)
    for kind in ("nf4", "fp4"):
        for block in (32, 64, 128, 256, 512, 1024, 2048, 4096):
            name, given = f"bitsandbytes.{kind}", {"block_size": block}
            codes, state = functional.quantize_4bit(t, blocksize=block, quant_type=kind)
            stored = {"codes": codes.numpy(), "absmax": state.absmax.numpy()}
            y = functional.dequantize_4bit(codes, state).numpy()
            yield from _both(name, x, given, stored, y)
        yield from _checkpoint(kind, x)
    for block in (64, 256, 4096):
        codes, state = functional.quantize_blockwise(t, blocksize=block)
        stored = {"codes": codes.numpy(), "absmax": state.absmax.numpy()}
        y = functional.dequantize_blockwise(codes, state).numpy()
        yield from _both("bitsandbytes.int8", x, {"block_size": block}, stored, y)
    a = weights((24, 512), 2) / np.float32(100)
    for threshold in (0.0, 6.0):
        codes, stats, columns = functional.int8_vectorwise_quant(torch.from_numpy(a.copy()), threshold=threshold)
        stored = {"codes": codes.numpy(), "row_stats": stats.numpy()}
        stored |= {} if columns is None else {"outlier_cols": columns.numpy()}
        ours = nb.encode("bitsandbytes.llm-int8", a, threshold=threshold)
        for key, array in stored.items():
            yield f"bitsandbytes.llm-int8 threshold={threshold} {key}", ours[key], array


def _checkpoint(kind: str, x: np.ndarray) -> Iterator[Pair]:
    """What a layer with nested absmax saves, decoded from the arrays of its checkpoint."""
    import bitsandbytes
    import torch

    layer = bitsandbytes.nn.Linear4bit(x.shape[1], len(x), bias=False, quant_type=kind, compress_statistics=True)
    layer.load_state_dict({"weight": torch.from_numpy(x)})
    layer = layer.to("cpu")
    layer(torch.zeros(1, x.shape[1]))
    saved = {key: array.numpy() for key, array in layer.state_dict().items()}
    state = json.loads(bytes(saved[f"weight.quant_state.bitsandbytes__{kind}"]))
    stored = {
        "codes": saved["weight"],
        "absmax_codes": saved["weight.absmax"],
        "absmax2": saved["weight.nested_absmax"],
        "offset": np.array([state["nested_offset"]], np.float32),
    }
    given = {"nested": True, "block_size": state["blocksize"], "nested_block_size": state["nested_blocksize"]}
    ours = nb.decode(f"bitsandbytes.{kind}", stored, shape=tuple(state["shape"]), **given)
    theirs = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    yield f"bitsandbytes.{kind} checkpoint, nested", ours, theirs.float().numpy()
    encoded = nb.encode(f"bitsandbytes.{kind}", x, offset=state["nested_offset"], **given)
    for key, array in stored.items():
        yield f"bitsandbytes.{kind} checkpoint, nested {key}", encoded[key], array


def torchao() -> Iterator[Pair]:
    import torch
    from torchao.prototype.mx_formats import constants, mx_tensor, nvfp4_tensor

    x = weights((96, 512), 3)
    t = torch.from_numpy(x)
    kinds = {
        "fp8_e4m3": torch.float8_e4m3fn,
        "fp8_e5m2": torch.float8_e5m2,
        "fp6_e3m2": constants.DTYPE_FP6_E3M2,
        "fp6_e2m3": constants.DTYPE_FP6_E2M3,
        "fp4_e2m1": torch.float4_e2m1fn_x2,
    }
    for kind, dtype in kinds.items():
        for rule in mx_tensor.ScaleCalculationMode:
            scale, codes = mx_tensor.to_mx(t, dtype, 32, rule)
            made = {"scale": scale.view(torch.uint8).numpy(), "codes": codes.view(torch.uint8).numpy()}
            ours = nb.encode(f"mx.{kind}", x, rule=rule.value)
            for key, array in made.items():
                yield f"mx.{kind} rule={rule.value} {key}", ours[key], array
            y = mx_tensor.to_dtype(codes, scale, dtype, 32, torch.float32)
            yield f"mx.{kind} decode", nb.decode(f"mx.{kind}", made, shape=x.shape), y.numpy()
    for writer, amax in (("torchao-single", None), ("torchao", t.abs().max())):
        given = {} if amax is None else {"per_tensor_scale": nvfp4_tensor.per_tensor_amax_to_scale(amax)}
        made = nvfp4_tensor.NVFP4Tensor.to_nvfp4(t, **given)
        stored = {"scale": made.scale.view(torch.uint8).numpy(), "codes": made.qdata.view(torch.uint8).numpy()}
        stored |= {} if amax is None else {"tensor_scale": given["per_tensor_scale"].reshape(1).numpy()}
        yield from _both("nvfp4", x, {"writer": writer}, stored, made.dequantize(torch.float32).numpy())


def mlx() -> Iterator[Pair]:
    import mlx.core as mx

    x = weights((96, 512), 4)
    for mode, name in (("mxfp4", "mx.fp4_e2m1"), ("mxfp8", "mx.fp8_e4m3"), ("nvfp4", "nvfp4")):
        codes, scale = mx.quantize(mx.array(x), mode=mode)
        stored = {"scale": np.array(scale), "codes": np.array(codes).view(np.uint8)}
        y = np.array(mx.dequantize(codes, scale, mode=mode, dtype=mx.float32))
        yield from _both(name, x, {"writer": "mlx"}, stored, y)


def _both(name: str, x: np.ndarray, given: dict[str, Any], stored: Any, y: np.ndarray) -> Iterator[Pair]:
    said = " ".join([name, *(f"{key}={value}" for key, value in given.items())])
    ours = nb.encode(name, x, **given)
    for key, array in stored.items():
        yield f"{said} {key}", ours[key], array
    yield f"{said} decode", nb.decode(name, stored, shape=x.shape, **given), y


def main(names: list[str]) -> int:
    wrong = 0
    for name in names or LIBRARIES:
        importlib.import_module(name)
        compared = 0
        for said, ours, theirs in globals()[name]():
            found = differing(ours, theirs)
            wrong += found
            compared += np.asarray(theirs).size
            if found:
                print(f"{said}: {found} of {np.asarray(theirs).size} differ")
        print(f"{name}: {compared:,} values compared")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
