"""Weights made to go wrong: ties of every rounding, scales at the edges of binary16, quirks of single formats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hifi_ref.formats import Format

F32 = np.float32
# The weight that sets the scale to 1 without importance: codes are then the weights, but for an offset.
PEAK = {
    "Q4_0": -8, "Q5_0": -16, "Q8_0": 127, "Q8_1": 127, "Q8_K": -127, "Q2_0": 1, "TQ1_0": 1, "TQ2_0": 1, "MXFP4": 6,
    "NVFP4": 6,
}  # fmt: skip
# The middles of the steps of a 4-bit float.
FP4_TIES = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
TOP = {"Q4_1": 15, "Q5_1": 31}
# The largest magnitude, or range, below which C's arithmetic without importance leaves what the language defines.
UNDEFINED_BELOW = {
    "Q4_0": 8, "Q5_0": 16, "Q8_0": 127, "Q8_1": 127, "Q8_K": 127, "Q4_1": 15, "Q5_1": 31, "Q2_0": 1.01, "TQ1_0": 1.01,
    "TQ2_0": 1.01, "MXFP4": 8,
}  # fmt: skip


def undefined_in_c(f: Format, x: np.ndarray) -> np.ndarray:
    """bool[rows] of f32[rows, n]: some block's scale has an infinite inverse, or its range overflows."""
    blocks = x.astype(np.float64).reshape(len(x), -1, f.block_size)
    sizes = np.ptp(blocks, axis=-1) if f.name in TOP else abs(blocks).max(axis=-1)
    least = UNDEFINED_BELOW.get(f.name, 0) * 2.0**-128
    overflow = sizes > 2.0**128 if f.name in TOP else np.zeros(sizes.shape, bool)
    return (((sizes > 0) & (sizes < least)) | overflow).any(axis=-1)


def around(ties: np.ndarray) -> np.ndarray:
    """Ties with their neighbours below and above."""
    ties = ties.astype(F32)
    return np.stack([ties, np.nextafter(ties, F32(0)), np.nextafter(ties, ties * F32(2))], axis=1).reshape(-1)


def filled(values: np.ndarray, n: int, first: tuple[float, ...] = ()) -> Iterator[np.ndarray]:
    """Rows of n weights that begin with some, followed by the values in turn, as many rows as it takes."""
    room = n - len(first)
    for start in range(0, len(values), room):
        row = np.resize(values[start:], room) if start == 0 else np.resize(values[start : start + room], room)
        yield np.concatenate([np.array(first, F32), row]).astype(F32)


