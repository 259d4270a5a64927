"""Q8_K: 256 activations in 292 bytes; the partner of every super-block format in dot products, never stored in files.

    bytes   field   type     holds
    0-3     d       f32      scale
    4-259   qs      i8[256]  codes
    260-291 bsums   i16[16]  sums of 16 codes each

    a[j] = d * q[j]        q[j] in -127..127

The value of largest magnitude, sign kept, lands on code -127: -127 is divided by it, codes are the values times this
inverse, and the scale is 1 / inverse. Both quotients are rounded, so the scale need not be the value / -127. The sums
serve the formats with a min: its share of a dot product needs only them.

Undefined in C: where the largest magnitude is 0 the sums are left as they were; defined here as 0. A block whose
largest magnitude is below 127 * 2^-128 has an infinite inverse scale: products that are infinite give the code that
nearest_int gives for them, and only the low byte is kept.

Reference: quantize_row_q8_K_ref, dequantize_row_q8_K (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.formats.layout import Field, Layout
from hifi_ref.formats.search import scale_search

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8, Int16, UInt8

    from hifi_ref.exact import Array


LAYOUT = Layout(
    name="Q8_K",
    type_id=15,
    block_size=256,
    fields=(
        Field("d", "f32", holds="scale"),
        Field("qs", "i8", 256, holds="codes"),
        Field("bsums", "i16", 16, holds="sums of 16 codes each"),
    ),
)


def decode(blocks: UInt8[Array, "n 292"]) -> Float32[Array, "n 256"]:
    d, qs, _ = LAYOUT.unpack(blocks)
    return exact.mul_int(d[:, None], qs)


def encode(
    x: Float32[Array, "rows blocks 256"], weights: Float32[Array, "blocks 256"] | None = None
) -> UInt8[Array, "rows blocks 292"]:
    lib = exact.library(x)
    # SCALE
    peak = scale_search.extreme(x, axis=-1)
    some = peak != 0
    inverse = exact.div(np.float32(-127), lib.where(some, peak, np.float32(1)))
    d = lib.where(some, exact.div(np.float32(1), inverse), np.float32(0))
    # CODES
    codes = exact.nearest_int(exact.product(x, inverse[..., None]))
    codes = lib.where(some[..., None], exact.as_int8(exact.at_most(127, codes)), 0)
    sums = codes.reshape(*codes.shape[:-1], 16, 16).sum(axis=-1)
    return LAYOUT.pack(d=d, qs=codes, bsums=sums)


def unpack(
    a: UInt8[Array, "blocks 292"],
) -> tuple[Float32[Array, "blocks"], Int8[Array, "blocks 256"], Int16[Array, "blocks 16"]]:
    """Scale, codes and sums of the activations in a dot product. All other scales there were binary16."""
    d, qs, bsums = LAYOUT.unpack(a)
    return exact.watched_input(d), qs, bsums
