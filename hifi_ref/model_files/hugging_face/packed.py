"""Checkpoints that are quantized already: which of their tensors a converter decodes, and how.

A packed weight is several tensors of the checkpoint, one of them its codes. It becomes a tensor whose planes are the
codes where they have its shape, and the number of each row and column, so that it can be viewed like any other.

| quant_method | tensors of a weight | weight |
|---|---|---|
| fp8, modelopt | weight, weight_scale_inv or weight_scale | float 8 times the scale of its block, row or tensor |
| compressed-tensors, float, int, naive | weight, weight_scale | the same |
| compressed-tensors, pack | weight_packed, weight_scale, weight_shape, weight_zero_point | (code - zero) * scale |
| gptq | qweight, qzeros, scales, g_idx | (code - zero) * scale, turned |
| bitnet | weight, weight_scale | (two bits - 1) / scale |
| mxfp4, of gpt-oss | _blocks, _scales | MXFP4, its nibbles in GGUF's order |

Reference: ModelBase.dequant_model of convert_hf_to_gguf in llama.cpp v0.5.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hifi_ref import api
from hifi_ref.model_files.hugging_face.tensors import Part, Tensor, unknown_tensor
from hifi_ref.model_files.weights import NotKnown

# The tensors of the checkpoint by name, and what one of them is.
Tensors = Mapping[str, Tensor]


def unpacked(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors that a converter sees: packed weights decoded, those that stay packed as tensors not known."""
    quantized = config.get("quantization_config")
    quantized = quantized if isinstance(quantized, dict) else {}
    method = quantized.get("quant_method")
    seen = dict(tensors)
    for ending, others, decode in DECODERS.get(method, ()) if isinstance(method, str) else ():
        for name in [name for name in seen if name.endswith(ending)]:
            _replace(seen, name, name.removesuffix(ending), others, decode, quantized)
    by = f"by {method}" if isinstance(method, str) else "in a way that config.json does not name"
    for name, tensor in list(seen.items()):
        left = name.endswith(".weight") and tensor.kind in ("U8", "I8", "I32", "U32")
        if left or name.endswith((".qweight", ".weight_packed")):
            weight = name.removesuffix("_packed").replace(".qweight", ".weight")
            seen[weight] = unknown_tensor((name,), f"the source is quantized {by}, which is not decoded here")
        if name.endswith(_BESIDE) or quantized and name.endswith(_UNUSED):
            del seen[name]
    return seen


# What a converter makes no weights of; and what stands beside packed weights, by which program ever.
_UNUSED = (
    ".activation_scale",
    "_activation_scale",
    ".input_scale",
    ".k_scale",
    ".v_scale",
    "_global_scale",
    "_scale_2",
)
_BESIDE = (".qweight", ".qzeros", ".scales", ".g_idx", ".absmax", ".quant_map", ".weight_packed", ".nested_absmax",
           ".nested_quant_map", ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4", ".SCB",
           ".weight_format")  # fmt: skip


def _replace(
    seen: dict[str, Tensor], name: str, base: str, others: Sequence[str],
    decode: Callable[..., Tensor], config: Mapping[str, Any],
) -> None:  # fmt: skip
    """Put the decoded weight in the place of the tensors that it is made of."""
    parts = [seen.get(base + other) for other in others]
    if parts[0] is None:
        return
    weight = f"{base}.weight" if decode is _gptq else base
    packed = seen.pop(name)
    for other in others:
        seen.pop(base + other, None)
    try:
        seen[weight] = decode(config, packed, *parts)
    except (NotKnown, KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, NotKnown) else f"its parts do not fit together ({type(error).__name__})"
        seen[weight] = unknown_tensor((name,), f"the packed weight of the source cannot be decoded: {why}")


def _need(fits: bool) -> None:
    if not fits:
        raise NotKnown("its parts do not fit together")


def _whole(tensor: Tensor) -> np.ndarray:
    """The numbers of a small tensor, scales say, in its own type."""
    return tensor.parts[0].planes[0].reshape(tensor.shape)


