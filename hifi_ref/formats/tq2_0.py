"""TQ2_0: 256 weights in 66 bytes, 2.0625 bits per weight.

    bytes   field   type     holds
    0-63    qs      u8[64]   codes, 32 bytes a half: bits 2p, 2p+1 of byte m belong to weight 32 p + m of it
    64-65   d       f16      scale

    w[j] = d * (q[j] - 1)        q[j] in 0..3, of which the encoder writes 0..2

Ternary weights, two bits each, for speed where TQ1_0 saves space. The encoder is that of TQ1_0, with its undefined
cases.

Reference: quantize_row_tq2_0_ref, dequantize_row_tq2_0, ggml_vec_dot_tq2_0_q8_K_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import q8_k, tq1_0
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import gather, spread

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="TQ2_0",
    type_id=35,
    block_size=256,
    dot_with="Q8_K",
    fields=(
        Field("qs", "u8", 64, holds="codes, 32 bytes a half: bits 2p, 2p+1 of byte m belong to weight 32 p + m of it"),
        Field("d", "f16", holds="scale"),
    ),
)


def _codes(qs: UInt8[Array, "*n 64"]) -> Int8[Array, "*n 2 4 32"]:
    """-1 .. 2 in weight order."""
    return spread(qs.reshape(*qs.shape[:-1], 2, 32), 2).astype(np.int8) - np.int8(1)


def decode(blocks: UInt8[Array, "n 66"]) -> Float32[Array, "n 2 4 32"]:
    qs, d = LAYOUT.unpack(blocks)
    return exact.f32(_codes(qs)) * d[:, None, None, None]


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 66"]:
    d, codes = tq1_0.ternary(x)
    qs = gather(codes.reshape(*x.shape[:-1], 2, 4, 32), 2).reshape(*x.shape[:-1], 64)
    return LAYOUT.pack(qs=qs, d=d)


def dot(w: UInt8[Array, "rows blocks 66"], a: UInt8[Array, "blocks 292"]) -> Float32[Array, "rows"]:
    """Super-block after super-block sum * (d * d_a)."""
    qs, d = LAYOUT.unpack(w)
    da, qa, _ = q8_k.unpack(a)
    # INTEGER PARTIAL SUMS: exact, at most 256 * 2 * 128
    partial = exact.int_dot(_codes(qs), qa.reshape(-1, 2, 4, 32))
    # FLOAT
    return exact.sum_of_rows(exact.product(d * da, exact.f32(partial)))
