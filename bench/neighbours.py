"""How fast the neighbours' formats are beside the libraries that they come from: `python -m bench.neighbours`.

NumPy arrays in and out, on two threads; the libraries on two threads as well, on arrays of their own. Every time is the
best of several, and the ratios travel further than the figures. Needs `hifi-ref[neighbours]`; a library that is missing
ends the program.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import app, flags

from bench import clock
from hifi_ref import neighbours as nb

_LIBRARIES = flags.DEFINE_list("libraries", ["bitsandbytes", "torchao", "mlx"], "Those.")
_REPEAT = flags.DEFINE_integer("repeat", 5, "The best of so many runs counts.")
SHAPE = (2048, 4096)

Work = Callable[[], object]
# Scheme, its parameters, and the library's encoder and decoder.
Line = tuple[str, dict[str, Any], Work, Work]


def best(run: Work) -> float:
    return clock.best(run, _REPEAT.value)


def bitsandbytes(x: np.ndarray) -> Iterator[Line]:
    import torch
    from bitsandbytes import functional

    torch.set_num_threads(2)
    t = torch.from_numpy(x)
    for kind in ("nf4", "fp4"):
        codes, state = functional.quantize_4bit(t, quant_type=kind)
        yield (
            f"bitsandbytes.{kind}",
            {},
            lambda kind=kind: functional.quantize_4bit(t, quant_type=kind),
            lambda codes=codes, state=state: functional.dequantize_4bit(codes, state),
        )
    codes, state = functional.quantize_blockwise(t)
    yield (
        "bitsandbytes.int8",
        {},
        lambda: functional.quantize_blockwise(t),
        lambda: functional.dequantize_blockwise(codes, state),
    )


def torchao(x: np.ndarray) -> Iterator[Line]:
    import torch
    from torchao.prototype.mx_formats import constants, mx_tensor, nvfp4_tensor

    torch.set_num_threads(2)
    t = torch.from_numpy(x)
    kinds = {
        "fp8_e4m3": torch.float8_e4m3fn,
        "fp6_e2m3": constants.DTYPE_FP6_E2M3,
        "fp4_e2m1": torch.float4_e2m1fn_x2,
    }
    for kind, dtype in kinds.items():
        scale, codes = mx_tensor.to_mx(t, dtype, 32)
        yield (
            f"mx.{kind}",
            {},
            lambda dtype=dtype: mx_tensor.to_mx(t, dtype, 32),
            lambda s=scale, c=codes, dtype=dtype: mx_tensor.to_dtype(c, s, dtype, 32, torch.float32),
        )
    made = nvfp4_tensor.NVFP4Tensor.to_nvfp4(t)
    yield (
        "nvfp4",
        {"writer": "torchao-single"},
        lambda: nvfp4_tensor.NVFP4Tensor.to_nvfp4(t),
        lambda: made.dequantize(torch.float32),
    )


def mlx(x: np.ndarray) -> Iterator[Line]:
    import mlx.core as mx

    a = mx.array(x)
    for mode, name in (("mxfp4", "mx.fp4_e2m1"), ("mxfp8", "mx.fp8_e4m3"), ("nvfp4", "nvfp4")):
        stored = mx.quantize(a, mode=mode)
        yield (
            name,
            {"writer": "mlx"},
            lambda mode=mode: mx.eval(mx.quantize(a, mode=mode)),
            lambda mode=mode, stored=stored: mx.eval(mx.dequantize(*stored, mode=mode, dtype=mx.float32)),
        )


def main(_: Any) -> None:
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    ratios: dict[str, list[float]] = {"encode": [], "decode": []}
    print("| library | scheme | encode, Mw/s | of the library's | decode, Mw/s | of the library's |")
    print("|---|---|---|---|---|---|")
    for library in _LIBRARIES.value:
        for name, given, theirs_to_encode, theirs_to_decode in globals()[library](x):
            stored = nb.encode(name, x, **given)
            pairs = {
                "encode": (functools.partial(nb.encode, name, x, **given), theirs_to_encode),
                "decode": (functools.partial(nb.decode, name, stored, SHAPE, **given), theirs_to_decode),
            }
            cells = []
            for operation, (ours, theirs) in pairs.items():
                seconds = best(ours)
                ratios[operation].append(best(theirs) / seconds)
                cells += [f"{x.size / seconds / 1e6:.0f}", f"{ratios[operation][-1]:.2f}"]
            print(f"| {library} | {name} | {' | '.join(cells)} |", flush=True)
    for operation, found in ratios.items():
        print(f"{operation}: geometric mean {math.exp(np.log(found).mean()):.2f} of the libraries' speed")


if __name__ == "__main__":
    app.run(main)