def _indexed(tensor: Tensor, shape: tuple[int, ...], values: Callable[..., np.ndarray], codes: bool = True) -> Tensor:
    """A tensor of ``shape`` whose numbers ``values`` makes of its codes, and of each one's place."""
    places = [
        np.broadcast_to(np.arange(n).reshape(-1, *[1] * (len(shape) - i - 1)), shape) for i, n in enumerate(shape)
    ]
    planes = ((_whole(tensor),) if codes else ()) + tuple(places)
    return Tensor(tensor.names, shape, "F32", (Part(planes, math.prod(shape[:-1]), values),))


def _times_scale(weight: Tensor, scale: Tensor, block: Sequence[int] | None) -> Tensor:
    """Each weight times the scale of its block; without blocks, of its row or of all."""
    shape, scales = weight.shape, _whole(scale).astype(np.float32)
    sizes = [1] * len(shape)
    if block is not None:
        if len(block) > scales.ndim or scales.ndim != len(shape):
            raise NotKnown("its scales have other axes")
        sizes[len(shape) - len(block) :] = [int(n) for n in block]
    scales = scales.reshape(scales.shape + (1,) * (len(shape) - scales.ndim))
    counts: tuple[int, ...] = scales.shape
    for n, size, of in zip(shape, sizes, counts, strict=True):
        if of != 1 and of * size < n or size < 1:
            raise NotKnown("its scales are too few")

    def values(codes: np.ndarray, *places: np.ndarray) -> np.ndarray:
        which = tuple(
            place // size if of > 1 else np.zeros_like(place)
            for place, size, of in zip(places, sizes, counts, strict=True)
        )
        return codes.astype(np.float32) * scales[which]

    return _indexed(weight, shape, values)


def _fp8(config: Mapping[str, Any], scale: Tensor, weight: Tensor) -> Tensor:
    return _times_scale(weight, scale, config.get("weight_block_size"))


def _scaled(config: Mapping[str, Any], scale: Tensor, weight: Tensor) -> Tensor:
    if weight.kind == "U8":
        raise NotKnown("NVFP4 of modelopt is not decoded here")
    return _times_scale(weight, scale, None)


def _compressed(config: Mapping[str, Any], scale: Tensor, weight: Tensor) -> Tensor:
    settings = _settings(config)
    if config.get("format") not in ("float-quantized", "int-quantized", "naive-quantized"):
        raise NotKnown(f"the format {config.get('format')} of compressed-tensors is not decoded here")
    if settings.get("strategy") not in ("channel", "block") or settings.get("group_size") is not None:
        raise NotKnown(f"the converter does not read the strategy {settings.get('strategy')}")
    return _times_scale(weight, scale, settings.get("block_structure"))


def _settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    groups = list(config["config_groups"].values())
    if len(groups) != 1:
        raise NotKnown("the converter reads one group of settings, and there are several")
    return groups[0]["weights"]


