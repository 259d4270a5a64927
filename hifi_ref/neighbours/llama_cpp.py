"""To llama.cpp's MXFP4 and NVFP4 blocks and back, without decoding: the values stay, or it is refused.

    scheme       its arrays                         llama.cpp's block
    mx.fp4_e2m1  a scale for 32, two codes a byte   of 32: e, then weights 0-15 low, 16-31 high
    nvfp4        a scale for 16, two codes a byte   of 64: four scales, then of every 16 weights 0-7 low, 8-15 high

The scales are the same bytes and mean the same, but that llama.cpp reads MXFP4's 255 as one more power of two, where
OCP has NaN, and NVFP4's 127 as 0, where it is NaN, and ignores its sign. Such scales are refused. Code 8 is -0 here and
+0 there. A tensor's scale has no place in NVFP4's blocks: llama.cpp keeps it as a tensor beside them.

Inside jax.jit values cannot be looked at: there nothing is refused, and what should be is unspecified.

Reference: block_mxfp4, block_nvfp4, ggml_e8m0_to_fp32_half, ggml_ue4m3_to_fp32 (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import mxfp4, nvfp4
from hifi_ref.formats.packing import join_nibbles, split_nibbles
from hifi_ref.neighbours.packing import join_pairs, split_pairs

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from hifi_ref.exact import Array
    from hifi_ref.neighbours.scheme import Stored


def to_mxfp4(stored: Stored) -> UInt8[Array, "*n row_bytes"]:
    """mx.fp4_e2m1's scale [..., row / 32] and codes to the rows of blocks that hr.decode("MXFP4") takes.

    Raises:
        ValueError: a scale of 255, NaN, which llama.cpp has no block for.
    """
    scale = stored["scale"]
    _refuse(scale, scale == 255, "is NaN, which no MXFP4 block can say")
    codes = _apart(stored["codes"], 32)
    blocks = mxfp4.LAYOUT.pack(e=scale.reshape(-1), qs=join_nibbles(codes))
    return blocks.reshape(*scale.shape[:-1], -1)


def from_mxfp4(blocks: UInt8[Array, "*n row_bytes"]) -> dict[str, Array]:
    """The inverse. ValueError for a scale of 255, which is a number to llama.cpp."""
    e, qs = mxfp4.LAYOUT.unpack(blocks.reshape(-1, mxfp4.LAYOUT.type_size))
    _refuse(e, e == 255, "is 2^128 to llama.cpp, and NaN to others")
    codes = join_pairs(split_nibbles(qs).reshape(-1), even_is_high=False)
    return {"scale": _rows(e, blocks), "codes": _rows(codes, blocks)}


def to_nvfp4(stored: Stored) -> UInt8[Array, "*n row_bytes"]:
    """nvfp4's scale [..., row / 16] and codes to the rows of blocks that hr.decode("NVFP4") takes.

    A tensor_scale stays where it is: what the blocks decode to is to be multiplied by it.

    Raises:
        ValueError: rows that are no multiple of 64, or a scale that is NaN or negative.
    """
    scale = stored["scale"]
    if scale.shape[-1] % 4:
        raise ValueError(f"rows of {16 * scale.shape[-1]} weights are no multiple of the 64 of an NVFP4 block")
    _refuse(scale, scale >= 127, "is NaN or negative, which no NVFP4 block can say")
    codes = _apart(stored["codes"], 16)
    blocks = nvfp4.LAYOUT.pack(d=scale.reshape(-1, 4), qs=join_nibbles(codes).reshape(-1, 32))
    return blocks.reshape(*scale.shape[:-1], -1)


def from_nvfp4(blocks: UInt8[Array, "*n row_bytes"]) -> dict[str, Array]:
    """The inverse, for writers without a tensor_scale. Scales that mean 0 to llama.cpp become 0."""
    lib = exact.library(blocks)
    d, qs = nvfp4.LAYOUT.unpack(blocks.reshape(-1, nvfp4.LAYOUT.type_size))
    d = d & np.uint8(127)
    codes = join_pairs(split_nibbles(qs.reshape(-1, 8)).reshape(-1), even_is_high=False)
    return {"scale": _rows(lib.where(d == 127, np.uint8(0), d), blocks), "codes": _rows(codes, blocks)}


def _apart(codes: UInt8[Array, "*n bytes"], block: int) -> UInt8[Array, "blocks block"]:
    flat = codes.reshape(-1)
    return split_pairs(flat, 2 * flat.shape[0], even_is_high=False).reshape(-1, block)


def _rows(flat: Array, like: Array) -> Any:
    return flat.reshape(*like.shape[:-1], -1)


def _refuse(scale: Array, where: Any, why: str) -> None:
    if exact.is_traced(scale):
        return
    found = np.argwhere(np.asarray(where))
    if len(found):
        place = ", ".join(map(str, found[0]))
        raise ValueError(f"scale[{place}] is {np.asarray(scale)[tuple(found[0])]}: it {why}")
