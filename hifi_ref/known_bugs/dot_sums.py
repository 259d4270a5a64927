"""Bugs of the dot product's sums: blocks added in another order or in binary16, products and sums rounded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import f32
from hifi_ref.known_bugs.bug import Bug, bug, partner_of
from hifi_ref.known_bugs.dot_terms import scale_products, terms, with_unit_scales

# One scale, or one of a super-block, and an integer sum a block
SIMPLE = (
    "Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "MXFP4", "TQ1_0", "TQ2_0", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S",
    "IQ3_XXS", "IQ3_S",
)  # fmt: skip
SUMMED = (*SIMPLE, "Q1_0", "Q2_0", "Q4_1", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "NVFP4")


def bugs() -> Iterator[Bug]:
    for name in SUMMED:
        for title, says, add in (
            ("backwards", "Adds the blocks last to first.", backwards),
            ("pairwise", "Adds the blocks in pairs, and then the pairs.", pairwise),
        ):
            yield bug("order of additions", name, "dot", title, says, summed(name, add))
        says = "Keeps the sum in binary16."
        yield bug("half precision", name, "dot", "sum in f16", says, summed(name, in_half))
    for name in SIMPLE:
        # IQ1_M has no d of its own bytes
        if name != "IQ1_M":
            says = "Multiplies the integer sum by the scales and adds it with one rounding."
            yield bug("fused multiply-add", name, "dot", "fused sum", says, fused_sum(name))


def summed(name: str, add: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """The right products of blocks, added by add(f32[rows, blocks]) -> f32[rows]."""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return add(terms(name, w, a))

    return run


def backwards(t: np.ndarray) -> np.ndarray:
    return exact.sum_of_rows(t[:, ::-1])


def pairwise(t: np.ndarray) -> np.ndarray:
    while t.shape[1] > 1:
        t = np.concatenate([t, np.zeros((len(t), t.shape[1] % 2), np.float32)], axis=1)
        t = t[:, 0::2] + t[:, 1::2]
    return t[:, 0]


def in_half(t: np.ndarray) -> np.ndarray:
    total = np.zeros(len(t), np.float16)
    for i in range(t.shape[1]):
        total = (f32(total) + t[:, i]).astype(np.float16)
    return f32(total)


def fused_sum(name: str) -> Callable:
    """total = fma(d_w * d_a, integer sum, total)"""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        # Integers, and eighths of them
        sums = terms(name, with_unit_scales(name, w), with_unit_scales(partner_of(name).name, a))
        with np.errstate(all="ignore"):
            scales = scale_products(name, w, a)
            total = np.zeros(len(w), np.float32)
            for i in range(sums.shape[1]):
                total = f32(np.float64(1) * scales[:, i] * sums[:, i] + total)
        return total

    return run
