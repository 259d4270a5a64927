"""Dot products judged: the correctly rounded value, and how far from it a float32 kernel can honestly land.

**The true value** is the real number that the stored numbers mean: the sum of w[i] * a[i], where w[i] = d * q[i] and so
on is *not* rounded to float32. Activations can store sums besides their codes, for the share of a min:
Q8_1's s, a rounded number, is taken as given, because every kernel reads it; Q8_K's bsums must be the sums of its codes
(ValueError otherwise, unless d is 0), because some kernels read them and some add up the codes.

**The bound** holds for every kernel that

* takes a block apart without error, and adds products of codes in integers without overflow or saturation;
* makes at most n / 4 float32 terms of these integers (n / 16 with Q8_K; n in F32 F16 BF16), and one of a stored sum;
* multiplies a term, or a sum of terms, by the block's scales in any order, by at most three inexact products;
* adds the terms in any order, in any tree, with or without fused multiply-adds, in binary32 or better;
* rounds to nearest; what is below 2^-126, operand or result, it may flush to zero or not.

It may subtract a format's offset in the codes (q - 32 of Q6_K) or as a term of its own where activations store sums
(Q3_K Q6_K TQ1_0 TQ2_0; likewise the mins, and the shifts of IQ1); in Q4_0 Q5_0 Q2_0 only in the codes, or in the same
integer. It is not enough to look at the sums of whole sub-blocks: SIMD kernels keep lanes of four codes apart until the
end, and lanes can be large where their sum is 0. So all products count with their magnitude.

An activation's code of -128, which no encoder writes, has a true value too, but breaks the first assumption in SIMD
kernels that negate it as an int8.

**Proof.** u = 2^-24, T terms, K = 4: a term's conversion from an integer and three products. Every number on the way is
a subset sum v of the exact products, scaled to the result's units, plus an error e. A product passes through at most
L = h + K roundings, h <= T - 1 being the height of the tree of additions, hence |e| <= g A with g = L u / (1 - L u) and
A = sum of |products|. An operation rounds by at most u (|v| + g A), and what it rounds off reaches the result enlarged
by at most 1 + g. What is left is to add up |v| over all operations:

* additions: a subset sum lies between -N and P, the sums of the negative and of the positive products, so there are
  T - 1 times at most M = max(P, N) = (A + |true value|) / 2; or, level by level, at most h A;
* conversions and products: the numbers that take the same factor share no product, so at most A for each of the K.

    |kernel - true| <= u (1 + g) (min((T - 1) (M + g A), h (1 + g) A) + K (1 + g) A) + underflow

Underflow: an addition loses less than 2^-126. A product of scales that can fall below 2^-126 loses at most what it
stands for, twice over: 4 |products| of such blocks. Where float32 could overflow there is no bound: it is infinite.
The bound is evaluated in binary64 and enlarged by 2^-30, which is more than its own rounding.

**The HIFI fork's formats.** Their weights are the float32 numbers that decoding gives. Kernels may add decoded weights
times activations one by one, or the base's products and then each slot's (a value, a value minus the base's weight, a
correction): n terms and one a slot, K = 7, since such a term can have a difference and two more products. A counts all
that a slot touches: the base's weight twice, and what the slot brings. A kernel that does not round weights differs by
what decoding rounds off, which is added: u A, and where slots are up to s + 3 times that, s the slots of a block, for
their products and sums. With r this share, M is at most (A + |true value| + r) / 2. Where the fork's own dot product is
another than that of the decoded weights (docs/hifi.md), it may fall outside.

**What it catches.** The bound grows with n^2, the effect of a wrong code does not grow: judge what a kernel makes of
blocks on short rows, where one code off by one falls outside (tests/test_dot_bound.py measures how often), and long
rows with ``additions``.

Source of the analysis: N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 3.1 and 4.2.
"""

from __future__ import annotations

from fractions import Fraction
from math import fsum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref import api, exact
from hifi_ref.formats import FORMATS, Format
from hifi_ref.formats.hifi.transcode import base_of

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float32, Float64, UInt8

