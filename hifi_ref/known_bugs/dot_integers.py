"""Bugs of the dot product's integers: sums in 16 bits that wrap or saturate, and -128 negated in 8."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref.exact import f32
from hifi_ref.formats import FORMATS, codebooks
from hifi_ref.formats.packing import spread
from hifi_ref.known_bugs.bug import Bug, bug
from hifi_ref.known_bugs.dot_terms import activation_codes, codes_of, in_order, scale_products


def bugs() -> Iterator[Bug]:
    for name in ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "MXFP4", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"):
        says = "Negates activations where the code is negative, in 8 bits, so that -128 stays -128."
        yield bug("activation -128", name, "dot", "-128 negated", says, from_sums(name, _sign_trick))
    for name in ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "TQ2_0"):
        yield bug(
            "integer overflow", name, "dot", "16-bit sums", "Keeps integer sums in 16 bits.", from_sums(name, _wrapping)
        )
    for name in ("Q8_0", "IQ4_NL"):
        says = "Adds 128 to the codes to make them unsigned, and pairs of products saturate at 16 bits."
        yield bug("integer overflow", name, "dot", "saturating pairs", says, from_sums(name, _saturating))
    says = "Adds 128 to the codes to make them unsigned, and pairs of products saturate at 16 bits."
    yield bug("integer overflow", "IQ4_XS", "dot", "saturating pairs", says, _iq4_xs_saturating)


def from_sums(name: str, sums: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    """sums(codes f32[rows, blocks, n], activations f32[blocks, n]) -> [rows, blocks], in place of the integer sums."""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        q = activation_codes(name, a)
        partial = f32(sums(codes_of(name, w).reshape(len(w), *q.shape), q))
        with np.errstate(all="ignore"):
            return in_order(scale_products(name, w, a) * partial)

    return run


def _wrapping(codes: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Sums kept in 16 bits."""
    return np.einsum("rbn,bn->rb", codes, q).astype(np.int64).astype(np.int16)


def _saturating(codes: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Codes plus 128, as unsigned bytes; products added in pairs that saturate at 16 bits; then 128 taken away."""
    products = (codes + 128) * q
    pairs = np.clip(products[..., 0::2] + products[..., 1::2], -32768, 32767)
    return pairs.sum(axis=-1) - 128 * q.sum(axis=-1)


def _sign_trick(codes: np.ndarray, q: np.ndarray) -> np.ndarray:
    """|code| * (q with the code's sign), where -(-128) is -128."""
    turned = np.where((codes < 0) & (q == -128), np.float32(-128), np.copysign(1, codes) * q)
    return (abs(codes) * turned).sum(axis=-1)


def _iq4_xs_saturating(w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The same with a scale for each 32 weights."""
    layout = FORMATS["IQ4_XS"].layout
    d, high, low, qs = layout.unpack(w.reshape(len(w), -1, layout.type_size))
    da, qa, _ = FORMATS["Q8_K"].layout.unpack(a.reshape(-1, 292))
    steps = f32(codebooks.STEPS_IQ4[spread(qs.reshape(*qs.shape[:-1], 8, 16), 4)]).reshape(len(w), -1, 32)
    sums = f32(_saturating(steps, f32(qa).reshape(-1, 32)))
    pairs = high[..., None] >> np.arange(0, 16, 2, dtype=np.uint16) & np.uint16(3)
    scales = (pairs.astype(np.int32) << 4 | spread(low[..., None], 4).reshape(pairs.shape)) - 32
    with np.errstate(all="ignore"):
        return in_order(((d * da)[..., None] * f32(scales)).reshape(len(w), -1) * sums)
