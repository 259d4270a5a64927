"""Bugs of the dot product: integer sums that overflow, floats added in another order, sums and mins mistaken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import f32
from hifi_ref.formats import FORMATS, codebooks
from hifi_ref.formats.packing import spread
from hifi_ref.known_bugs.bug import Bug, Bytes, bug, decode, dot, each_block, field_bytes, in_field

ONE = np.array([0, 0x3C], np.uint8)


# TERMS: the right product of each block alone


def parts(name: str, w: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and activations by the longer of their blocks: u8[rows, blocks, bytes], u8[blocks, bytes]."""
    f = FORMATS[name]
    g = FORMATS[f.dot_with]
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
    g = FORMATS[f.dot_with]
    blocks = w.reshape(-1, f.type_size)
    if name == "MXFP4":
        d = exact.from_bits(exact.widen_e8m0_half(blocks[:, 0]))
    else:
        d = exact.widen_f16(np.ascontiguousarray(field_bytes(name, blocks, "d")).view("<u2")[:, 0].astype(np.uint16))
    return d.reshape(len(w), -1) * g.layout.unpack(a.reshape(-1, g.type_size))[0]


# SUMS


def in_order(t: np.ndarray) -> np.ndarray:
    return exact.sum_of_rows(t)


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


def summed(name: str, add: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return add(terms(name, w, a))

    return run


def fused_sum(name: str) -> Callable:
    """total = fma(d_w * d_a, integer sum, total)"""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        # Integers, and eighths of them
        sums = terms(name, with_unit_scales(name, w), with_unit_scales(FORMATS[name].dot_with, a))
        with np.errstate(all="ignore"):
            scales = scale_products(name, w, a)
            total = np.zeros(len(w), np.float32)
            for i in range(sums.shape[1]):
                total = f32(np.float64(1) * scales[:, i] * sums[:, i] + total)
        return total

    return run


# INTEGERS


def codes_of(name: str, blocks: np.ndarray) -> np.ndarray:
    """f32[n, block_size]: what d is multiplied by."""
    return decode(name, with_unit_scales(name, blocks.reshape(-1, FORMATS[name].type_size)))


def activation_codes(name: str, a: np.ndarray) -> np.ndarray:
    g = FORMATS[FORMATS[name].dot_with]
    return f32(field_bytes(g.name, a.reshape(-1, g.type_size), "qs").view(np.int8))


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


# MINS


def _with_activations(name: str, change: Bytes) -> Callable:
    """The right product with changed activations."""
    partner = FORMATS[name].dot_with
    return lambda w, a: dot(name, w, each_block(partner, change, a))


def _with_weights(name: str, change: Bytes) -> Callable:
    return lambda w, a: dot(name, each_block(name, change, w), a)


def _first_of_pairs(v: np.ndarray) -> np.ndarray:
    """bsums: only the first of each two."""
    v = v.reshape(*v.shape[:-1], 8, 4).copy()
    v[..., 2:] = 0
    return v.reshape(*v.shape[:-2], 32)


def _with_min_of(name: str, share: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    """Q4_1 and Q5_1 with another share of the min: share(m, s, d_a), each f32."""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        partner = FORMATS["Q8_1"]
        without = terms(name, each_block(name, in_field(name, "m", lambda v: v * 0), w), a)
        m = FORMATS[name].layout.unpack(w.reshape(-1, FORMATS[name].type_size))[1].reshape(len(w), -1)
        d, s, _ = partner.layout.unpack(a.reshape(-1, partner.type_size))
        with np.errstate(all="ignore"):
            return in_order(without + share(m, s, d))

    return run


# WHOLE FLOATS


def _products(name: str, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    f = FORMATS[name]
    values = decode(name, w.reshape(-1, f.type_size)).reshape(len(w), -1)
    with np.errstate(all="ignore"):
        return values * decode(name, a.reshape(-1, f.type_size)).reshape(-1)


def _float_sum(name: str, lanes: int) -> Callable:
    """Sums in binary32, in so many lanes that are added last."""

    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        products = _products(name, w, a)
        with np.errstate(all="ignore"):
            by_lane = products.reshape(len(w), -1, lanes)
            total = by_lane[:, 0] * 0
            for i in range(by_lane.shape[1]):
                total = total + by_lane[:, i]
            return in_order(total)

    return run


def _products_in_half(name: str) -> Callable:
    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return in_order(f32(_products(name, w, a).astype(np.float16)))

    return run


# BUGS

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
    yield from _integers()
    yield from _mins()
    for name in ("F32", "F16", "BF16"):
        for title, says, lanes in (
            ("sum in binary32", "Adds in binary32, not in binary64.", 1),
            ("eight lanes", "Adds every eighth product, then the eight sums, in binary32.", 8),
        ):
            yield bug("order of additions", name, "dot", title, says, _float_sum(name, lanes))
        says = "Rounds products to binary16."
        yield bug("half precision", name, "dot", "products in f16", says, _products_in_half(name))


def _integers() -> Iterator[Bug]:
    for name in ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "MXFP4", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"):
        says = "Negates activations where the code is negative, in 8 bits, so that -128 stays -128."
        yield bug("activation -128", name, "dot", "-128 negated", says, from_sums(name, _sign_trick))
    for name in ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "TQ2_0"):
        yield bug("integer overflow", name, "dot", "16-bit sums", "Keeps integer sums in 16 bits.",
            from_sums(name, _wrapping))
    for name in ("Q8_0", "IQ4_NL"):
        says = "Adds 128 to the codes to make them unsigned, and pairs of products saturate at 16 bits."
        yield bug("integer overflow", name, "dot", "saturating pairs", says, from_sums(name, _saturating))

    def iq4_xs(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        layout = FORMATS["IQ4_XS"].layout
        d, high, low, qs = layout.unpack(w.reshape(len(w), -1, layout.type_size))
        da, qa, _ = FORMATS["Q8_K"].layout.unpack(a.reshape(-1, 292))
        steps = f32(codebooks.STEPS_IQ4[spread(qs.reshape(*qs.shape[:-1], 8, 16), 4)]).reshape(len(w), -1, 32)
        sums = f32(_saturating(steps, f32(qa).reshape(-1, 32)))
        pairs = high[..., None] >> np.arange(0, 16, 2, dtype=np.uint16) & np.uint16(3)
        scales = (pairs.astype(np.int32) << 4 | spread(low[..., None], 4).reshape(pairs.shape)) - 32
        with np.errstate(all="ignore"):
            return in_order(((d * da)[..., None] * f32(scales)).reshape(len(w), -1) * sums)

    says = "Adds 128 to the codes to make them unsigned, and pairs of products saturate at 16 bits."
    yield bug("integer overflow", "IQ4_XS", "dot", "saturating pairs", says, iq4_xs)


def _mins() -> Iterator[Bug]:
    for name in ("Q2_K", "Q4_K", "Q5_K"):
        says = "Leaves out the mins."
        run = _with_weights(name, in_field(name, "dmin", lambda v: v * 0))
        yield bug("sign of min", name, "dot", "no mins", says, run)
        says = "Takes each sum of activations for the next sub-block."
        run = _with_activations(name, in_field("Q8_K", "bsums", lambda v: np.roll(v, 2, axis=-1)))
        yield bug("activation sums", name, "dot", "sums of the next sub-block", says, run)
    for name in ("Q4_K", "Q5_K"):
        says = "Takes the sum of 16 activations for that of 32."
        run = _with_activations(name, in_field("Q8_K", "bsums", _first_of_pairs))
        yield bug("activation sums", name, "dot", "half of the sums", says, run)
    says = "Leaves out the stored sums, and with them the shifts of the grid."
    run = _with_activations("IQ1_S", in_field("Q8_K", "bsums", lambda v: v * 0))
    yield bug("activation sums", "IQ1_S", "dot", "no sums", says, run)
    for name in ("Q4_1", "Q5_1"):
        says = "Leaves out the mins."
        yield bug("sign of min", name, "dot", "no mins", says, _with_min_of(name, lambda m, s, d: m * 0))
        says = "Multiplies the stored sum by the scale once more."
        yield bug("activation sums", name, "dot", "sum scaled twice", says,
            _with_min_of(name, lambda m, s, d: m * s * d))
        says = "Adds the mins' share after all blocks, not with each."
        yield bug("order of additions", name, "dot", "mins last", says, _mins_last(name))


def _mins_last(name: str) -> Callable:
    def run(w: np.ndarray, a: np.ndarray) -> np.ndarray:
        without = terms(name, each_block(name, in_field(name, "m", lambda v: v * 0), w), a)
        with np.errstate(all="ignore"):
            return in_order(np.concatenate([without, terms(name, w, a) - without], axis=1))

    return run