UNIT = 2.0**-24
SMALLEST_NORMAL = 2.0**-126
# Roundings of a term before it is added: an integer above 2^24 converted, three products.
TERM_ROUNDINGS = 4
# The same in formats with outliers: a difference, the 127th of a scale, and its product besides.
SLOT_ROUNDINGS = 7
# Products a term, by the format of the activations: what one integer instruction adds; half a lane of a super-block.
PRODUCTS_A_TERM = {"Q8_0": 4, "Q8_1": 4, "Q8_K": 16}
# Where every scale is a binary16 or larger than its smallest, with the smallest fraction that any formula has, 1/8.
SMALLEST_SCALE = 2.0**-27
# More than all scales of a weight, codes, and their sum over a block can multiply the scale of an activation by.
LARGEST_FACTOR = 2.0**50
# The fields that are 0 where all codes are, in formats whose codes have an offset that kernels may take from bsums.
CODE_FIELDS = {"Q3_K": ("hmask", "qs"), "Q6_K": ("ql", "qh"), "TQ1_0": ("qs", "qh"), "TQ2_0": ("qs",)}
# The bits of qh that reverse all shifts, repeated.
SHIFT_BITS = {"IQ1_S": (0x00, 0x80), "IQ1_M": (0x88,)}
# Products a chunk of rows.
CHUNK = 1 << 20


class DotBound(NamedTuple):
    """For each row: the true dot product, and the largest error that a sound float32 kernel can have."""

    value: Float32[Array, "rows"]
    """The true value, correctly rounded, ties to even."""
    high: Float64[Array, "rows"]
    """The true value, correctly rounded to binary64."""
    low: Float64[Array, "rows"]
    """The true value minus high, correctly rounded: the two together hold more than 100 bits."""
    bound: Float64[Array, "rows"]
    """The largest |kernel - true value|; infinite where float32 can overflow on the way."""

    def error(self, result: Float32[Array, "rows"]) -> Float64[Array, "rows"]:
        """|result - true value|, to within a few parts in 2^53 (of the result where it is 0 otherwise)."""
        with np.errstate(all="ignore"):
            return abs((result.astype(np.float64) - self.high) - self.low)

    def holds(self, result: Float32[Array, "rows"]) -> Bool[Array, "rows"]:
        """Whether a kernel's result lies within the bound. A NaN never does."""
        return (self.error(result) <= self.bound) & ~np.isnan(result)


