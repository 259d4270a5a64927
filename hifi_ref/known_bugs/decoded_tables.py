"""Bugs of decoding: 4-bit floats, grids and ternary digits that stand for other numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hifi_ref import exact
from hifi_ref.formats import FORMATS, codebooks
from hifi_ref.formats.packing import split_nibbles
from hifi_ref.known_bugs.bug import Bug, bug, decode, in_field
from hifi_ref.known_bugs.decoded_values import coefficients

# FLOATS OF FOUR BITS


def mxfp4(scale: Callable[[np.ndarray], np.ndarray], steps: np.ndarray = codebooks.STEPS_FP4) -> Callable:
    """MXFP4 with another scale: uint32[n] exponents -> f32[n], half the power of two."""

    def run(blocks: np.ndarray) -> np.ndarray:
        e, qs = FORMATS["MXFP4"].layout.unpack(blocks)
        with np.errstate(all="ignore"):
            halves = scale(e.astype(np.uint32))[:, None, None]
            return (halves * exact.f32(steps[split_nibbles(qs)])).reshape(len(blocks), 32)

    return run


def right_e8m0(e: np.ndarray) -> np.ndarray:
    return exact.from_bits(exact.widen_e8m0_half(e))


def nvfp4(scale: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """NVFP4 with another scale: uint8[n, 4] -> f32[n, 4], halved."""

    def run(blocks: np.ndarray) -> np.ndarray:
        d, _ = FORMATS["NVFP4"].layout.unpack(blocks)
        steps = decode("NVFP4", in_field("NVFP4", "d", lambda v: v * 0 + 0x40)(blocks))
        with np.errstate(all="ignore"):
            return np.repeat(scale(d), 16, axis=1) * steps

    return run


def right_ue4m3(d: np.ndarray) -> np.ndarray:
    return exact.widen_ue4m3_half(d)


def _signed_ue4m3(d: np.ndarray) -> np.ndarray:
    return np.where(d >> 7 == 1, -right_ue4m3(d & 0x7F), right_ue4m3(d))


def _floats() -> Iterator[Bug]:
    nan, infinity = np.float32(np.nan), np.float32(np.inf)
    for title, says, scale in (
        ("twice the scale", "Takes the steps for their doubles and the scale for all of it: twice too large.",
         lambda e: np.float32(2) * right_e8m0(e)),
        ("no power below 2^-126", "Shifts the exponent into place, which makes 0 of the two smallest powers.",
         lambda e: exact.from_bits(np.where(e < 2, np.uint32(0), (e - np.uint32(1)) << np.uint32(23)))),
        ("NaN for 255", "Takes the byte 255 for NaN.", lambda e: np.where(e == 255, nan, right_e8m0(e))),
        ("infinity for 255", "Takes the byte 255 for infinity.", lambda e: np.where(e == 255, infinity, right_e8m0(e))),
        ("zero for 0", "Takes the byte 0 for a scale of zero.",
        lambda e: np.where(e == 0, 0 * right_e8m0(e), right_e8m0(e))),
        ("signed exponent", "Takes the byte for a signed number, and 255 for -1.",
         lambda e: np.where(e < 128, right_e8m0(e), np.float32(0))),
    ):  # fmt: skip
        yield bug("E8M0 special", "MXFP4", "decode", title, says, mxfp4(scale))
    negative_zero = exact.f32(codebooks.STEPS_FP4) * np.float32(1)
    negative_zero[8] = -0.0
    says = "Gives -0 for code 8."
    yield bug("sign of zero", "MXFP4", "decode", "negative zero", says, mxfp4(right_e8m0, negative_zero))
    for title, says, scale in (
        ("480 for 0x7F", "Takes the byte 0x7F for 480.",
         lambda d: np.where(d == 0x7F, np.float32(240), right_ue4m3(d))),
        ("NaN for 0x7F", "Takes the byte 0x7F for NaN.", lambda d: np.where(d & 0x7F == 0x7F, nan, right_ue4m3(d))),
        ("subnormal scales lost", "Takes subnormal scales for zero.",
         lambda d: np.where(d & 0x78 == 0, np.float32(0), right_ue4m3(d))),
        ("subnormal scales as normal", "Gives subnormal scales a leading one.",
         lambda d: np.where((d & 0x78 == 0) & (d & 0x7F != 0), (np.float32(8) + (d & 7)) * np.float32(2.0**-11),
         right_ue4m3(d))),
        ("top bit as sign", "Takes the top bit of a scale for its sign.", _signed_ue4m3),
        ("twice the scale", "Takes the steps for their doubles and the scale for all of it: twice too large.",
         lambda d: np.float32(2) * right_ue4m3(d)),
    ):  # fmt: skip
        yield bug("UE4M3 special", "NVFP4", "decode", title, says, nvfp4(scale))


# GRIDS


def _signs_completed(name: str, odd: bool) -> Callable[[np.ndarray], np.ndarray]:
    """The eighth sign of each group plus, or such that the number of minus signs is odd."""

    def run(blocks: np.ndarray) -> np.ndarray:
        values = decode(name, blocks).reshape(-1, 8).copy()
        minus = coefficients(name, blocks, "d").reshape(-1, 8)[:, 7] < 0
        wrong = np.ones(len(minus), bool) if odd else minus
        values[:, 7] = np.where(wrong, -values[:, 7], values[:, 7])
        return values.reshape(len(blocks), -1)

    return run


def _without_shift(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The mean of both shifts is none."""
    mask = np.tile(np.array([0, 0x80] if name == "IQ1_S" else [0x88, 0x88], np.uint8), 8)

    def run(blocks: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            up_and_down = decode(name, blocks) + decode(name, in_field(name, "qh", lambda v: v ^ mask)(blocks))
            return up_and_down * np.float32(0.5)

    return run


def _magnitude_of_15_and_a_half(blocks: np.ndarray) -> np.ndarray:
    """IQ3_S with 62 quarters for 60."""
    grid = decode(
        "IQ3_S",
        in_field("IQ3_S", "scales", lambda v: v * 0)(in_field("IQ3_S", "d", lambda v: v * 0 + [0, 0x3C])(blocks)),
    )
    values = decode("IQ3_S", blocks)
    with np.errstate(all="ignore"):
        return np.where(abs(grid) == 15, values / np.float32(15) * np.float32(15.5), values)


def _half_of_odd_scale(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Scale s for s + 1/2: from the value of scale s, that of scale 0 is taken away, which stands for the half."""
    fields = {"IQ2_XS": "scales", "IQ2_S": "scales", "IQ3_S": "scales"}

    def run(blocks: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return decode(name, blocks) - decode(name, in_field(name, fields[name], lambda v: v * 0)(blocks))

    return run


def _grids() -> Iterator[Bug]:
    for name in ("IQ2_XXS", "IQ2_XS", "IQ3_XXS"):
        says = "Takes the seven bits of a sign code for all signs, so that the eighth is always plus."
        yield bug("sign codes", name, "decode", "no eighth sign", says, _signs_completed(name, odd=False))
        says = "Completes the signs to an odd number of minus signs, not an even one."
        yield bug("sign codes", name, "decode", "odd signs", says, _signs_completed(name, odd=True))
    for name in ("IQ1_S", "IQ1_M"):
        says = "Leaves out the eighth that is added to the rows of the grid."
        yield bug("shift of the grid", name, "decode", "no shift", says, _without_shift(name))
    says = "Has 15.5 for 15 in the grid."
    yield bug("code table", "IQ3_S", "decode", "15.5 for 15", says, _magnitude_of_15_and_a_half)
    for name in ("IQ2_XS", "IQ2_S", "IQ3_S"):
        says = "Takes the 4-bit scale s for s, not for s + 1/2."
        yield bug("scale", name, "decode", "scale without its half", says, _half_of_odd_scale(name))
    steps = codebooks.STEPS_IQ4.copy()
    steps[8] = 0
    says = "Has 0 for 1 among the sixteen steps."
    yield bug("code table", "IQ4_NL", "decode", "step 8 is 0", says, lambda blocks: _iq4_nl(blocks, steps))


def _iq4_nl(blocks: np.ndarray, steps: np.ndarray) -> np.ndarray:
    d, qs = FORMATS["IQ4_NL"].layout.unpack(blocks)
    with np.errstate(all="ignore"):
        return (d[:, None, None] * exact.f32(steps[split_nibbles(qs)])).reshape(len(blocks), 32)


# TERNARY


def _digits_by_division(packed: np.ndarray, count: int, first_lowest: bool) -> np.ndarray:
    powers = 3 ** np.arange(count)
    digits = packed[..., None, :].astype(np.int32) // (powers if first_lowest else powers[::-1])[:, None] % 3
    return digits.reshape(*packed.shape[:-1], -1)


def _tq1_0(first_lowest: bool) -> Callable[[np.ndarray], np.ndarray]:
    def run(blocks: np.ndarray) -> np.ndarray:
        qs, qh, d = FORMATS["TQ1_0"].layout.unpack(blocks)
        parts = ((qs[:, :32], 5), (qs[:, 32:], 5), (qh, 4))
        codes = np.concatenate([_digits_by_division(part, n, first_lowest) for part, n in parts], axis=-1)
        with np.errstate(all="ignore"):
            return exact.f32(codes - 1) * d[:, None]

    return run


def _carriers_first(blocks: np.ndarray) -> np.ndarray:
    """TQ1_0: the digits of a byte side by side."""
    values = decode("TQ1_0", blocks)
    parts = [
        values[:, :160].reshape(-1, 5, 32),
        values[:, 160:240].reshape(-1, 5, 16),
        values[:, 240:].reshape(-1, 4, 4),
    ]
    return np.concatenate([part.transpose(0, 2, 1).reshape(len(blocks), -1) for part in parts], axis=1)


def _ternary() -> Iterator[Bug]:
    kind = "ternary digits"
    says = "Takes a byte for a number of five digits, the first lowest."
    yield bug(kind, "TQ1_0", "decode", "digits by division", says, _tq1_0(first_lowest=True))
    says = "Takes a byte for a number of five digits, the first highest."
    yield bug(kind, "TQ1_0", "decode", "digits from the top by division", says, _tq1_0(first_lowest=False))
    says = "Takes the digits of a byte for neighbouring weights."
    yield bug(kind, "TQ1_0", "decode", "digits side by side", says, _carriers_first)


def bugs() -> Iterator[Bug]:
    yield from _floats()
    yield from _grids()
    yield from _ternary()
