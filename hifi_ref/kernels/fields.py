"""A format's bytes taken apart for a matrix product: what is small is unpacked, the codes stay as they are packed.

The functions take uint8[rows, blocks, type_size] and give fields with the blocks of a row in order; ``split`` then
turns them so that the rows come last. What a field means and how it is packed stands in the format's own file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import (
    FORMATS,
    HIFI,
    Format,
    codebooks,
    iq1_m,
    iq1_s,
    iq2_s,
    iq2_xs,
    iq2_xxs,
    iq3_s,
    iq3_xxs,
    iq4_xs,
    k_scales,
    q2_k,
    q3_k,
)
from hifi_ref.formats.hifi.transcode import base_of
from hifi_ref.kernels import slots

if TYPE_CHECKING:
    from jaxtyping import Array, Float32, Int8, UInt8

GROUP = 256


class Weights(NamedTuple):
    """The matrix. k scales serve a group: 1, or one for every run of 32, 64 or 128, or for every 16."""

    codes: tuple[UInt8[Array, "groups bytes rows"], ...]
    d: Float32[Array, "groups k rows"]
    scales: Int8[Array, "groups subs rows"] | None = None
    """Whole scales of the sub-blocks."""
    mins: Int8[Array, "groups subs rows"] | None = None
    """What multiplies the sums of the activations' codes."""
    m: Float32[Array, "groups k rows"] | None = None
    """The min, or the scale of the mins."""
    slots: slots.Slots | None = None
    """Of formats with outliers, whose other fields are those of their base."""


class Activations(NamedTuple):
    q: Int8[Array, "groups 8 32 batch"]
    d: Float32[Array, "groups k batch"]
    s: Float32[Array, "groups 8 batch"] | None = None
    bsums: Any = None


def split(f: Format, w: UInt8[Array, "rows blocks bytes"]) -> Weights:
    """A matrix, its fields apart, in groups; the last group is filled with blocks of zeros."""
    if f.name in HIFI:
        base = FORMATS[base_of(f.name).LAYOUT.name]
        kept = slots.split(f, f.layout.unpack(w)[len(base.layout.fields) :])
        kept = slots.Slots(*(None if x is None else _rows_last(x, w.shape[1]) for x in kept))
        return split(base, w[..., : base.type_size])._replace(slots=kept)
    part = globals()[f"_{f.name.lower()}"]
    fields = part(*f.layout.unpack(_filled(w, f.block_size)))
    groups = w.shape[1] * f.block_size // GROUP + (w.shape[1] * f.block_size % GROUP > 0)
    codes = tuple(_rows_last(c, groups) for c in fields.codes)
    return Weights(codes, *(None if x is None else _rows_last(x, groups) for x in fields[1:]))


def split_activations(name: str, a: UInt8[Array, "batch blocks bytes"]) -> Activations:
    """Blocks of Q8_0, Q8_1 or Q8_K, in the same groups."""
    f = FORMATS[name]
    a = _filled(a, f.block_size)
    groups = a.shape[1] * f.block_size // GROUP
    names = [field.name for field in f.layout.fields]
    fields = dict(zip(names, (_rows_last(x, groups) for x in f.layout.unpack(a)), strict=True))
    q = fields["qs"].reshape(groups, 8, 32, len(a))
    return Activations(q, fields["d"], fields.get("s"), fields.get("bsums"))