def dot_exact(name: str, w: UInt8[Array, "rows w_bytes"], a: UInt8[Array, "a_bytes"], additions: int | None = None
              ) -> DotBound:  # fmt: skip
    """The true dot product of each row of w with a, and how far from it a sound kernel can be.

    Args:
        name: a key of FORMATS, the format of w.
        w: uint8[rows, row_bytes], a NumPy array.
        a: uint8[row_bytes of FORMATS[name].dot_with], a NumPy array.
        additions: the most float32 additions that lie between a term and the result, where the kernel is known: its
            loop's length plus the depth of its final tree. It replaces the assumption on the number of terms, and makes
            the bound of long rows far smaller. None: any order.

    Returns:
        DotBound, arrays of length rows. The module explains what the bound assumes, and proves it.

    Raises:
        ValueError: an unknown name, a wrong dtype or shape, a weight or activation that is no finite float32, or bsums
            that are not the sums of their codes.
        NotImplementedError: the format has no dot product.
    """
    f, partner, w, a, n = _checked(name, w, a)
    slots = _slots(f)
    products = n + slots * n // f.block_size if slots else n // PRODUCTS_A_TERM.get(partner.name, 1)
    terms = max(1, products + _stored_sums(f, n))
    term_roundings = SLOT_ROUNDINGS if slots else TERM_ROUNDINGS
    height = terms - 1 if additions is None else additions
    if not 0 <= height < 2**23:
        raise ValueError(f"{height} additions: the bound knows from 0 to 2^23 - 1")

    high, low = np.empty(len(w)), np.empty(len(w))
    size, faint, largest, rounded = (np.zeros(len(w)) for _ in range(4))
    step = max(1, CHUNK // max(1, n))
    for i in range(0, len(w), step):
        rows = slice(i, i + step)
        parts = _parts(f, partner, w[rows], a, first=i)
        size[rows], faint[rows], largest[rows] = parts.size, parts.faint, parts.largest
        rounded[rows] = parts.rounded
        for row, values in enumerate(parts.terms, start=i):
            values = values.tolist()
            high[row] = fsum(values)
            low[row] = fsum([*values, -high[row]])

    # BOUND
    roundings = height + term_roundings
    growth = roundings * UNIT / (1 - roundings * UNIT)
    in_additions = height * (1 + growth) * size
    if additions is None:
        in_additions = np.minimum(in_additions, (terms - 1) * ((size + abs(high) + rounded) / 2 + growth * size))
    in_terms = term_roundings * (1 + growth) * size
    underflow = 4 * (1 + growth) * faint + (2 * n + term_roundings) * SMALLEST_NORMAL
    bound = (UNIT * (1 + growth) * (in_additions + in_terms) + rounded + underflow) * (1 + 2.0**-30)
    bound = np.where(np.maximum(largest, 2 * size) < 2.0**127, bound, np.inf)
    return DotBound(_round_to_f32(high, low), high, low, bound)


def dot_fractions(name: str, w: UInt8[Array, "rows w_bytes"], a: UInt8[Array, "a_bytes"]) -> list[Fraction]:
    """The true dot product of each row as a fraction. Takes and raises what dot_exact does; slow."""
    f, partner, w, a, _ = _checked(name, w, a)
    rows = _parts(f, partner, w, a, first=0).terms.tolist()
    return [sum(map(Fraction, row), Fraction(0)) for row in rows]


# THE EXACT TERMS OF A ROW


class _Parts(NamedTuple):
    """terms: f64, their sum is the true value. For each row: the sum of |products|, the share of it in blocks where a
    product may underflow, a number that no intermediate result of a product exceeds, and what decoding rounds off."""

    terms: Float64[Array, "rows terms"]
    size: Float64[Array, "rows"]
    faint: Float64[Array, "rows"]
    largest: Float64[Array, "rows"]
    rounded: Float64[Array, "rows"] | float = 0.0


def _parts(f: Format, partner: Format, w: UInt8[Array, "rows w_bytes"], a: UInt8[Array, "a_bytes"], first: int
           ) -> _Parts:  # fmt: skip
    if partner.block_size == 1:
        return _float_parts(_decode(f, w, first), _decode(partner, a[None], None)[0])
    fields = dict(zip([field.name for field in partner.layout.fields], partner.layout.unpack(a.reshape(
        -1, partner.type_size)), strict=True))  # fmt: skip
    d, q = fields["d"].astype(np.float64), fields["qs"].astype(np.float64)
    _check_activations(fields)
    if _slots(f):
        return _outlier_parts(f, w, first, d, q)
    codes, offset = _split(f, w, first)
    shape = (len(w), *q.shape)
    codes = codes.reshape(shape)

    # A block's sum of products is an integer times one scale, or a few of like size: less than 53 bits, so exact.
    terms = _times(_block_sums(codes, q), d)
    sizes = _block_sums(abs(codes), abs(q)) * abs(d)
    if offset is not None and "s" in fields:
        # One min a block. 11 bits times 11.
        share = offset.reshape(shape)[..., 0] * fields["s"].astype(np.float64)
        terms, sizes = np.concatenate([terms, share], axis=1), sizes + abs(share)
    elif offset is not None:
        offset = offset.reshape(shape)
        terms = np.concatenate([terms, _times(_block_sums(offset, q), d)], axis=1)
        sizes = sizes + _block_sums(abs(offset), abs(q)) * abs(d)

    scale = np.broadcast_to(SMALLEST_SCALE, (len(w), 1))
    factor = LARGEST_FACTOR
    if f.name == "MXFP4":
        exponent, _ = f.layout.unpack(w.reshape(len(w), -1, f.type_size))
        scale = exact.from_bits(exact.widen_e8m0_half(exponent)).astype(np.float64)
        factor = LARGEST_FACTOR * np.maximum(scale, 1)
    faint = np.minimum(scale, 1) * np.minimum(abs(d), 1) < SMALLEST_NORMAL
    largest = (factor * np.maximum(abs(d), 1)).max(axis=-1, initial=0)
    return _Parts(terms, sizes.sum(axis=1), (sizes * faint).sum(axis=1), np.broadcast_to(largest, len(w)))


def _float_parts(w: Float64[Array, "rows n"], a: Float64[Array, "n"]) -> _Parts:
    # 24 bits times 24
    terms = w * a
    sizes = abs(terms)
    faint = (abs(w) < SMALLEST_NORMAL) | (abs(a) < SMALLEST_NORMAL) | (sizes < SMALLEST_NORMAL)
    return _Parts(terms, sizes.sum(axis=1), (sizes * faint).sum(axis=1), np.zeros(len(w)))


def _outlier_parts(f: Format, w: UInt8[Array, "rows w_bytes"], first: int, d: Float64[Array, "blocks"],
                   q: Float64[Array, "blocks 256"]) -> _Parts:  # fmt: skip
    """The parts of a format that is a base and slots; d and q are the activations' scales and codes."""
    base = FORMATS[base_of(f.name).LAYOUT.name]
    slots = _slots(f)
    own = np.ascontiguousarray(w.reshape(len(w), -1, f.type_size)[..., : base.type_size]).reshape(len(w), -1)
    codes, offset = _split(base, own, first)
    of_base = abs(codes) if offset is None else abs(codes) + abs(offset)
    whole = _decode(f, w, first)
    of_slots = _slot_sizes(f, base, w, first)
    touched = (of_slots != 0) | (whole != _decode(base, own, first))

    scales = np.repeat(d, f.block_size)
    # 24 bits times 8, times 24.
    terms = _times(whole * q.reshape(-1), scales)
    weights = of_base + touched * of_base + of_slots
    shares = weights * abs(q).reshape(-1) * abs(scales)
    rounded = UNIT * (1 + 2.0**-16) * (shares * (1 + (slots + 3) * touched)).sum(axis=1)

    scale = np.full((len(w), len(d)), SMALLEST_SCALE)
    factor = np.full((len(w), len(d)), LARGEST_FACTOR)
    own_scale = next((x for x in f.layout.fields if x.name == "scale" and x.dtype == "f32"), None)
    if own_scale:
        start = f.layout.offset("scale")
        stored = np.ascontiguousarray(w.reshape(len(w), -1, f.type_size)[..., start : start + 4]).view("<f4")[..., 0]
        stored = abs(stored.astype(np.float64))
        scale = np.where(stored > 0, np.minimum(scale, stored * 2.0**-14), scale)
        factor = factor * np.maximum(stored, 1)
    faint = np.repeat(np.minimum(scale, 1) * np.minimum(abs(d), 1) < SMALLEST_NORMAL, f.block_size, axis=1)
    largest = (factor * np.maximum(abs(d), 1)).max(axis=-1, initial=0)
    return _Parts(terms, shares.sum(axis=1), (shares * faint).sum(axis=1), largest, rounded)


def _slots(f: Format) -> int:
    """How many outliers a block has room for; 0 in formats without."""
    return 0 if f.dialect == "llama.cpp" else next(x.count for x in f.layout.fields if x.name == "at")


def _slot_sizes(f: Format, base: Format, w: UInt8[Array, "rows w_bytes"], first: int) -> Float64[Array, "rows n"]:
    """For each weight the sum of |what a slot brings|: decoded over a base of zeros, all other slots' values 0."""
    blocks = w.reshape(len(w), -1, f.type_size)
    values = next(x for x in f.layout.fields if x.name == "values")
    start, step = f.layout.offset("values"), values.size // values.count
    sizes = np.zeros((len(w), blocks.shape[1] * f.block_size))
    for at in range(start, start + values.size, step):
        alone = blocks.copy()
        alone[..., : base.type_size] = 0
        alone[..., start : start + values.size] = 0
        alone[..., at : at + step] = blocks[..., at : at + step]
        sizes += abs(_decode(f, alone.reshape(w.shape), first))
    return sizes


def _split(f: Format, w: UInt8[Array, "rows w_bytes"], first: int
           ) -> tuple[Float64[Array, "..."], Float64[Array, "..."] | None]:  # fmt: skip
    """The weights as codes + offset, both exact; None where the codes stand alone.

    Decoding is linear in a block's scales and rounds nothing but the sum of the two, so it is done twice.
    """
    names = [field.name for field in f.layout.fields]
    of_min = {"dmin", "m"}.intersection(names)
    if of_min:
        return _decode(f, _without(f, w, *of_min), first), _decode(f, _without(f, w, "d"), first)
    whole = _decode(f, w, first)
    if f.name in CODE_FIELDS:
        offset = _decode(f, _without(f, w, *CODE_FIELDS[f.name]), first)
        return whole - offset, offset
    if f.name in SHIFT_BITS:
        reversed_shift = _decode(f, _without(f, w, "qh", keep_xor=SHIFT_BITS[f.name]), first)
        return (whole + reversed_shift) / 2, (whole - reversed_shift) / 2
    return whole, None


def _without(f: Format, w: UInt8[Array, "rows w_bytes"], *names: str, keep_xor: tuple[int, ...] = ()
             ) -> UInt8[Array, "rows w_bytes"]:  # fmt: skip
    """w with those fields set to 0, or with a pattern of bits reversed in them."""
    blocks = w.reshape(len(w), -1, f.type_size).copy()
    for field in f.layout.fields:
        if field.name in names:
            part = blocks[..., f.layout.offset(field.name) :][..., : field.size]
            part[...] = part ^ np.resize(np.array(keep_xor, np.uint8), field.size) if keep_xor else 0
    return blocks.reshape(w.shape)


def _stored_sums(f: Format, n: int) -> int:
    """How many stored sums of activations a row's kernel may turn into terms of their own."""
    separate = f.name in CODE_FIELDS or f.name in SHIFT_BITS or any(x.name in ("dmin", "m") for x in f.layout.fields)
    return n // (16 if f.dot_with == "Q8_K" else 32) if separate else 0


def _block_sums(x: Float64[Array, "rows blocks n"], q: Float64[Array, "blocks n"]) -> Float64[Array, "rows blocks"]:
    return (x.transpose(1, 0, 2) @ q[:, :, None])[..., 0].T


def _times(sums: Float64[Array, "rows blocks"], d: Float64[Array, "blocks"]) -> Float64[Array, "rows 2*blocks"]:
    """Numbers of at most 53 bits times numbers of at most 24, exact: the upper 24 bits and the others apart."""
    shifted = sums * (2.0**29 + 1)
    upper = shifted - (shifted - sums)
    return np.concatenate([upper * d, (sums - upper) * d], axis=1)


def _round_to_f32(high: Float64[Array, "rows"], low: Float64[Array, "rows"]) -> Float32[Array, "rows"]:
    """high + low, rounded once: where low is not 0, high is first rounded to odd, so that it is no tie of float32."""
    even = high.view(np.uint64) & np.uint64(1) == 0
    odd = np.where((low != 0) & even, np.nextafter(high, np.copysign(np.inf, low)), high)
    with np.errstate(all="ignore"):
        return odd.astype(np.float32)


# CHECKS


def _checked(name: str, w: UInt8[Array, "rows w_bytes"], a: UInt8[Array, "a_bytes"]
             ) -> tuple[Format, Format, UInt8[Array, "rows w_bytes"], UInt8[Array, "a_bytes"], int]:  # fmt: skip
    if name not in FORMATS:
        raise ValueError(f"no format is called {name!r}; there are {' '.join(FORMATS)}")
    f = FORMATS[name]
    if f.dot is None:
        where = "llama.cpp v0.5.0" if f.dialect == "llama.cpp" else "the HIFI fork"
        raise NotImplementedError(f"{name} has no dot in {where}")
    partner = FORMATS[f.dot_with]
    for x, what, axes in ((w, "w", 2), (a, "a", 1)):
        if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != axes:
            raise ValueError(f"{what} must be a NumPy array of uint8 with {axes} axes")
    if w.shape[1] % f.type_size or a.size % partner.type_size:
        raise ValueError(f"{w.shape[1]} and {a.size} bytes are not whole blocks of {name} and {partner.name}")
    n, na = w.shape[1] // f.type_size * f.block_size, a.size // partner.type_size * partner.block_size
    if n != na:
        raise ValueError(f"a row of w holds {n} weights, but a holds {na} values")
    return f, partner, np.ascontiguousarray(w), np.ascontiguousarray(a), n


def _decode(f: Format, blocks: UInt8[Array, "rows bytes"], first: int | None) -> Float64[Array, "rows n"]:
    """Finite float64 weights; first is the number of the first row, None for activations."""
    values = api.decode(f.name, blocks, lane="numpy")
    finite = np.isfinite(values)
    if not finite.all():
        row, i = (int(x) for x in np.unravel_index(np.argmin(finite), finite.shape))
        place = f"a[{i}]" if first is None else f"w[{first + row}, {i}]"
        raise ValueError(f"{place} is {values[row, i]}: only finite numbers have a dot product")
    return values.astype(np.float64)


def _check_activations(fields: dict[str, np.ndarray]) -> None:
    for name in fields.keys() & {"d", "s"}:
        finite = np.isfinite(fields[name])
        if not finite.all():
            block = int(np.argmin(finite))
            raise ValueError(f"{name} of block {block} of a is {fields[name][block]}, not a finite number")
    if "bsums" in fields:
        sums = fields["qs"].reshape(-1, 16, 16).sum(axis=-1, dtype=np.int64)
        # Where the scale is 0 the reference encoder leaves them as they were, and they do not matter.
        right = (sums == fields["bsums"]).all(axis=-1) | (fields["d"] == 0)
        if not right.all():
            raise ValueError(f"block {int(np.argmin(right))} of a has bsums that are not the sums of its codes")
