"""Bugs of encoding: ternary formats, single bits, and floats of 4, 16 and 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import exact
from hifi_ref.exact import div, f32
from hifi_ref.formats import FORMATS, codebooks, tq1_0
from hifi_ref.formats.mxfp4 import floor_log2
from hifi_ref.formats.packing import gather, gather_stream, join_nibbles
from hifi_ref.known_bugs.bug import Bug, bug, encode
from hifi_ref.known_bugs.rounding import Rounding, by_block, half_away_by_adding, half_even, half_up

# TERNARY AND BITS


def _ternary(name: str, rounding: Rounding) -> Callable:
    def blocks(x: np.ndarray) -> np.ndarray:
        d = abs(x).max(axis=-1)
        shares = x * exact.reciprocal_or_zero(d)[:, None]
        codes = np.clip(np.where(abs(shares) < np.inf, rounding(shares), 0 if name != "Q2_0" else -1) + 1, 0, 3)
        layout = FORMATS[name].layout
        if name == "Q2_0":
            return layout.pack(d=d, qs=gather_stream(codes, 2))
        if name == "TQ2_0":
            return layout.pack(d=d, qs=gather(codes.reshape(-1, 2, 4, 32), 2).reshape(-1, 64))
        qs = [tq1_0.fraction(codes[:, :160].reshape(-1, 5, 32)), tq1_0.fraction(codes[:, 160:240].reshape(-1, 5, 16))]
        qh = tq1_0.fraction(codes[:, 240:].reshape(-1, 4, 4))
        return layout.pack(d=d, qs=np.concatenate(qs, axis=-1), qh=qh)

    return by_block(name, blocks)


def _plain_digits(x: np.ndarray) -> np.ndarray:
    """TQ1_0 bytes that hold the number itself, 0 to 242."""
    _, codes = tq1_0.ternary(x)
    numbers = np.array([81, 27, 9, 3, 1])

    def number(digits: np.ndarray) -> np.ndarray:
        return (digits * numbers[: digits.shape[1], None]).sum(axis=1)

    parts = [number(codes[:, :160].reshape(-1, 5, 32)), number(codes[:, 160:240].reshape(-1, 5, 16))]
    d = FORMATS["TQ1_0"].layout.unpack(encode("TQ1_0", x, None))[2]
    qs, qh = np.concatenate(parts, axis=-1), number(codes[:, 240:].reshape(-1, 4, 4))
    return FORMATS["TQ1_0"].layout.pack(d=d, qs=qs, qh=qh)


def _q1_0(scale: Callable[[np.ndarray], np.ndarray], plus: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def blocks(x: np.ndarray) -> np.ndarray:
        return FORMATS["Q1_0"].layout.pack(d=scale(x), qs=gather_stream(exact.i32(plus(x)), 1))

    return by_block("Q1_0", blocks)


def mean_magnitude(x: np.ndarray) -> np.ndarray:
    return div(exact.sum_in_order(abs(x).T), np.float32(128))


def mean_magnitude_pairwise(x: np.ndarray) -> np.ndarray:
    total = abs(x)
    while total.shape[1] > 1:
        total = total[:, 0::2] + total[:, 1::2]
    return div(total[:, 0], np.float32(128))


def _ternary_bugs() -> Iterator[Bug]:
    for name in ("Q2_0", "TQ1_0", "TQ2_0"):
        for title, says, rounding in (
            ("half to even", "Rounds ties to even, so that half of the largest becomes 0.", half_even),
            (
                "half away by adding",
                "Rounds by adding 1/2 and cutting off, which makes 1 of 0.49999997.",
                half_away_by_adding,
            ),
            ("half up", "Rounds by the floor of x + 1/2.", half_up),
        ):
            yield bug("rounding", name, "encode", title, says, _ternary(name, rounding))
    says = "Stores the number that five digits make, not the fraction of 256."
    yield bug("ternary digits", "TQ1_0", "encode", "plain number", says, by_block("TQ1_0", _plain_digits))
    says = "Adds magnitudes in pairs, not first to last."
    run = _q1_0(mean_magnitude_pairwise, lambda x: x >= 0)
    yield bug("order of additions", "Q1_0", "encode", "pairwise mean", says, run)
    says = "Takes -0 for minus."
    run = _q1_0(mean_magnitude, lambda x: ~np.signbit(x))
    yield bug("sign of zero", "Q1_0", "encode", "negative zero as minus", says, run)
    says = "Takes zeros for minus."
    yield bug("sign of zero", "Q1_0", "encode", "zero as minus", says, _q1_0(mean_magnitude, lambda x: x > 0))
    says = "Takes the largest magnitude for the scale, not the mean."
    run = _q1_0(lambda x: abs(x).max(axis=-1), lambda x: x >= 0)
    yield bug("scale", "Q1_0", "encode", "largest magnitude", says, run)


# FLOATS OF FOUR BITS


def _nearest_to_even(x: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Code of the nearest step, ties to the even code."""
    share = abs(x) * exact.reciprocal_or_zero(d)[..., None]
    steps = f32(codebooks.STEPS_FP4[:8])
    middle = (steps[:-1] + steps[1:]) / 2
    code = np.zeros(x.shape, np.uint8)
    for i, m in enumerate(middle):
        code = np.where((share > m) | ((share == m) & (i % 2 == 1)), np.uint8(i + 1), code)
    return np.where((x < 0) & (code != 0), code | np.uint8(8), code)


