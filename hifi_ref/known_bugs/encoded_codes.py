"""Bugs of encoding: one scale a block, codes rounded in a wrong way. Q4_0 to Q8_K."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32
from hifi_ref.formats import FORMATS, q4_1
from hifi_ref.formats.packing import join_five_bits, join_nibbles
from hifi_ref.formats.search import scale_search
from hifi_ref.known_bugs.bug import Bug, bug, encode
from hifi_ref.known_bugs.rounding import (
    Rounding,
    by_block,
    fused,
    half_away,
    half_away_by_adding,
    half_even,
    half_up,
    towards_zero,
)

# ONE SCALE, CODES WITH AN OFFSET: Q4_0 and Q5_0


def offset_codes(
    name: str,
    scale: Callable | None = None,
    code: Callable | None = None,
    narrowed: bool = False,
    top: int | None = None,
) -> Callable:
    """The encoder without importance; scale(x) and code(x, d) stand in for the right ones."""
    half = 8 if name == "Q4_0" else 16

    def shifted(x: np.ndarray, d: np.ndarray) -> np.ndarray:
        inverse = exact.reciprocal_or_zero(d)
        return exact.as_int8(exact.truncate(x * inverse + np.float32(half + 0.5)))

    def blocks(x: np.ndarray) -> np.ndarray:
        d = scale(x) if scale else div(scale_search.extreme(x, axis=-1), np.float32(-half))
        with_d = exact.round_f16(d) if narrowed else d
        codes = exact.at_most(top or 2 * half - 1, (code or shifted)(x, with_d[:, None]))
        if name == "Q4_0":
            return FORMATS[name].layout.pack(d=d, qs=join_nibbles(codes & 255))
        qh, qs = join_five_bits(codes & 255)
        return FORMATS[name].layout.pack(d=d, qh=qh, qs=qs)

    return by_block(name, blocks)


def _offset_bugs() -> Iterator[Bug]:
    for name, half in (("Q4_0", 8), ("Q5_0", 16)):

        def of(rounding: Rounding, half: int = half) -> Callable:
            def code(x: np.ndarray, d: np.ndarray) -> np.ndarray:
                return np.maximum(rounding(x * exact.reciprocal_or_zero(d)) + half, 0)

            return code

        def divided(x: np.ndarray, d: np.ndarray, half: int = half) -> np.ndarray:
            quotient = div(x, np.where(d != 0, d, np.float32(1)))
            return exact.as_int8(exact.truncate(np.where(d != 0, quotient, np.float32(0)) + np.float32(half + 0.5)))

        def fused_code(x: np.ndarray, d: np.ndarray, half: int = half) -> np.ndarray:
            shifted = fused(x, exact.reciprocal_or_zero(d), np.array(half + 0.5))
            return exact.as_int8(exact.truncate(shifted))

        def from_magnitude(x: np.ndarray, half: int = half) -> np.ndarray:
            return div(abs(x).max(axis=-1), np.float32(half - 1))

        def positive(x: np.ndarray, half: int = half) -> np.ndarray:
            return div(abs(x).max(axis=-1), np.float32(half))

        def last_extreme(x: np.ndarray, half: int = half) -> np.ndarray:
            return div(scale_search.extreme(x[:, ::-1], axis=-1), np.float32(-half))

        for kind, title, says, run in (
            ("rounding", "half to even", "Rounds ties to the even code, not up.",
            offset_codes(name, code=of(half_even))),
            ("rounding", "towards zero", "Cuts codes off towards the middle one.",
            offset_codes(name, code=of(towards_zero))),
            ("reciprocal", "divides", "Divides by the scale instead of multiplying by its inverse.",
             offset_codes(name, code=divided)),
            ("narrowed first", "narrowed scale", "Rounds codes with the scale as it is stored, an f16.",
             offset_codes(name, narrowed=True)),
            ("fused multiply-add", "fused code", "Multiplies and adds with one rounding.",
            offset_codes(name, code=fused_code)),
            ("scale", f"divides by {half - 1}", f"Takes the largest magnitude / {half - 1} for the scale.",
             offset_codes(name, scale=from_magnitude)),
            ("scale", "positive scale", "Forgets the sign of the weight that sets the scale.",
            offset_codes(name, scale=positive)),
            ("scale", "last of equals", "Of equal magnitudes takes the last for the scale, not the first.",
             offset_codes(name, scale=last_extreme)),
            ("integer overflow", "no largest code", "Does not cut codes to the largest, so that they spill over.",
             offset_codes(name, top=255)),
        ):  # fmt: skip
            yield bug(kind, name, "encode", title, says, run)


# SCALE AND MIN: Q4_1 and Q5_1


def _with_min(name: str, code: Callable, narrowed: bool = False) -> Callable:
    top = 15 if name == "Q4_1" else 31

    def blocks(x: np.ndarray) -> np.ndarray:
        d, m, _ = q4_1.scale_min_and_codes(x, top)
        with_d, with_m = (exact.round_f16(d), exact.round_f16(m)) if narrowed else (d, m)
        codes = code(x, with_d[:, None], with_m[:, None])
        if name == "Q4_1":
            codes = exact.at_most(top, exact.as_int8(codes)) & 255
            return FORMATS[name].layout.pack(d=d, m=m, qs=join_nibbles(codes))
        qh, qs = join_five_bits(codes)
        return FORMATS[name].layout.pack(d=d, m=m, qh=qh, qs=qs)

    return by_block(name, blocks)


def _min_bugs() -> Iterator[Bug]:
    half = np.float32(0.5)

    def right(x, d, m):
        return exact.truncate((x - m) * exact.reciprocal_or_zero(d) + half)

    def to_even(x, d, m):
        return half_even((x - m) * exact.reciprocal_or_zero(d))

    def divided(x, d, m):
        return exact.truncate(np.where(d != 0, div(x - m, np.where(d != 0, d, np.float32(1))), np.float32(0)) + half)

    def fused_code(x, d, m):
        return exact.truncate(fused(x - m, exact.reciprocal_or_zero(d), np.array(0.5)))

    for name in ("Q4_1", "Q5_1"):
        for kind, title, says, run in (
            ("rounding", "half to even", "Rounds ties to the even code, not up.", _with_min(name, to_even)),
            ("reciprocal", "divides", "Divides by the scale instead of multiplying by its inverse.",
            _with_min(name, divided)),
            ("narrowed first", "narrowed scale", "Rounds codes with scale and min as they are stored.",
             _with_min(name, right, narrowed=True)),
            ("fused multiply-add", "fused code", "Multiplies and adds with one rounding.", _with_min(name, fused_code)),
        ):  # fmt: skip
            yield bug(kind, name, "encode", title, says, run)


# SIGNED CODES: Q8_0, Q8_1, Q8_K


def signed_codes(name: str, code: Callable, narrowed: bool = False, top: int = 127) -> Callable:
    """Q8_0 and Q8_1 with another rounding; code(x, d)."""

    def blocks(x: np.ndarray) -> np.ndarray:
        d = div(abs(x).max(axis=-1), np.float32(top))
        codes = exact.as_int8(code(x, (exact.round_f16(d) if narrowed else d)[:, None]))
        if name == "Q8_0":
            return FORMATS[name].layout.pack(d=d, qs=codes)
        return FORMATS[name].layout.pack(d=d, s=f32(codes.sum(axis=-1)) * d, qs=codes)

    return by_block(name, blocks)


def _signed_bugs() -> Iterator[Bug]:
    def of(rounding: Rounding) -> Callable:
        return lambda x, d: rounding(x * exact.reciprocal_or_zero(d))

    def divided(x: np.ndarray, d: np.ndarray) -> np.ndarray:
        return half_away(np.where(d != 0, div(x, np.where(d != 0, d, np.float32(1))), np.float32(0)))

    for name in ("Q8_0", "Q8_1"):
        for kind, title, says, run in (
            ("rounding", "half to even", "Rounds ties to the even code, not away from zero.",
            signed_codes(name, of(half_even))),
            ("rounding", "half up", "Rounds by the floor of x + 1/2.", signed_codes(name, of(half_up))),
            ("rounding", "half away by adding", "Rounds by adding 1/2 and cutting off.",
             signed_codes(name, of(half_away_by_adding))),
            ("rounding", "towards zero", "Cuts codes off towards zero.", signed_codes(name, of(towards_zero))),
            ("reciprocal", "divides", "Divides by the scale instead of multiplying by its inverse.",
            signed_codes(name, divided)),
            ("narrowed first", "narrowed scale", "Rounds codes with the scale as it is stored, an f16.",
             signed_codes(name, of(half_away), narrowed=True)),
            ("scale", "divides by 128", "Takes the largest magnitude / 128 for the scale.",
            signed_codes(name, of(half_away), top=128)),
        ):  # fmt: skip
            yield bug(kind, name, "encode", title, says, run)

    def sum_of_narrowed(x: np.ndarray) -> np.ndarray:
        layout = FORMATS["Q8_1"].layout
        d, _, qs = layout.unpack(encode("Q8_1", x, None))
        return layout.pack(d=d, s=f32(qs.astype(np.int32).sum(axis=-1)) * d, qs=qs)

    def plain_sum(x: np.ndarray) -> np.ndarray:
        layout = FORMATS["Q8_1"].layout
        d, _, qs = layout.unpack(encode("Q8_1", x, None))
        return layout.pack(d=d, s=f32(qs.astype(np.int32).sum(axis=-1)), qs=qs)

    says = "Multiplies the sum of the codes by the scale as it is stored, an f16."
    yield bug("narrowed first", "Q8_1", "encode", "sum times narrowed scale", says, by_block("Q8_1", sum_of_narrowed))
    says = "Stores the plain sum of the codes, not multiplied by the scale."
    yield bug("activation sums", "Q8_1", "encode", "plain sum", says, by_block("Q8_1", plain_sum))


def q8_k(code: Rounding, signed: bool = True, lowest: int = -128) -> Callable:
    def blocks(x: np.ndarray) -> np.ndarray:
        peak = scale_search.extreme(x, axis=-1)
        peak = peak if signed else -abs(peak)
        some = peak != 0
        inverse = div(np.float32(-127), np.where(some, peak, np.float32(1)))
        d = np.where(some, div(np.float32(1), inverse), np.float32(0))
        codes = np.maximum(exact.as_int8(exact.at_most(127, code(x * inverse[:, None]))), lowest)
        codes = np.where(some[:, None], codes, 0)
        return FORMATS["Q8_K"].layout.pack(d=d, qs=codes, bsums=codes.reshape(-1, 16, 16).sum(axis=-1))

    return by_block("Q8_K", blocks)


def _q8_k_bugs() -> Iterator[Bug]:
    for kind, title, says, run in (
        ("rounding", "half away from zero", "Rounds ties away from zero, not to the even code.", q8_k(half_away)),
        ("rounding", "half up", "Rounds by the floor of x + 1/2.", q8_k(half_up)),
        ("scale", "positive scale", "Takes the largest magnitude / 127 for the scale, so that it is never negative.",
         q8_k(exact.nearest_int, signed=False)),
    ):  # fmt: skip
        yield bug(kind, "Q8_K", "encode", title, says, run)


def bugs() -> Iterator[Bug]:
    yield from _offset_bugs()
    yield from _min_bugs()
    yield from _signed_bugs()
    yield from _q8_k_bugs()