def _pack(config: Mapping[str, Any], packed: Tensor, scale: Tensor, shape: Tensor, zero: Tensor | None) -> Tensor:
    settings = _settings(config)
    bits, group = settings["num_bits"], settings["group_size"]
    if config.get("format") != "pack-quantized" or settings.get("strategy") != "group" or packed.kind != "I32":
        raise NotKnown(f"the format {config.get('format')} of compressed-tensors is not decoded here")
    _need(bits in range(1, 9) and isinstance(group, int) and group > 0)
    words, scales = _whole(packed), _whole(scale).astype(np.float32)
    zeros = None if zero is None else _whole(zero)
    rows, columns = (int(n) for n in _whole(shape).tolist())
    each, mask = len(range(0, 32 - (bits - 1), bits)), (1 << bits) - 1
    groups = -(-columns // group)
    _need(words.shape == (rows, -(-columns // each)) and scales.shape == (rows, groups))
    _need(zeros is None or zeros.shape == (-(-rows // each), groups))

    def values(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        code = words[row, column // each] >> (column % each * bits) & mask
        if zeros is None:
            base: np.ndarray | int = 1 << (bits - 1)
        else:
            base = zeros[row // each, column // group] >> (row % each * bits) & mask
        return (code - base).astype(np.float32) * scales[row, column // group]

    return _indexed(packed, (rows, columns), values, codes=False)


def _gptq(config: Mapping[str, Any], packed: Tensor, zero: Tensor, scale: Tensor, group: Tensor | None) -> Tensor:
    bits = config["bits"]
    if bits not in (2, 4, 8) or group is None or packed.kind not in ("I32", "I16", "I8"):
        raise NotKnown(f"the converter does not read {bits} bits of gptq without groups")
    words, zeros = _whole(packed), _whole(zero)
    scales, groups = _whole(scale).astype(np.float32), _whole(group)
    each, mask = 8 * words.itemsize // bits, (1 << bits) - 1
    inputs, outputs = words.shape[0] * each, words.shape[1]
    _need(scales.ndim == 2 and scales.shape[1] == outputs and groups.shape == (inputs,))
    _need(zeros.shape == (scales.shape[0], -(-outputs // each)) and 0 <= groups.min() <= groups.max() < len(scales))
    first = 1 if config.get("checkpoint_format", "gptq") == "gptq" else 0

    def values(column: np.ndarray, row: np.ndarray) -> np.ndarray:
        which = groups[row]
        code = (words[row // each, column] >> (row % each * bits)) & mask
        base = ((zeros[which, column // each] >> (column % each * bits)) & mask) + first
        return scales[which, column] * (code - base).astype(np.float32)

    return _indexed(packed, (outputs, inputs), values, codes=False)


def _bitnet(config: Mapping[str, Any], scale: Tensor, weight: Tensor) -> Tensor:
    codes, divisor = _whole(weight).view(np.uint8), _whole(scale).astype(np.float32).reshape(-1)
    if divisor.size != 1:
        raise NotKnown("it has several scales")
    n = codes.shape[0]

    def values(row: np.ndarray, *places: np.ndarray) -> np.ndarray:
        two = codes[(row % n, *places)] >> (2 * (row // n)).astype(np.uint8) & 3
        return (two.astype(np.float32) - np.float32(1)) / divisor[0]

    return _indexed(weight, (4 * n, *codes.shape[1:]), values, codes=False)


def _mxfp4(config: Mapping[str, Any], blocks: Tensor, scale: Tensor) -> Tensor:
    """Experts of gpt-oss: blocks uint8[experts, rows, groups, 16] and scales uint8[experts, rows, groups]."""
    experts, rows, groups, width = blocks.shape
    _need(width == 16 and scale.shape == blocks.shape[:3] and {blocks.kind, scale.kind} == {"U8"})

    def stored(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        pairs = codes.reshape(len(codes), -1, 16)
        each = np.stack([pairs & 15, pairs >> 4], -1).reshape(*pairs.shape[:2], 32)
        halves = each[..., :16] | each[..., 16:] << 4
        return np.concatenate([scales[..., None], halves], -1).reshape(len(codes), -1)

    def values(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return api.decode("MXFP4", stored(codes, scales), lane="numpy")

    part = Part((_whole(blocks), _whole(scale)), experts * rows, values, stored)
    return Tensor(blocks.names + scale.names, (experts, rows, groups * 32), "MXFP4", (part,))


# How each quant_method's weights are found and decoded: the ending of one tensor, and what else stands beside it.
DECODERS: dict[str, tuple[tuple[str, tuple[str, ...], Callable[..., Tensor]], ...]] = {
    "fp8": (("_scale_inv", ("",), _fp8),),
    "modelopt": (("_scale", ("",), _scaled),),
    "compressed-tensors": (("_packed", ("_scale", "_shape", "_zero_point"), _pack), ("_scale", ("",), _compressed)),
    "gptq": ((".qweight", (".qzeros", ".scales", ".g_idx"), _gptq),),
    "bitnet": (("_scale", ("",), _bitnet),),
    "mxfp4": (("_blocks", ("_scales",), _mxfp4),),
}