def _with_negative_zero(x: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The right code, with the sign of x also on zeros."""
    code = codebooks.nearest_step_fp4(x, d)
    return np.where(np.signbit(x), code | np.uint8(8), code)


def mxfp4(
    exponent: Callable[[np.ndarray], np.ndarray] | None = None, codes: Callable = codebooks.nearest_step_fp4
) -> Callable:
    """MXFP4 with another exponent, int32[n] for the largest magnitudes f32[n], or other codes."""

    def blocks(x: np.ndarray) -> np.ndarray:
        e = (exponent(abs(x).max(axis=-1)) if exponent else encode("MXFP4", x, None)[:, 0]).astype(np.uint8)
        half = exact.from_bits(exact.widen_e8m0_half(e))
        return FORMATS["MXFP4"].layout.pack(e=e, qs=join_nibbles(codes(x, half)))

    return by_block("MXFP4", blocks)


def _stored_exponent(largest: np.ndarray) -> np.ndarray:
    """floor(log2) - 2 + 127 with an exact logarithm."""
    return np.where(largest > 0, np.frexp(largest)[1] - 3 + 127, 0)


def _exponent_rounded_up(largest: np.ndarray) -> np.ndarray:
    """The least power that clips nothing: ceil(log2(largest / 6))."""
    mantissa, e = np.frexp(largest / np.float32(6))
    return np.where(largest > 0, np.clip(e - (mantissa == 0.5) + 127, 0, 254), 0)


def _logarithm(rounding: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The exponent by a logarithm that is rounded so."""

    def exponent(largest: np.ndarray) -> np.ndarray:
        some = largest > 0
        x = np.where(some, largest, np.float32(1))
        floor, logarithm = floor_log2(x), np.log2(x, dtype=np.float64)
        # What binary32 rounds up to a whole number is one
        whole = (np.ldexp(1.0, floor) == x) | (floor > np.floor(logarithm))
        rest = np.where(whole, 0, np.clip(logarithm - floor, 2.0**-20, 1 - 2.0**-20))
        return np.where(some, rounding(floor + rest).astype(np.int64) - 2 + 127, 0)

    return exponent


def nvfp4(scale: Callable[[np.ndarray], np.ndarray], codes: Callable = codebooks.nearest_step_fp4) -> Callable:
    """NVFP4 with another conversion of scales, f32[n, 4] -> u8[n, 4], or other codes."""

    def blocks(x: np.ndarray) -> np.ndarray:
        parts = x.reshape(-1, 4, 16)
        d = scale(div(abs(parts).max(axis=-1), np.float32(6))).astype(np.uint8)
        qs = join_nibbles(codes(parts, exact.widen_ue4m3_half(d))).reshape(-1, 32)
        return FORMATS["NVFP4"].layout.pack(d=d, qs=qs)

    return by_block("NVFP4", blocks)


def ue4m3_half_even(x: np.ndarray) -> np.ndarray:
    """The nearest of the 127 scales, ties to the even byte."""
    table = 2 * exact.widen_ue4m3_half(np.arange(127, dtype=np.uint8)).astype(np.float64)
    upper = np.clip(np.searchsorted(table, x), 1, 126)
    low, high = table[upper - 1], table[upper]
    up = (x - low > high - x) | ((x - low == high - x) & (upper % 2 == 0))
    return np.where(x >= 448, 126, np.where(up, upper, upper - 1))


def ue4m3_half_up(x: np.ndarray) -> np.ndarray:
    """The nearest of the 127 scales, also of those above 240; ties up."""
    table = 2 * exact.widen_ue4m3_half(np.arange(127, dtype=np.uint8)).astype(np.float64)
    middle = (table[:-1] + table[1:]) / 2
    return np.searchsorted(middle, x.astype(np.float64), side="right")


def ue4m3_without_subnormals(x: np.ndarray) -> np.ndarray:
    right = encode("NVFP4", np.repeat(x * np.float32(6), 16, axis=-1).reshape(-1, 64), None)[:, :4]
    return np.where(right < 8, 0, right)


def _float_bugs() -> Iterator[Bug]:
    for kind, title, says, run in (
        ("E8M0 special", "exact logarithm",
        "Takes the exponent's bits for the logarithm, which C's log2f rounds up just "
         "below a power of two.", mxfp4(_stored_exponent)),
        ("E8M0 special", "no exponent below 0",
        "Cuts negative exponents to 0, though the release lets the byte wrap around.",
         mxfp4(lambda largest: np.clip(_stored_exponent(largest), 0, 254))),
        ("rounding", "logarithm towards zero", "Cuts the logarithm off towards 0 instead of rounding it down, which "
         "differs below 1.", mxfp4(_logarithm(np.trunc))),
        ("rounding", "logarithm to nearest", "Rounds the logarithm to the nearest whole number, not down.",
         mxfp4(_logarithm(np.rint))),
        ("rounding", "logarithm up", "Rounds the logarithm up, not down.", mxfp4(_logarithm(np.ceil))),
        ("scale", "rounded up", "Takes the least power of two that clips no weight.", mxfp4(_exponent_rounded_up)),
        ("rounding", "ties to even", "Rounds ties to the even code, not to the smaller step.",
        mxfp4(codes=_nearest_to_even)),
        ("sign of zero", "negative zero", "Stores -0, code 8, for negative weights that round to zero.",
         mxfp4(codes=_with_negative_zero)),
    ):  # fmt: skip
        yield bug(kind, "MXFP4", "encode", title, says, run)
    for kind, title, says, run in (
        ("rounding", "scales half to even", "Rounds ties of the scale to even, not up.", nvfp4(ue4m3_half_even)),
        ("quirk of the release", "scales above 240",
        "Uses the scales 256 to 416, which the release's encoder does not know.",
         nvfp4(ue4m3_half_up)),
        ("UE4M3 special", "no subnormal scales", "Writes zeros for subnormal scales.", nvfp4(ue4m3_without_subnormals)),
        ("rounding", "ties to even", "Rounds ties to the even code, not to the smaller step.",
         nvfp4(lambda x: encode("NVFP4", np.repeat(x * np.float32(6), 16, axis=-1).reshape(-1, 64), None)[:, :4],
         _nearest_to_even)),
    ):  # fmt: skip
        yield bug(kind, "NVFP4", "encode", title, says, run)


# WHOLE FLOATS


def _f16_towards_zero(x: np.ndarray) -> np.ndarray:
    nearest = exact.narrow_f16(x)
    too_far = abs(exact.widen_f16(nearest)) > abs(x)
    return np.where(too_far, nearest - np.uint16(1), nearest)


def _bf16_truncated(x: np.ndarray) -> np.ndarray:
    return exact.bits(x) >> 16


def _bf16_half_up(x: np.ndarray) -> np.ndarray:
    return (exact.bits(x) + np.uint32(0x8000)) >> 16


def _bf16_flushed(x: np.ndarray) -> np.ndarray:
    return np.where(abs(x) < exact.SMALLEST_NORMAL, exact.bits(x) >> 31 << 15, exact.narrow_bf16(x))


def _words(name: str, narrow: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def run(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(narrow(x).astype("<u2")).view(np.uint8).reshape(len(x), -1)

    return run


def _whole_float_bugs() -> Iterator[Bug]:
    says = "Rounds towards zero."
    yield bug("f16 conversion", "F16", "encode", "towards zero", says, _words("F16", _f16_towards_zero))
    for kind, title, says, narrow in (
        ("bf16 conversion", "cut off", "Cuts the low bits off instead of rounding.", _bf16_truncated),
        ("bf16 conversion", "half up", "Rounds ties away from zero, not to even.", _bf16_half_up),
        ("bf16 conversion", "subnormal weights lost", "Makes subnormal weights zero.", _bf16_flushed),
    ):
        yield bug(kind, "BF16", "encode", title, says, _words("BF16", narrow))

    def flushed(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return encode("F32", np.where(abs(x) < exact.SMALLEST_NORMAL, np.copysign(np.float32(0), x), x), None)

    yield bug("flush to zero", "F32", "encode", "subnormal weights lost", "Makes subnormal weights zero.", flushed)


def bugs() -> Iterator[Bug]:
    yield from _ternary_bugs()
    yield from _float_bugs()
    yield from _whole_float_bugs()