def ties(f: Format, n: int) -> Iterator[np.ndarray]:
    """Rows of ties and their neighbours for codes of a scale of 1."""
    if f.name in ("MXFP4", "NVFP4"):
        for row in filled(around(np.array([*FP4_TIES, *(-t for t in FP4_TIES)])), n):
            yield np.where(np.arange(n) % 16 == 0, F32(6), row)
    elif f.name in PEAK:
        peak = PEAK[f.name]
        largest = min(abs(peak), 9) if f.block_size == 32 else min(abs(peak), 40)
        halves = np.arange(largest) + 0.5
        for row in filled(around(np.stack([halves, -halves], axis=1).reshape(-1)), n - n // f.block_size):
            blocks = row[: n - n // f.block_size].reshape(-1, f.block_size - 1)
            yield np.concatenate([np.full((len(blocks), 1), peak, F32), blocks], axis=1).reshape(-1)
    elif f.name in TOP:
        top = TOP[f.name]
        values = around(np.arange(top) + 0.5)
        yield from filled(values[values < top], n, first=(0, top))
    elif f.name in ("Q4_K", "Q5_K"):
        yield super_ties(15 if f.name == "Q4_K" else 31)
    elif f.name == "Q6_K":
        yield signed_super_ties()


def super_ties(top: int) -> np.ndarray:
    """Q4_K and Q5_K: the first sub-block sets the scale and the min, each of the others holds a tie of codes 0 and 1.

    63/64 times a code is met exactly by a scale of 1/64 and the sub-block scale 63, and likewise the mins by quarters.
    With most codes at the ends, one tie moves the fit so little that scale and min are rounded to the same numbers.
    """
    codes = np.tile(np.where(np.arange(32) % 2, top, 0), (8, 1)).astype(np.float64)
    codes[0] = np.arange(32) % (top + 1)
    codes[1:, ::10] = np.arange(0, top + 1, top // 3)[:4]
    for s in range(1, 8):
        codes[s, 3 * s + 1] = 0.5
    mins = np.array([63, 12, 20, 9, 33, 40, 25, 51]) / 4
    return (codes * (63 / 64) - mins[:, None]).reshape(-1).astype(F32)


def signed_super_ties() -> np.ndarray:
    """Q6_K: the same, with codes from -32 to 31, a scale of -1/128, and the sub-block scale -128."""
    codes = np.tile(np.linspace(-32, 31, 16).round(), (16, 1))
    for s in range(1, 16):
        codes[s, 7] = 2 * (s % 5) + 0.5 if s % 2 else -(2 * (s % 5) + 0.5)
    return codes.reshape(-1).astype(F32)


def fused_ties(f: Format, rng: np.random.Generator, n: int) -> np.ndarray | None:
    """Weights whose code differs when a product and a sum round once; None where there is no such sum.

    With a min, only the middle between codes 0 and 1 can tell, and not for every scale, so several ranges are tried.
    """
    half = {"Q4_0": 8, "Q5_0": 16}.get(f.name)
    if half is None and f.name not in TOP:
        return None
    x = np.zeros(0, F32)
    while not x.size:
        peak = F32(-rng.uniform(1, 8) if half else rng.uniform(1, 8))
        d = peak / F32(-half if half else TOP[f.name])
        shift = F32(half + 0.5) if half else F32(0.5)
        codes = rng.integers(0, 2 * half if half else 2, 1 << 12)
        middle = ((codes + 0.5 - (half or 0)) * np.float64(d)).astype(F32)
        x = (middle.view(np.int32) + rng.integers(-3, 4, len(codes), dtype=np.int32)).view(F32)
        inverse = F32(1) / d
        twice = (x * inverse + shift).astype(np.int32)
        once = (x.astype(np.float64) * inverse + shift).astype(F32).astype(np.int32)
        x = np.unique(x[(twice != once) & (abs(x) < abs(peak))])
    first = (peak,) if half else (0, peak)
    return np.concatenate([np.array(first, F32), np.resize(x, n - len(first))]).astype(F32)


def scale_ties(f: Format) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """NVFP4: largest magnitudes that make the scale a tie, a subnormal, or one above 240."""
    if f.name != "NVFP4":
        return
    for group, flags, scales in (
        ("ties of the scale", ["Tie"], (1 + 1 / 16, 1 + 3 / 16, 2 + 10 / 16, 4 - 1 / 8)),
        ("ties of the scale", ["Tie"], (0.5 / 512, 1.5 / 512, 4.5 / 512, 7.5 / 512)),
        ("subnormal scales", ["SubnormalScale"], (1 / 512, 3 / 512, 6.9 / 512, 0.9 / 64)),
        ("scales above 240", ["LargestScales"], (241, 247.9, 256, 300)),
        ("scales above 240", ["LargestScales"], (352, 400, 448, 1000)),
    ):
        x = np.tile(np.linspace(-0.95, 1, 16), (4, 1)) * 6 * np.array(scales)[:, None]
        x[:, -1] = 6 * np.array(scales)
        yield group, flags, x.reshape(-1).astype(F32)


def exponents(f: Format, rng: np.random.Generator) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """MXFP4: largest magnitudes just below powers of two, and so small that the exponent is negative."""
    if f.name != "MXFP4":
        return
    for power in (2, 8, 2.0**20, 2.0**-7, 2.0**-40):
        x = (rng.uniform(-0.9, 0.9, 32) * power).astype(F32)
        x[3] = np.nextafter(F32(power), F32(0))
        yield "just below a power of two", ["RoundedLogarithm"], x
    for power in (2.0**-125, 2.0**-126, 2.0**-140):
        yield "exponent below zero", ["ExponentWraps", "Subnormal"], (rng.uniform(0.6, 0.9, 32) * power).astype(F32)


def mean_ties(f: Format) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Q1_0: a mean magnitude whose rounding depends on whether small magnitudes are lost one by one."""
    if f.name != "Q1_0":
        return
    x = np.full(128, 2.0**-18, F32)
    x[0] = 128 * (1 + 2.0**-11)
    yield "order of additions", ["OrderOfAdditions"], x
    yield "order of additions", ["OrderOfAdditions"], -x[::-1].copy()


def empty_sub_blocks(f: Format, rng: np.random.Generator) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Super-blocks some of whose sub-blocks hold nothing but zeros."""
    if f.block_size != 256:
        return
    flags = ["EmptySubBlock"] if f.name == "IQ3_S" else ["MixedScales"]
    for empty in ((2,), (0, 1, 5)):
        x = rng.standard_normal((8, 32))
        x[list(empty)] = 0
        yield "empty sub-blocks", flags, x.reshape(-1).astype(F32)


def whole_floats(f: Format) -> np.ndarray | None:
    """F32, F16, BF16: ties of the conversions, the ends of the range, subnormals."""
    if f.block_size != 1:
        return None
    f16 = [1 + 2.0**-11, 1 + 3 * 2.0**-11, 2049, 65504, 65519.996, 65520, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 2.0**-14]
    bf16 = [1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-23, 3.3961776e38, 3.4028235e38]
    tiny = [2.0**-126, 2.0**-127, 2.0**-133, 2.0**-134, 3 * 2.0**-134, 2.0**-149, 1.1754942e-38]
    x = np.array([0, 1, 3.1415927, *f16, *bf16, *tiny], F32)
    x = np.concatenate([x, np.nextafter(x, F32(0)), np.nextafter(x, F32(1e38))])
    return np.concatenate([x, -x])
