"""IQ4_NL: 32 weights in 18 bytes, 4.5 bits per weight.

    bytes   field   type     holds
    0-1     d       f16      scale
    2-17    qs      u8[16]   codes, weights 0-15 in low nibbles, 16-31 in high nibbles

    w[j] = d * STEPS[q[j]]        q[j] in 0..15, STEPS = -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113

The sixteen steps are unequal: finer near zero, where most weights lie, and longer on the negative side.

The encoder minimises the sum of squared errors over the block, one counting x^2, or with importance
importance * sqrt(2 * mean square of the block + x^2). It tries the scale that puts the extreme at 127, and 15 that put
it at -134 to -120; each gives the nearest steps, and these a scale by least squares (step_search). Codes are rounded
anew for the best.

Reference: quantize_iq4_nl, dequantize_row_iq4_nl, ggml_vec_dot_iq4_nl_q8_0_generic (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref import exact
from hifi_ref.formats import codebooks, q8_0
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.packing import join_nibbles, split_nibbles
from hifi_ref.formats.search import step_search

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="IQ4_NL",
    type_id=20,
    block_size=32,
    dot_with="Q8_0",
    fields=(
        Field("d", "f16", holds="scale"),
        Field("qs", "u8", 16, holds="codes, weights 0-15 in low nibbles, 16-31 in high nibbles"),
    ),
)


def decode(blocks: UInt8[Array, "n 18"]) -> Float32[Array, "n 2 16"]:
    d, qs = LAYOUT.unpack(blocks)
    # Exact: 11 bits of scale times 7 bits of step
    return d[:, None, None] * exact.f32(codebooks.take_step(codebooks.STEPS_IQ4, split_nibbles(qs)))


def encode(
    x: Float32[Array, "rows blocks 32"], weights: Float32[Array, "blocks 32"] | None = None
) -> UInt8[Array, "rows blocks 18"]:
    scales = step_search.scales_of_least_error(x, weights)
    d = scales[..., 0]
    # CODES anew, for the scale found, before it is narrowed
    codes = codebooks.nearest_step_iq4(exact.product(x, exact.reciprocal_or_zero(d)[..., None]))
    return LAYOUT.pack(d=d, qs=join_nibbles(codes))


def dot(w: UInt8[Array, "rows blocks 18"], a: UInt8[Array, "blocks 34"]) -> Float32[Array, "rows"]:
    """Block after block (d_a * d_w) * sum."""
    dw, qs = LAYOUT.unpack(w)
    da, qa = q8_0.LAYOUT.unpack(a)
    # INTEGER PARTIAL SUMS: exact, at most 32 * 127 * 128
    partial = exact.int_dot(codebooks.take_step(codebooks.STEPS_IQ4, split_nibbles(qs)), qa.reshape(-1, 2, 16))
    # FLOAT
    return exact.sum_of_rows(exact.product(exact.product(dw, da), exact.f32(partial)))
