"""The exact terms of a row: products of whole floats, or a block's sum of codes times a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact
from hifi_ref.dot_bound.checks import check_activations, finite_values
from hifi_ref.dot_bound.codes import codes_and_offset
from hifi_ref.dot_bound.outliers import outlier_parts, slots_of
from hifi_ref.dot_bound.parts import LARGEST_FACTOR, SMALLEST_NORMAL, SMALLEST_SCALE, Parts, block_sums, times
from hifi_ref.formats import Format

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, UInt8


def parts_of(
    f: Format, partner: Format, w: UInt8[np.ndarray, "rows w_bytes"], a: UInt8[np.ndarray, "a_bytes"], first: int
) -> Parts:
    """The parts of all rows of w times a, which ``checks.checked`` has let pass; first is the number of w's first row.

    Raises ValueError for what is no finite number, and for bsums that are not the sums of their codes.
    """
    if partner.block_size == 1:
        return _float_parts(finite_values(f, w, first), finite_values(partner, a[None], None)[0])
    fields = {name: np.asarray(x) for name, x in partner.layout.by_name(a.reshape(-1, partner.type_size)).items()}
    d, q = fields["d"].astype(np.float64), fields["qs"].astype(np.float64)
    check_activations(fields)
    if slots_of(f):
        return outlier_parts(f, w, first, d, q)
    return _coded_parts(f, w, first, d, q, fields.get("s"))


def _float_parts(w: Float64[np.ndarray, "rows n"], a: Float64[np.ndarray, "n"]) -> Parts:
    # 24 bits times 24
    terms = w * a
    sizes = abs(terms)
    faint = (abs(w) < SMALLEST_NORMAL) | (abs(a) < SMALLEST_NORMAL) | (sizes < SMALLEST_NORMAL)
    return Parts(terms, sizes.sum(axis=1), (sizes * faint).sum(axis=1), np.zeros(len(w)))


def _coded_parts(f: Format, w: UInt8[np.ndarray, "rows w_bytes"], first: int, d: Float64[np.ndarray, "blocks"],
                 q: Float64[np.ndarray, "blocks n"], s: Float32[np.ndarray, "blocks"] | None) -> Parts:  # fmt: skip
    """d, q and s are the activations' scales, codes and, in Q8_1, stored sums."""
    codes, offset = codes_and_offset(f, w, first)
    shape = (len(w), *q.shape)
    codes = codes.reshape(shape)

    # A block's sum of products is an integer times one scale, or a few of like size: less than 53 bits, so exact.
    terms = times(block_sums(codes, q), d)
    sizes = block_sums(abs(codes), abs(q)) * abs(d)
    if offset is not None and s is not None:
        # One min a block. 11 bits times 11.
        share = offset.reshape(shape)[..., 0] * s.astype(np.float64)
        terms, sizes = np.concatenate([terms, share], axis=1), sizes + abs(share)
    elif offset is not None:
        offset = offset.reshape(shape)
        terms = np.concatenate([terms, times(block_sums(offset, q), d)], axis=1)
        sizes = sizes + block_sums(abs(offset), abs(q)) * abs(d)

    scale = np.broadcast_to(SMALLEST_SCALE, (len(w), 1))
    factor = LARGEST_FACTOR
    if f.name == "MXFP4":
        exponent, _ = f.layout.unpack(w.reshape(len(w), -1, f.type_size))
        scale = np.asarray(exact.from_bits(exact.widen_e8m0_half(exponent)), np.float64)
        factor = LARGEST_FACTOR * np.maximum(scale, 1)
    faint = np.minimum(scale, 1) * np.minimum(abs(d), 1) < SMALLEST_NORMAL
    largest = (factor * np.maximum(abs(d), 1)).max(axis=-1, initial=0)
    return Parts(terms, sizes.sum(axis=1), (sizes * faint).sum(axis=1), np.broadcast_to(largest, len(w)))