def _filled(blocks: Array, block_size: int) -> Array:
    missing = -blocks.shape[1] % (GROUP // block_size)
    return exact.library(blocks).pad(blocks, [(0, 0), (0, missing), (0, 0)]) if missing else blocks


def _rows_last(x: Array, groups: int) -> Array:
    """[rows, blocks, ...] -> [groups, everything of a group, rows]."""
    lib = exact.library(x)
    turned = x.reshape(x.shape[0], -1).T
    turned = turned if exact.is_jax(x) else lib.ascontiguousarray(turned)
    return turned.reshape(groups, -1, x.shape[0])


# ONE FUNCTION A FORMAT: the fields, in the order of its layout -> Weights


def _q1_0(d, qs):
    return Weights((qs,), d)


_q2_0 = _q4_0 = _q8_0 = _iq4_nl = _q1_0


def _q4_1(d, m, qs):
    return Weights((qs,), d, m=m)


def _q5_0(d, qh, qs):
    return Weights((qs, qh), d)


def _q5_1(d, m, qh, qs):
    return Weights((qs, qh), d, m=m)


def _mxfp4(e, qs):
    return Weights((qs,), exact.from_bits(exact.widen_e8m0_half(e)))


def _nvfp4(d, qs):
    return Weights((qs,), exact.widen_ue4m3_half(d))


def _q2_k(packed, qs, d, dmin):
    scales, mins = q2_k.unpack_scales(packed)
    return Weights((qs,), d, scales, mins, dmin)


def _q3_k(hmask, qs, packed, d):
    return Weights((qs, hmask), d, q3_k.unpack_scales(packed))


def _q4_k(d, dmin, packed, qs):
    return Weights((qs,), d, *k_scales.unpack(packed), dmin)


def _q5_k(d, dmin, packed, qh, qs):
    return Weights((qs, qh), d, *k_scales.unpack(packed), dmin)


def _q6_k(ql, qh, scales, d):
    return Weights((ql, qh), d, scales)


def _tq1_0(qs, qh, d):
    return Weights((qs, qh), d)


def _tq2_0(qs, d):
    return Weights((qs,), d)


def _iq4_xs(d, high, low, qs):
    return Weights((qs,), d, iq4_xs.unpack_scales(high, low))


def _grid(name, d, index, signs, scales):
    codes = codebooks.signed_codes(name, index, signs)
    return Weights((_rank(codes, signed_steps(name)).reshape(*d.shape, GROUP),), d, scales)


def _iq2_xxs(d, qs):
    return _grid("IQ2_XXS", d, *iq2_xxs.fields(qs))


def _iq2_xs(d, qs, scales):
    return _grid("IQ2_XS", d, *iq2_xs.fields(qs, scales))


def _iq2_s(d, qs, qh, scales):
    return _grid("IQ2_S", d, *iq2_s.fields(qs, qh, scales))


def _iq3_xxs(d, qs):
    return _grid("IQ3_XXS", d, *iq3_xxs.fields(qs))


def _iq3_s(d, *fields):
    return _grid("IQ3_S", d, *iq3_s.fields(*fields))


def _iq1_s(d, qs, qh):
    index, scales, shift = iq1_s.fields(qs, qh)
    rows = codebooks.take(codebooks.grid("IQ1_S"), index) + np.int8(1)
    return Weights((rows.astype(np.uint8).reshape(*d.shape, GROUP),), d, scales, (scales * shift).astype(np.int8))


def _iq1_m(qs, qh, packed):
    d, index, scales, shift = iq1_m.fields(qs, qh, packed)
    rows = codebooks.take(codebooks.grid("IQ1_S"), index)
    eighths = np.int8(8) * rows + shift[..., None].astype(np.int8)
    return Weights((_rank(eighths, STEPS_IQ1_M).reshape(*d.shape, GROUP),), d, scales)


# STEPS: what the codes of a grid become, so that they fit nibbles

STEPS_IQ1_M = (-9, -7, -1, 1, 7, 9)


def signed_steps(name: str) -> tuple[int, ...]:
    """The magnitudes of a grid with both signs, in rising order."""
    sizes = sorted({int(v) for v in np.unique(codebooks.grid(name))})
    return tuple(-v for v in reversed(sizes)) + tuple(sizes)


def _rank(codes: Int8[Array, "*n"], steps: tuple[int, ...]) -> UInt8[Array, "*n"]:
    return sum((codes >= np.int8(step)).astype(np.uint8) for step in steps[1:])
