"""A format's bytes taken apart for a matrix product: what is small is unpacked, the codes stay as they are packed.

One function a format, which plans.py names: the fields, in the order of its layout, each [rows, blocks, ...] -> Weights
of the same order, which split.py turns so that the rows come last. What a field means and how it is packed stands in
the format's own file.
"""

from __future__ import annotations

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import (
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
from hifi_ref.kernels.grid_steps import STEPS_IQ1_M, rank, signed_steps
from hifi_ref.kernels.structures import GROUP, Weights


def plain(d, qs):
    """Q1_0, Q2_0, Q4_0, Q8_0, IQ4_NL"""
    return Weights((qs,), d)


def of_q4_1(d, m, qs):
    return Weights((qs,), d, m=m)


def of_q5_0(d, qh, qs):
    return Weights((qs, qh), d)


def of_q5_1(d, m, qh, qs):
    return Weights((qs, qh), d, m=m)


def of_mxfp4(e, qs):
    return Weights((qs,), exact.from_bits(exact.widen_e8m0_half(e)))


def of_nvfp4(d, qs):
    return Weights((qs,), exact.widen_ue4m3_half(d))


def of_q2_k(packed, qs, d, dmin):
    scales, mins = q2_k.unpack_scales(packed)
    return Weights((qs,), d, scales, mins, dmin)


def of_q3_k(hmask, qs, packed, d):
    return Weights((qs, hmask), d, q3_k.unpack_scales(packed))


def of_q4_k(d, dmin, packed, qs):
    return Weights((qs,), d, *k_scales.unpack(packed), dmin)


def of_q5_k(d, dmin, packed, qh, qs):
    return Weights((qs, qh), d, *k_scales.unpack(packed), dmin)


def of_q6_k(ql, qh, scales, d):
    return Weights((ql, qh), d, scales)


def of_tq1_0(qs, qh, d):
    return Weights((qs, qh), d)


def of_tq2_0(qs, d):
    return Weights((qs,), d)


def of_iq4_xs(d, high, low, qs):
    return Weights((qs,), d, iq4_xs.unpack_scales(high, low))


def _grid(name, d, index, signs, scales):
    codes = codebooks.signed_codes(name, index, signs)
    return Weights((rank(codes, signed_steps(name)).reshape(*d.shape, GROUP),), d, scales)


def of_iq2_xxs(d, qs):
    return _grid("IQ2_XXS", d, *iq2_xxs.fields(qs))


def of_iq2_xs(d, qs, scales):
    return _grid("IQ2_XS", d, *iq2_xs.fields(qs, scales))


def of_iq2_s(d, qs, qh, scales):
    return _grid("IQ2_S", d, *iq2_s.fields(qs, qh, scales))


def of_iq3_xxs(d, qs):
    return _grid("IQ3_XXS", d, *iq3_xxs.fields(qs))


def of_iq3_s(d, *fields):
    return _grid("IQ3_S", d, *iq3_s.fields(*fields))


def of_iq1_s(d, qs, qh):
    index, scales, shift = iq1_s.fields(qs, qh)
    rows = codebooks.take(codebooks.grid("IQ1_S"), index) + np.int8(1)
    return Weights((rows.astype(np.uint8).reshape(*d.shape, GROUP),), d, scales, (scales * shift).astype(np.int8))


def of_iq1_m(qs, qh, packed):
    d, index, scales, shift = iq1_m.fields(qs, qh, packed)
    rows = codebooks.take(codebooks.grid("IQ1_S"), index)
    eighths = np.int8(8) * rows + shift[..., None].astype(np.int8)
    return Weights((rank(eighths, STEPS_IQ1_M).reshape(*d.shape, GROUP),), d, scales)
