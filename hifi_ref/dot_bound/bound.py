"""The public functions: the true value from the exact terms, and the bound on the error of a float32 kernel."""

from __future__ import annotations

from fractions import Fraction
from math import fsum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hifi_ref.dot_bound.checks import checked
from hifi_ref.dot_bound.codes import stored_sums
from hifi_ref.dot_bound.outliers import slots_of
from hifi_ref.dot_bound.parts import SMALLEST_NORMAL, UNIT
from hifi_ref.dot_bound.terms import parts_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, UInt8

# Roundings of a term before it is added: an integer above 2^24 converted, three products.
TERM_ROUNDINGS = 4
# The same in formats with outliers: a difference, the 127th of a scale, and its product besides.
SLOT_ROUNDINGS = 7
# Products a term, by the format of the activations: what one integer instruction adds; half a lane of a super-block.
PRODUCTS_A_TERM = {"Q8_0": 4, "Q8_1": 4, "Q8_K": 16}
# Products a chunk of rows.
CHUNK = 1 << 20


class DotBound(NamedTuple):
    """For each row: the true dot product, and the largest error that a sound float32 kernel can have."""

    value: Float32[np.ndarray, "rows"]
    """The true value, correctly rounded, ties to even."""
    high: Float64[np.ndarray, "rows"]
    """The true value, correctly rounded to binary64."""
    low: Float64[np.ndarray, "rows"]
    """The true value minus high, correctly rounded: the two together hold more than 100 bits."""
    bound: Float64[np.ndarray, "rows"]
    """The largest |kernel - true value|; infinite where float32 can overflow on the way."""

    def error(self, result: Float32[np.ndarray, "rows"]) -> Float64[np.ndarray, "rows"]:
        """|result - true value|, to within a few parts in 2^53 (of the result where it is 0 otherwise)."""
        with np.errstate(all="ignore"):
            return abs((result.astype(np.float64) - self.high) - self.low)

    def holds(self, result: Float32[np.ndarray, "rows"]) -> Bool[np.ndarray, "rows"]:
        """Whether a kernel's result lies within the bound. A NaN never does."""
        return (self.error(result) <= self.bound) & ~np.isnan(result)


def dot_exact(
    name: str, w: UInt8[np.ndarray, "rows w_bytes"], a: UInt8[np.ndarray, "a_bytes"], additions: int | None = None
) -> DotBound:
    """The true dot product of each row of w with a, and how far from it a sound kernel can be.

    Args:
        name: a key of FORMATS, the format of w.
        w: uint8[rows, row_bytes], a NumPy array.
        a: uint8[row_bytes of FORMATS[name].dot_with], a NumPy array.
        additions: the most float32 additions that lie between a term and the result, where the kernel is known: its
            loop's length plus the depth of its final tree. It replaces the assumption on the number of terms, and makes
            the bound of long rows far smaller. None: any order.

    Returns:
        DotBound, arrays of length rows. The package explains what the bound assumes, and proves it.

    Raises:
        ValueError: an unknown name, a wrong dtype or shape, a weight or activation that is no finite float32, or bsums
            that are not the sums of their codes.
        NotImplementedError: the format has no dot product.
    """
    f, partner, w, a, n = checked(name, w, a)
    slots = slots_of(f)
    products = n + slots * n // f.block_size if slots else n // PRODUCTS_A_TERM.get(partner.name, 1)
    terms = max(1, products + stored_sums(f, n))
    term_roundings = SLOT_ROUNDINGS if slots else TERM_ROUNDINGS
    height = terms - 1 if additions is None else additions
    if not 0 <= height < 2**23:
        raise ValueError(f"{height} additions: the bound knows from 0 to 2^23 - 1")

    high, low = np.empty(len(w)), np.empty(len(w))
    size, faint, largest, rounded = (np.zeros(len(w)) for _ in range(4))
    step = max(1, CHUNK // max(1, n))
    for i in range(0, len(w), step):
        rows = slice(i, i + step)
        parts = parts_of(f, partner, w[rows], a, first=i)
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


def dot_fractions(name: str, w: UInt8[np.ndarray, "rows w_bytes"], a: UInt8[np.ndarray, "a_bytes"]) -> list[Fraction]:
    """The true dot product of each row as a fraction. Takes and raises what dot_exact does; slow."""
    f, partner, w, a, _ = checked(name, w, a)
    rows = parts_of(f, partner, w, a, first=0).terms.tolist()
    return [sum(map(Fraction, row), Fraction(0)) for row in rows]


def _round_to_f32(high: Float64[np.ndarray, "rows"], low: Float64[np.ndarray, "rows"]) -> Float32[np.ndarray, "rows"]:
    """high + low, rounded once: where low is not 0, high is first rounded to odd, so that it is no tie of float32."""
    even = high.view(np.uint64) & np.uint64(1) == 0
    odd = np.where((low != 0) & even, np.nextafter(high, np.copysign(np.inf, low)), high)
    with np.errstate(all="ignore"):
        return odd.astype(np.float32)
