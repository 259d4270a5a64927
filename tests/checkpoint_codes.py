"""Weights of checkpoints that are quantized already: codes drawn, in the tensors that each program keeps them in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LAYERS = 2
Raw = dict[str, tuple[str, tuple[int, ...], bytes]]
GROUP = 32
CHANNELS = {
    "quant_method": "compressed-tensors", "format": "float-quantized",
    "config_groups": {"group_0": {"weights": {"strategy": "channel", "type": "float", "num_bits": 8}}},
}  # fmt: skip
PACKED = {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {
        "group_0": {"weights": {"strategy": "group", "type": "int", "num_bits": 4, "group_size": GROUP}},
    },
}  # fmt: skip


def words(name: str, *shape: int) -> np.ndarray:
    """uint8[shape], drawn by a name."""
    seed = int.from_bytes(name.encode(), "big") % (2**61 - 1)
    n = int(np.prod(shape))
    raw = np.random.Generator(np.random.PCG64(seed)).bit_generator.random_raw(-(-n // 8))
    return raw.astype("<u8").view(np.uint8)[:n].reshape(shape)


def _scales(name: str, *shape: int) -> np.ndarray:
    """f32[shape] between 2^-9 and 2^-8."""
    return (words(name, *shape).astype(np.float32) + np.float32(256)) * np.float32(2.0**-17)


def _float8(name: str, *shape: int) -> bytes:
    """E4M3 without its NaN."""
    codes = words(name, *shape)
    return np.where(codes & 0x7F == 0x7F, codes ^ 1, codes).astype(np.uint8).tobytes()


def _tensor(dtype: str, x: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return dtype, x.shape, x.tobytes()


def in_every_layer(make: Callable[[str, int, int], Raw], shapes: dict[str, tuple[int, ...]]) -> Raw:
    made: Raw = {}
    for i in range(LAYERS):
        for name, (rows, columns) in shapes.items():
            made |= make(f"model.layers.{i}.{name.removesuffix('.weight')}", rows, columns)
    return made


def fp8(name: str, rows: int, columns: int) -> Raw:
    scales = _scales(f"{name} scales", -(-rows // 32), -(-columns // 48))
    return {
        f"{name}.weight": ("F8_E4M3", (rows, columns), _float8(name, rows, columns)),
        f"{name}.weight_scale_inv": _tensor("F32", scales),
    }


def channels(name: str, rows: int, columns: int) -> Raw:
    return {
        f"{name}.weight": ("F8_E4M3", (rows, columns), _float8(name, rows, columns)),
        f"{name}.weight_scale": _tensor("F32", _scales(f"{name} scales", rows, 1)),
    }


def packed(name: str, rows: int, columns: int) -> Raw:
    scales = _scales(f"{name} scales", rows, columns // GROUP).astype("<f2")
    return {
        f"{name}.weight_packed": ("I32", (rows, columns // 8), words(name, rows, columns // 2).tobytes()),
        f"{name}.weight_scale": _tensor("F16", scales),
        f"{name}.weight_shape": _tensor("I64", np.array([rows, columns], "<i8")),
    }


def gptq(name: str, rows: int, columns: int) -> Raw:
    groups = columns // GROUP
    return {
        f"{name}.qweight": ("I32", (columns // 8, rows), words(name, columns // 2, rows).tobytes()),
        f"{name}.qzeros": ("I32", (groups, rows // 8), words(f"{name} zeros", groups, rows // 2).tobytes()),
        f"{name}.scales": _tensor("F16", _scales(f"{name} scales", groups, rows).astype("<f2")),
        f"{name}.g_idx": _tensor("I32", (np.arange(columns) // GROUP).astype("<i4")),
    }


def mxfp4(name: str, experts: int, rows: int, columns: int) -> Raw:
    made: Raw = {}
    for i in range(LAYERS):
        tensor = f"model.layers.{i}.{name}"
        shape = (experts, rows, columns // 32)
        scales = words(f"{tensor} scales", *shape) % 16 + 112
        made[f"{tensor}_blocks"] = ("U8", (*shape, 16), words(tensor, *shape, 16).tobytes())
        made[f"{tensor}_scales"] = _tensor("U8", scales.astype(np.uint8))
    return made
