"""Eight 6-bit scales and eight 6-bit mins in twelve bytes, as Q4_K and Q5_K keep them.

    byte j     (j = 0..3)   scale j      in bits 0-5; the top two bits of scale j+4 in bits 6-7
    byte j + 4              min j        in bits 0-5; the top two bits of min j+4 in bits 6-7
    byte j + 8              scale j+4    low nibble;  min j+4, low four bits, in the high nibble

Reference: get_scale_min_k4 (llama.cpp v0.5.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt8

    from hifi_ref.exact import Array


def unpack(packed: UInt8[Array, "*n 12"]) -> tuple[UInt8[Array, "*n 8"], UInt8[Array, "*n 8"]]:
    """Scales and mins, 0..63."""
    lib = exact.library(packed)
    first, second, third = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = lib.concatenate([first & 63, third & 15 | (first >> 6) << 4], axis=-1)
    mins = lib.concatenate([second & 63, third >> 4 | (second >> 6) << 4], axis=-1)
    return scales, mins


def pack(scales: Int32[Array, "*n 8"], mins: Int32[Array, "*n 8"]) -> UInt8[Array, "*n 12"]:
    """Bits beyond the sixth are or-ed in where C's bytes would carry them."""
    lib = exact.library(scales)
    low_scales, high_scales = scales[..., :4], scales[..., 4:]
    low_mins, high_mins = mins[..., :4], mins[..., 4:]
    return lib.concatenate(
        [
            low_scales | (high_scales >> 4) << 6,
            low_mins | (high_mins >> 4) << 6,
            high_scales & 15 | (high_mins & 15) << 4,
        ],
        axis=-1,
    ).astype("uint8")


def pack_capped(scales: Int32[Array, "*n 8"], mins: Int32[Array, "*n 8"]) -> UInt8[Array, "*n 12"]:
    """pack, after scales and mins, taken as bytes, are cut to 63."""
    return pack(exact.at_most(63, scales & 255), exact.at_most(63, mins & 255))
