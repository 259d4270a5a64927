"""NVFP4: 64 weights in 36 bytes, 4.5 bits per weight.

    bytes   field   type     holds
    0-3     d       u8[4]    scales of 16 weights each, UE4M3
    4-35    qs      u8[32]   codes, 8 bytes a sub-block: weights 0-7 in low nibbles, 8-15 in high nibbles

    w[j] = scale(d[s]) / 2 * STEPS[q[j]]        s = j / 16, STEPS = 0 1 2 3 4 6 8 12 0 -1 -2 -3 -4 -6 -8 -12

The 4-bit floats of MXFP4 with a scale for every 16 weights that has a mantissa of its own: UE4M3, four exponent bits
with bias 7 and three mantissa bits, where 0 and 127 mean 0 and the top bit is ignored.

The encoder makes the largest magnitude of a sub-block 6 times its scale. Of the scales with the largest exponent it
knows only 448, which it takes from 248 on. Weights beyond 6 * 448 are clipped, and where they are so large that their
distances to all steps round to the same, they become 0. Importance weights are not used.

Reference: quantize_row_nvfp4_ref, dequantize_row_nvfp4, ggml_vec_dot_nvfp4_q8_0_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import codebooks, q8_0
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import join_nibbles, split_nibbles

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="NVFP4",
    type_id=40,
    block_size=64,
    dot_with="Q8_0",
    fields=(
        Field("d", "u8", 4, holds="scales of 16 weights each, UE4M3"),
        Field("qs", "u8", 32, holds="codes, 8 bytes a sub-block: weights 0-7 in low nibbles, 8-15 in high nibbles"),
    ),
)


def _steps(qs: UInt8[Array, "*n 32"]) -> Int8[Array, "*n 4 2 8"]:
    return codebooks.take_step(codebooks.STEPS_FP4, split_nibbles(qs.reshape(*qs.shape[:-1], 4, 8)))


def decode(blocks: UInt8[Array, "n 36"]) -> Float32[Array, "n 4 2 8"]:
    d, qs = LAYOUT.unpack(blocks)
    # Exact: 4 bits of scale times 4 bits of step
    return exact.widen_ue4m3_half(d)[..., None, None] * exact.f32(_steps(qs))


def encode(
    x: Float32[Array, "rows blocks 64"], weights: Float32[Array, "blocks 64"] | None = None
) -> UInt8[Array, "rows blocks 36"]:
    parts = x.reshape(*x.shape[:-1], 4, 16)
    # SCALES: the largest magnitude becomes the largest step, which stands for 6
    d = _narrow_ue4m3(exact.div(exact.largest(parts), np.float32(6)))
    # CODES
    codes = codebooks.nearest_step_fp4(parts, exact.widen_ue4m3_half(d))
    qs = join_nibbles(codes).reshape(*x.shape[:-1], 32)
    return LAYOUT.pack(d=d, qs=qs)


def _narrow_ue4m3(x: Float32[Array, "*n"]) -> UInt8[Array, "*n"]:
    """float32 >= 0 -> UE4M3, nearest, halves up; all that would have the largest exponent become 448."""
    lib = exact.library(x)
    x = lib.minimum(x, np.float32(448))
    # Adding half of the last place kept carries into the exponent where it must; the bias of 127 becomes 7
    rounded = exact.i32((exact.bits(x) + np.uint32(1 << 19)) >> np.uint32(20)) - (120 << 3)
    normal = lib.where(rounded >= 15 << 3, 0x7E, rounded)
    subnormal = lib.minimum(exact.truncate(exact.madd(x, np.float32(512), np.float32(0.5))), 7)
    return lib.where(x >= np.float32(2.0**-6), normal, subnormal).astype(np.uint8)


def dot(w: UInt8[Array, "rows blocks 36"], a: UInt8[Array, "2*blocks 34"]) -> Float32[Array, "rows"]:
    """Sub-block after sub-block (d_a * d) * sum."""
    d, qs = LAYOUT.unpack(w)
    da, qa = q8_0.LAYOUT.unpack(a)
    rows, blocks, _ = d.shape
    lib = exact.library(d)
    # INTEGER PARTIAL SUMS of 16: exact, at most 16 * 12 * 128; a block of activations serves two of them
    partial = exact.int_dot(_steps(qs).reshape(rows, blocks * 4, 2, 8), qa.reshape(-1, 2, 8))
    # FLOAT
    scale = exact.product(exact.widen_ue4m3_half(d).reshape(rows, -1), lib.repeat(da, 2))
    return exact.sum_of_rows(exact.product(scale, exact.f32(partial)))
