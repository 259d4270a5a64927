"""What bugs of the dot product are made of: the right product of each block, its integers and its scales."""

from __future__ import annotations

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import f32
from hifi_ref.formats import FORMATS
from hifi_ref.known_bugs.bug import decode, dot, each_block, field_bytes, in_field, partner_of

ONE = np.array([0, 0x3C], np.uint8)


def parts(name: str, w: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and activations by the longer of their blocks: u8[rows, blocks, bytes], u8[blocks, bytes]."""
    f = FORMATS[name]
    g = partner_of(name)
    unit = max(f.block_size, g.block_size)
    blocks = w.shape[1] // f.type_size * f.block_size // unit
    return w.reshape(len(w), blocks, -1), a.reshape(blocks, -1)


def terms(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """f32[rows, blocks]: what each block adds."""
    w_parts, a_parts = parts(name, w, a)
    return np.stack([dot(name, w_parts[:, i], a_parts[i]) for i in range(len(a_parts))], axis=1)


def with_unit_scales(name: str, blocks: np.ndarray) -> np.ndarray:
    """The blocks with a d of 1."""
    if name == "MXFP4":
        return each_block(name, in_field(name, "e", lambda v: v * 0 + 128), blocks)
    if FORMATS[name].layout.fields[0].dtype == "f32":
        one = np.array([0, 0, 0x80, 0x3F], np.uint8)
        return each_block(name, in_field(name, "d", lambda v: v * 0 + one), blocks)
    return each_block(name, in_field(name, "d", lambda v: v * 0 + ONE), blocks)


def scale_products(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """f32[rows, blocks]: the scale of a block times that of the activations."""
    f = FORMATS[name]
    g = partner_of(name)
    blocks = w.reshape(-1, f.type_size)
    if name == "MXFP4":
        d = exact.from_bits(exact.widen_e8m0_half(blocks[:, 0]))
    else:
        d = exact.widen_f16(np.ascontiguousarray(field_bytes(name, blocks, "d")).view("<u2")[:, 0].astype(np.uint16))
    return d.reshape(len(w), -1) * g.layout.unpack(a.reshape(-1, g.type_size))[0]


def codes_of(name: str, blocks: np.ndarray) -> np.ndarray:
    """f32[n, block_size]: what d is multiplied by."""
    return decode(name, with_unit_scales(name, blocks.reshape(-1, FORMATS[name].type_size)))


def activation_codes(name: str, a: np.ndarray) -> np.ndarray:
    """f32[blocks, block_size]: the codes of the activations."""
    g = partner_of(name)
    return f32(field_bytes(g.name, a.reshape(-1, g.type_size), "qs").view(np.int8))


def in_order(t: np.ndarray) -> np.ndarray:
    """f32[rows]: the sum of f32[rows, blocks], block after block, as the reference adds."""
    return exact.sum_of_rows(t)
