"""Bugs of decoding: f16 scales widened, and weights computed, in a wrong way."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import FORMATS, LLAMA_CPP
from hifi_ref.known_bugs.bug import Bug, bug, decode, field_bytes, in_field

# uint16 bits of an f16 -> float32
Widen = Callable[[np.ndarray], np.ndarray]


# TERMS: every format with f16 scales decodes to a sum of scale * coefficient


def scales_of(name: str) -> list[str]:
    """The f16 fields that weights are made with."""
    return [field.name for field in FORMATS[name].layout.fields if field.dtype == "f16" and field.name != "s"]


def coefficients(name: str, blocks: np.ndarray, field: str) -> np.ndarray:
    """f32[n, block_size]: what one f16 field is multiplied by, exact."""
    one, zero = np.array([0, 0x3C], np.uint8), np.zeros(2, np.uint8)
    for other in scales_of(name):
        value = one if other == field else zero
        blocks = in_field(name, other, functools.partial(_replaced, value))(blocks)
    factors = decode(name, blocks)
    # What is subtracted is -0 where the min is 0.
    return np.where(factors == 0, np.float32(-0.0), factors) if field == "dmin" else factors


def _replaced(value: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A field's bytes, uint8[n, 2], replaced by these two."""
    return field * 0 + value


def half_bits(name: str, blocks: np.ndarray, field: str) -> np.ndarray:
    """uint16[n, 1]"""
    return np.ascontiguousarray(field_bytes(name, blocks, field)).view("<u2").astype(np.uint16)


def decode_with(name: str, widen: Widen) -> Callable[[np.ndarray], np.ndarray]:
    """The decoder with another conversion of f16."""

    def run(blocks: np.ndarray) -> np.ndarray:
        total = np.zeros(1, np.float32)
        with np.errstate(all="ignore"):
            for i, field in enumerate(scales_of(name)):
                term = widen(half_bits(name, blocks, field)) * coefficients(name, blocks, field)
                total = term if i == 0 else total + term
        return total

    return run


def right_f16(h: np.ndarray) -> np.ndarray:
    return exact.widen_f16(h)


def f16_as_bf16(h: np.ndarray) -> np.ndarray:
    return exact.widen_bf16(h)


def f16_without_specials(h: np.ndarray) -> np.ndarray:
    """Exponent 31 as one more exponent: 2^16 to 131008."""
    finite = exact.from_bits((h.astype(np.uint32) & 0x7FFF) << np.uint32(13)) * np.float32(2.0**112)
    return np.where(h >> 15 == 1, -finite, finite)


def f16_subnormals_halved(h: np.ndarray) -> np.ndarray:
    value = exact.widen_f16(h)
    return np.where(h & 0x7C00 == 0, value * np.float32(0.5), value)


def subnormals_as_normal(h: np.ndarray) -> np.ndarray:
    """Exponent 0 with a leading one, as if it were an exponent like others: 2^-15 (1 + m / 1024)."""
    magnitude = exact.from_bits(((h.astype(np.uint32) & 0x7FFF) << np.uint32(13)) + np.uint32(112 << 23))
    value = np.where(h & 0x7FFF == 0, np.float32(0), magnitude)
    return np.where(h & 0x7C00 == 0, np.where(h >> 15 == 1, -value, value), exact.widen_f16(h))


def _f16() -> Iterator[Bug]:
    for name in LLAMA_CPP:
        if scales_of(name):
            for title, says, widen in (
                ("f16 as bfloat16", "Takes an f16 for a bfloat16.", f16_as_bf16),
                ("f16 without infinity", "Takes f16 infinities and NaN for large numbers.", f16_without_specials),
                ("subnormal f16 halved", "Takes a subnormal f16 for half of what it is.", f16_subnormals_halved),
                ("subnormal f16 as normal", "Gives a subnormal f16 a leading one.", subnormals_as_normal),
            ):
                yield bug("f16 conversion", name, "decode", title, says, decode_with(name, widen))


# VALUES


def _rounded_to_half(name: str) -> Callable[[np.ndarray], np.ndarray]:
    def run(blocks: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return decode(name, blocks).astype(np.float16).astype(np.float32)

    return run


def _without_min(name: str) -> Callable[[np.ndarray], np.ndarray]:
    def run(blocks: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return exact.widen_f16(half_bits(name, blocks, "d")) * coefficients(name, blocks, "d")

    return run


def _unsigned_codes(name: str) -> Callable[[np.ndarray], np.ndarray]:
    def run(blocks: np.ndarray) -> np.ndarray:
        d, *_ = FORMATS[name].layout.unpack(blocks)
        with np.errstate(all="ignore"):
            return d[:, None] * exact.f32(field_bytes(name, blocks, "qs"))

    return run


def _unsigned_scales(blocks: np.ndarray) -> np.ndarray:
    """Q6_K"""
    codes = decode("Q6_K", in_field("Q6_K", "scales", lambda v: v * 0 + 1)(blocks))
    scales = np.repeat(exact.f32(field_bytes("Q6_K", blocks, "scales")), 16, axis=1)
    with np.errstate(all="ignore"):
        return codes * scales


def _flushed(name: str) -> Callable[[np.ndarray], np.ndarray]:
    def run(blocks: np.ndarray) -> np.ndarray:
        values = decode(name, blocks)
        return np.where(abs(values) < exact.SMALLEST_NORMAL, np.copysign(np.float32(0), values), values)

    return run


def _positive_zeros(blocks: np.ndarray) -> np.ndarray:
    """Q1_0: 0 - d instead of -d."""
    with np.errstate(invalid="ignore"):
        return decode("Q1_0", blocks) + np.float32(0)


def _values() -> Iterator[Bug]:
    for name in LLAMA_CPP:
        # A sign, or a step times a short scale, fits in any case.
        if name not in ("F16", "BF16", "Q1_0", "TQ1_0", "NVFP4"):
            says = "Rounds every weight to binary16."
            yield bug("half precision", name, "decode", "weights in f16", says, _rounded_to_half(name))
    for name in ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"):
        yield bug("sign of min", name, "decode", "no min", "Leaves out the min.", _without_min(name))
    for name in ("Q8_0", "Q8_1", "Q8_K"):
        says = "Takes signed codes for unsigned ones."
        yield bug("offset of codes", name, "decode", "unsigned codes", says, _unsigned_codes(name))
    says = "Takes the signed scales of sub-blocks for unsigned ones."
    yield bug("offset of codes", "Q6_K", "decode", "unsigned scales", says, _unsigned_scales)
    for name in ("F32", "BF16", "Q8_K", "MXFP4"):
        says = "Makes subnormal weights zero."
        yield bug("flush to zero", name, "decode", "subnormal weights lost", says, _flushed(name))
    says = "Subtracts the scale from zero where it is to be negated, which gives +0 for a scale of 0."
    yield bug("sign of zero", "Q1_0", "decode", "positive zeros", says, _positive_zeros)


def bugs() -> Iterator[Bug]:
    yield from _f16()
    yield from _values()
