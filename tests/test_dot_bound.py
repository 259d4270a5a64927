"""The bound on a dot product against fractions, every kernel of the release that this processor runs, and wrong codes.

The last test warns which variants of the release were judged here, and which this processor cannot run.
"""

from __future__ import annotations

import ctypes
import functools
import re
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.dot_bound import dot_fractions
from hifi_ref.dot_bound.codes import codes_and_offset
from hifi_ref.formats import FORMATS, LLAMA_CPP, Format
from reference import fetch, release

DOTS = [f.name for f in LLAMA_CPP.values() if f.dot is not None]
FLOATS = ("F32", "F16", "BF16")
CODED = [name for name in DOTS if name not in FLOATS]
each_dot = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in DOTS])
each_coded = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in CODED])
Rng = np.random.Generator


# DATA


@functools.cache
def pool(name: str, family: str) -> np.ndarray:
    """uint8[blocks, type_size]: weights of a family, encoded by the release, or blocks of any codes."""
    f = FORMATS[name]
    if family == "any codes" and name in CODED:
        return any_codes(f, np.random.default_rng(1), 256)
    count = 16 if name.startswith(("IQ1", "IQ2", "IQ3")) else 128
    family = "gauss" if family == "any codes" else family
    x = FAMILIES[family](np.random.default_rng(1), (count, max(f.block_size, 32))).astype(np.float32)
    qw = np.ones(x.shape[1], np.float32) if f.requires_weights else None
    return release.encode(name, x, qw).reshape(-1, f.type_size)


def any_codes(f: Format, rng: Rng, blocks: int, fill: int | None = None) -> np.ndarray:
    """Random bytes, or one, with scales of about 1; but no code of -128, which no encoder writes for these formats."""
    if fill is None:
        raw = rng.integers(0, 256, (blocks, f.type_size), dtype=np.uint8)
    else:
        raw = np.full((blocks, f.type_size), fill, np.uint8)
    for field in f.layout.fields:
        part = raw[:, f.layout.span(field.name)]
        if field.dtype == "f16":
            scales = rng.uniform(0.5, 2, (blocks, 1)) * rng.choice([-1, 1], (blocks, 1))
            part[...] = scales.astype("<f2").view(np.uint8)
        elif field.dtype == "i8" and field.name == "qs":
            part[part == 0x80] = 0x81
        elif f.name == "MXFP4" and field.name == "e":
            part[...] = rng.integers(110, 140, (blocks, 1))
        elif f.name == "IQ1_M" and field.name == "scales":
            # The top nibble of the scale: below 2, and a number.
            part[:, 7] = part[:, 7] & 0x0F | 0x30
    return raw


def rows_of(name: str, rng: Rng, rows: int, n: int, family: str = "gauss") -> np.ndarray:
    """uint8[rows, row_bytes], drawn from the pool."""
    f = FORMATS[name]
    blocks = pool(name, family)
    return blocks[rng.integers(0, len(blocks), (rows, n // f.block_size))].reshape(
        rows, n // f.block_size * f.type_size
    )


def activations(name: str, rng: Rng, n: int, family: str = "gauss", scale: float = 1) -> np.ndarray:
    """uint8[row_bytes of the partner], encoded by the release."""
    x = FAMILIES[family](rng, (1, n)) * scale
    return release.encode(FORMATS[name].dot_with, x.astype(np.float32))[0]


def cancelling(name: str, rng: Rng, rows: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose second half repeats the first, and activations whose second half is minus the first."""
    partner = FORMATS[FORMATS[name].dot_with]
    half = rows_of(name, rng, rows, n // 2)
    a = activations(name, rng, n // 2).reshape(-1, partner.type_size)
    minus = a.copy()
    # The sign bit of each scale, of Q8_1's sum too; of each float in the float formats.
    for field in partner.layout.fields:
        if field.name in ("d", "s", "w"):
            minus[:, partner.layout.offset(field.name) + field.size - 1] ^= 0x80
    return np.concatenate([half, half], axis=1), np.concatenate([a, minus]).reshape(-1)


def mixed_scales(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-4, 3, (shape[0], 1))


FAMILIES = {
    "gauss": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: np.clip(rng.standard_cauchy(shape), -1e4, 1e4),
    "positive": lambda rng, shape: abs(rng.standard_normal(shape)),
    "spike": lambda rng, shape: np.where(rng.random(shape) < 1 / 64, 100, rng.standard_normal(shape) * 0.01),
    "mixed scales": mixed_scales,
}


def problems(name: str, seed: int, rows: int):
    """(w, a) of many kinds and lengths; an odd number of blocks among them, and 16384."""
    rng = np.random.default_rng(seed)
    for n in (256, 768, 2048):
        yield rows_of(name, rng, rows, n, "any codes"), activations(name, rng, n)
        for family in FAMILIES:
            yield rows_of(name, rng, rows, n, family), activations(name, rng, n, family)
        yield cancelling(name, rng, rows, 2 * n)
    for scale in (1e-30, 1e-36, 1e-39, 1e-7, 1e3):
        yield rows_of(name, rng, rows, 512), activations(name, rng, 512, scale=scale)
    yield rows_of(name, rng, rows // 4, 16384), activations(name, rng, 16384)


# VARIANTS


@functools.cache
def variants() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The release's builds for x86-64: those that this processor runs, and those that it does not, as they say."""
    release.base()
    runs, cannot = [], []
    for path in sorted(fetch.library_dir().glob("libggml-cpu-*.so")):
        name = re.fullmatch(r"libggml-cpu-(\w+)\.so", Path(path).name)[1]
        (runs if ctypes.CDLL(str(path)).ggml_backend_score() > 0 else cannot).append(name)
    return tuple(runs), tuple(cannot)


def height(name: str, n: int) -> int:
    """The additions between a term and the result in the release's x86-64 kernels: the loop, and a final tree."""
    per = {"NVFP4": 16, "IQ4_XS": 32}.get(name, 256 if FORMATS[name].dot_with == "Q8_K" else 32)
    return n // per + 16


# THE TRUE VALUE


def real_weights(name: str, blocks: np.ndarray) -> tuple[list[Fraction], list[Fraction] | None]:
    """The weights of one row as fractions, in order: the share of the codes, and of the mins where a format has them.

    From the formula of the format's docstring, with NumPy's decoder for d = 1 (and the mins 0 or 1), where it is exact.
    """
    f = FORMATS[name]
    blocks = blocks.reshape(-1, f.type_size)
    fields = f.layout.by_name(blocks)
    if name in FLOATS or name in ("MXFP4", "NVFP4", "IQ1_M"):
        return [Fraction(float(x)) for x in hr.decode(name, blocks).reshape(-1)], None
    least = next((key for key in ("dmin", "m") if key in fields), None)

    def unit(d: float, minimum: float) -> np.ndarray:
        part = blocks.copy()
        for key, value in (("d", d), (least, minimum)):
            if key is not None:
                part[:, f.layout.span(key)] = np.array([value], np.float16).view(np.uint8)
        return hr.decode(name, part).astype(np.float64)

    def scaled(values: np.ndarray, by: np.ndarray) -> list[Fraction]:
        return [Fraction(float(s)) * Fraction(float(v)) for s, row in zip(by, values, strict=True) for v in row]

    codes = scaled(unit(1, 0), fields["d"])
    return codes, None if least is None else scaled(unit(0, 1), fields[least])


def real_dot(name: str, w: np.ndarray, a: np.ndarray) -> Fraction:
    """One row's dot product, element by element."""
    partner = FORMATS[FORMATS[name].dot_with]
    codes, mins = real_weights(name, w)
    blocks = a.reshape(-1, partner.type_size)
    if partner.block_size == 1:
        real, _ = real_weights(partner.name, a)
        return sum((x * y for x, y in zip(codes, real, strict=True)), Fraction(0))
    fields = partner.layout.by_name(blocks)
    d = np.repeat(fields["d"].astype(np.float64), partner.block_size)
    real = [Fraction(float(s)) * int(q) for s, q in zip(d, fields["qs"].reshape(-1), strict=True)]
    total = sum((x * y for x, y in zip(codes, real, strict=True)), Fraction(0))
    if mins is None:
        return total
    if partner.name == "Q8_1":
        return total + sum((m * Fraction(float(s)) for m, s in zip(mins[::32], fields["s"], strict=True)), Fraction(0))
    return total + sum((m * y for m, y in zip(mins, real, strict=True)), Fraction(0))


def nearest_f32(x: Fraction) -> np.float32:
    """Correctly rounded, by looking at both neighbours of a first guess."""
    guess = np.float32(float(x))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(near, key=lambda y: (abs(Fraction(float(y)) - x), int(y.view(np.uint32)) & 1))


@each_dot
def test_the_true_value_is_that_of_fractions(name: str) -> None:
    rng = np.random.default_rng(2)
    for family in ("gauss", "heavy tails", "mixed scales"):
        w, a = rows_of(name, rng, 3, 512, family), activations(name, rng, 512, family)
        found, fractions = hr.dot_exact(name, w, a), dot_fractions(name, w, a)
        for row in range(len(w)):
            true = real_dot(name, w[row], a)
            assert fractions[row] == true
            assert found.value[row] == nearest_f32(true)
            high = Fraction(float(found.high[row]))
            assert found.high[row] == float(true) and found.low[row] == float(true - high)


@each_coded
def test_codes_and_offset_are_the_decoder_taken_apart(name: str) -> None:
    f = FORMATS[name]
    w = rows_of(name, np.random.default_rng(3), 40, 1024, "mixed scales")
    codes, offset = codes_and_offset(f, w, 0)
    whole = hr.decode(name, w)
    total = codes if offset is None else codes + offset
    np.testing.assert_array_equal(total.astype(np.float32), whole)
    # A scale of one bit makes every step of the decoder exact; with any other it must give that many times as much.
    if "d" in f.layout.names and name != "NVFP4":
        d = f.layout.by_name(w.reshape(-1, f.type_size))["d"]
        plain = w.reshape(-1, f.type_size).copy()
        plain[:, f.layout.span("d")] = np.array([1], np.float16).view(np.uint8)
        units, _ = codes_and_offset(f, plain.reshape(w.shape), 0)
        expected = units.reshape(len(d), -1) * d.astype(np.float64)[:, None]
        np.testing.assert_array_equal(codes.reshape(len(d), -1), expected)


def test_ties_of_float32_are_decided_by_what_lies_below_binary64() -> None:
    one, tie, far = 1.0, 2.0**-24, 2.0**-100
    w = np.array([[one, tie, far], [one, tie, -far], [one, tie, 0], [one, 3 * tie, 0]], np.float32)
    found = hr.dot_exact("F32", w.view(np.uint8), np.ones(3, np.float32).view(np.uint8))
    up = np.float32(1 + 2.0**-23)
    np.testing.assert_array_equal(found.value, np.array([up, 1, 1, 1 + 2.0**-22], np.float32))


# THE BOUND


@each_dot
def test_every_kernel_of_the_release_lies_within_the_bound(name: str) -> None:
    for w, a in problems(name, seed=4, rows=300):
        n = w.shape[1] // FORMATS[name].type_size * FORMATS[name].block_size
        any_order, known = hr.dot_exact(name, w, a), hr.dot_exact(name, w, a, additions=height(name, n))
        assert np.isfinite(any_order.bound).all()
        results = {"generic": release.dot(name, w, a), "hifi_ref": hr.dot(name, w, a, lane="numpy")}
        for variant in variants()[0]:
            results[variant] = release.dot(name, w, a, variant, generic=False)
        for kernel, result in results.items():
            assert any_order.holds(result).all(), (kernel, n, (any_order.error(result) / any_order.bound).max())
            # The scalar kernels of float formats add one by one, in binary64.
            assert known.holds(result).all(), (kernel, n, (known.error(result) / known.bound).max())


def lanes_of_four(name: str, w: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales of the weights, exact sums of four products, and scales of the activations, as SIMD kernels have them.

    float32[rows, terms] twice, float32[terms]; for formats with one scale a block of 32 and no min.
    """
    f = FORMATS[name]
    d, *_ = f.layout.unpack(w.reshape(len(w), -1, f.type_size))
    codes = hr.decode(name, w).astype(np.float64).reshape(*d.shape, 8, 4) / np.where(d == 0, 1, d)[..., None, None]
    da, qa = FORMATS["Q8_0"].layout.unpack(a.reshape(-1, 34))
    sums = (codes * qa.reshape(-1, 8, 4)).sum(axis=-1).astype(np.float32)
    return np.repeat(d, 8, axis=1), sums.reshape(len(w), -1), np.repeat(da, 8)


def add_pairwise(x: np.ndarray) -> np.ndarray:
    while x.shape[1] > 1:
        odd = x[:, -1:] if x.shape[1] % 2 else x[:, :0]
        x = np.concatenate([x[:, 0:-1:2] + x[:, 1::2], odd], axis=1)
    return x[:, 0]


def add_in_order(x: np.ndarray) -> np.ndarray:
    return np.add.accumulate(x, axis=1)[:, -1]


def add_fused(d: np.ndarray, x: np.ndarray) -> np.ndarray:
    """fma over the terms: the products of 24 bits are exact in binary64; what that rounds is far below the bound."""
    total = np.zeros(len(x), np.float32)
    for i in range(x.shape[1]):
        total = (d[:, i].astype(np.float64) * x[:, i] + total).astype(np.float32)
    return total


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q8_0", "IQ4_NL"])
@pytest.mark.parametrize("n", [256, 4096])
def test_any_order_with_or_without_fused_products_lies_within_the_bound(name: str, n: int) -> None:
    rng = np.random.default_rng(5)
    for w, a in (
        (rows_of(name, rng, 100, n), activations(name, rng, n)),
        (rows_of(name, rng, 100, n, "heavy tails"), activations(name, rng, n, "heavy tails")),
        cancelling(name, rng, 100, n),
    ):
        found = hr.dot_exact(name, w, a)
        dw, sums, da = lanes_of_four(name, w, a)
        terms = (dw * sums) * da
        ranked = np.sort(terms, axis=1)
        orders = {
            "forwards": add_in_order(terms),
            "backwards": add_in_order(terms[:, ::-1]),
            "ascending": add_in_order(ranked),
            "positive first": add_in_order(ranked[:, ::-1]),
            "pairwise": add_pairwise(terms),
            "fused": add_fused(dw * da, sums),
            "scales first": add_in_order((dw * da) * sums),
            "fused backwards": add_fused((dw * da)[:, ::-1], sums[:, ::-1]),
            "activations' scales last": add_in_order((da * sums) * dw),
        }
        for order, result in orders.items():
            assert found.holds(result).all(), (order, (found.error(result) / found.bound).max())


def test_the_worst_rounding_comes_close_to_the_bound() -> None:
    """After 2^23, n terms of 0.5 + 2^-24 are rounded up by almost a half each: a bound a tenth smaller is wrong."""
    n = 4096
    x = np.full((1, n), 0.5 + 2.0**-24, np.float32)
    x[0, 0] = 2.0**23
    found = hr.dot_exact("F32", x.view(np.uint8), np.ones(n, np.float32).view(np.uint8))
    result = add_in_order(x)
    assert found.holds(result).all()
    assert (found.error(result) / found.bound).max() > 0.9


def test_lanes_that_cancel_inside_a_block_still_count() -> None:
    """Sums of whole blocks may be 0 where a kernel's lanes are large: the bound must not be 0 there."""
    rng = np.random.default_rng(6)
    w = np.zeros((50, 64, 18), np.uint8)
    w[..., :2] = rng.uniform(0.5, 1, (50, 64, 1)).astype(np.float16).view(np.uint8)
    # Weights 0-3 are 7, weights 4-7 are -7, the others 0
    w[..., 2:6], w[..., 6:10], w[..., 10:] = 0x8F, 0x81, 0x88
    a = np.zeros((64, 34), np.uint8)
    a[:, :2] = rng.uniform(0.5, 1, (64, 1)).astype(np.float16).view(np.uint8)
    a[:, 2:] = 127
    w, a = w.reshape(50, -1), a.reshape(-1)
    found = hr.dot_exact("Q4_0", w, a)
    assert (found.value == 0).all() and (found.bound > 0).all()
    dw, sums, da = lanes_of_four("Q4_0", w, a)
    lanes = add_fused(dw * da, np.where(np.arange(sums.shape[1]) % 8 == 0, sums, 0))
    others = add_fused((dw * da)[:, ::-1], np.where(np.arange(sums.shape[1]) % 8 == 0, 0, sums)[:, ::-1])
    assert found.holds(lanes + others).all()
    assert (lanes + others != 0).any()


def test_weights_that_are_0_count_where_the_offset_is_taken_from_stored_sums() -> None:
    """Where all codes of Q6_K are 32 every weight is 0; but SIMD kernels subtract 32 * bsums in lanes of their own."""
    rng = np.random.default_rng(7)
    w = np.zeros((20, 16, 210), np.uint8)
    w[..., 128:192] = 0xAA
    w[..., 192:208] = rng.integers(-128, 128, (20, 16, 16)).astype(np.int8).view(np.uint8)
    w[..., 208:] = rng.uniform(0.5, 1, (20, 16, 1)).astype(np.float16).view(np.uint8)
    w, a = w.reshape(20, -1), activations("Q6_K", rng, 4096)
    assert (hr.decode("Q6_K", w) == 0).all()
    found = hr.dot_exact("Q6_K", w, a)
    assert (found.value == 0).all()
    for variant in variants()[0]:
        assert found.holds(release.dot("Q6_K", w, a, variant, generic=False)).all()


@each_dot
def test_flushed_subnormals_lie_within_the_bound(name: str) -> None:
    """Products of scales below 2^-126 may become 0, and so the whole share of their blocks."""
    rng = np.random.default_rng(8)
    w, a = rows_of(name, rng, 20, 512), activations(name, rng, 512, scale=1e-39)
    found = hr.dot_exact(name, w, a)
    assert found.holds(np.zeros(len(w), np.float32)).all()
    assert found.holds(release.dot(name, w, a)).all()


def test_where_float32_can_overflow_there_is_no_bound() -> None:
    large = np.array([[3e38, 3e38, -3e38]], np.float32)
    found = hr.dot_exact("F32", large.view(np.uint8), np.ones(3, np.float32).view(np.uint8))
    assert found.value[0] == np.float32(3e38) and np.isinf(found.bound[0])
    assert found.holds(np.array([np.inf], np.float32)).all() and not found.holds(np.array([np.nan], np.float32)).any()


def activations_of_one_code(name: str, n: int, code: int) -> np.ndarray:
    """Every activation has this code; scales of 1, and the sums that belong to them."""
    partner = FORMATS[FORMATS[name].dot_with]
    blocks = n // partner.block_size
    sums = {"s": np.full(blocks, 32.0 * code), "bsums": np.full((blocks, 16), 16 * code)}
    known = {"d": np.ones(blocks, np.float32), "qs": np.full((blocks, partner.block_size), code), **sums}
    known["s"] = np.float32(known["s"])
    return partner.layout.pack(**{key: known[key] for key in partner.layout.names}).reshape(-1)


@each_coded
def test_no_kernel_of_the_release_saturates_for_codes_that_encoders_write(name: str) -> None:
    f, n = FORMATS[name], 2048
    rng = np.random.default_rng(13)
    for fill in (None, 0x00, 0xFF, 0x0F, 0xF0, 0x77, 0x88, 0x7F, 0x81):
        w = any_codes(f, rng, 20 * n // f.block_size, fill).reshape(20, -1)
        for code in (127, -127):
            a = activations_of_one_code(name, n, code)
            found = hr.dot_exact(name, w, a)
            for variant in variants()[0]:
                assert found.holds(release.dot(name, w, a, variant, generic=False)).all(), (fill, code, variant)


# A fact about the release: x86 kernels that give the activations the signs of the weights cannot negate -128.
NEGATE_INT8 = "Q1_0 Q4_0 Q5_0 Q8_0 IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS MXFP4 NVFP4".split()


@each_coded
def test_kernels_that_negate_a_code_of_minus_128_fall_outside(name: str) -> None:
    if "haswell" not in variants()[0]:
        pytest.fail("this processor has no AVX2, so the claim about AVX2 kernels cannot be checked")
    f, n = FORMATS[name], 2048
    w = any_codes(f, np.random.default_rng(14), 20 * n // f.block_size).reshape(20, -1)
    a = activations_of_one_code(name, n, -128)
    found = hr.dot_exact(name, w, a)
    assert found.holds(release.dot(name, w, a)).all()
    inside = found.holds(release.dot(name, w, a, "haswell", generic=False))
    assert not inside.any() if name in NEGATE_INT8 else inside.all()


# WRONG CODES

_LOW = {1: range(8), 2: (0, 2, 4, 6), 4: (0, 4), 8: (0,)}
# Where codes (in IQ1, IQ2, IQ3: row numbers of a grid) have their lowest bit: the field, a number of bytes after which
# its structure repeats, how many of these hold codes, bits a code.
CODES = {
    **dict.fromkeys("Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL IQ4_XS MXFP4 NVFP4 Q4_K Q5_K".split(), ("qs", 1, 1, 4)),
    **dict.fromkeys("Q2_0 Q2_K Q3_K TQ2_0".split(), ("qs", 1, 1, 2)),
    **dict.fromkeys("Q8_0 IQ3_S IQ1_S IQ1_M".split(), ("qs", 1, 1, 8)),
    "Q6_K": ("ql", 1, 1, 4), "Q1_0": ("qs", 1, 1, 1), "IQ2_XXS": ("qs", 8, 4, 8), "IQ2_XS": ("qs", 2, 1, 8),
    "IQ2_S": ("qs", 64, 32, 8), "IQ3_XXS": ("qs", 96, 64, 8),
}  # fmt: skip


def with_a_wrong_code(f: Format, rng: Rng, w: np.ndarray) -> np.ndarray:
    """w with one code of each row changed by one."""
    blocks = w.reshape(len(w), -1, f.type_size).copy()
    rows, at = np.arange(len(w)), rng.integers(0, blocks.shape[1], len(w))
    if f.name == "TQ1_0":
        byte, place = rng.integers(0, 48, len(w)), 3 ** rng.integers(0, 5, len(w))
        number = np.minimum(blocks[rows, at, byte].astype(int) * 243 >> 8, 242)
        number += np.where(number // place % 3 == 2, -place, place)
        blocks[rows, at, byte] = (number * 256 + 242) // 243
        return blocks.reshape(w.shape)
    name, every, first, bits = CODES[f.name]
    size = next(field.size for field in f.layout.fields if field.name == name)
    byte = rng.integers(0, size // every, len(w)) * every + rng.integers(0, first, len(w))
    blocks[rows, at, f.layout.offset(name) + byte] ^= (1 << rng.choice(_LOW[bits], len(w))).astype(np.uint8)
    return blocks.reshape(w.shape)


def caught(name: str, rng: Rng, rows: int, n: int, additions: int | None) -> float:
    """The share of rows with one wrong code that the release's generic kernel puts outside the bound of the right row.

    Changes that do not change the true value, where the activation's code is 0, do not count.
    """
    w, a = rows_of(name, rng, rows, n), activations(name, rng, n)
    wrong = with_a_wrong_code(FORMATS[name], rng, w)
    right, other = hr.dot_exact(name, w, a, additions), hr.dot_exact(name, wrong, a)
    differs = (right.high != other.high) | (right.low != other.low)
    assert differs.mean() > 0.9
    return float((~right.holds(release.dot(name, wrong, a)))[differs].mean())


@each_coded
def test_one_wrong_code_in_256_falls_outside(name: str) -> None:
    rng = np.random.default_rng(9)
    shares = [caught(name, rng, 250, 256, None) for _ in range(8)]
    assert np.mean(shares) >= (0.98 if name == "Q8_0" else 0.99), shares


@each_coded
def test_one_wrong_code_in_512_falls_outside_where_the_kernel_is_known(name: str) -> None:
    rng = np.random.default_rng(10)
    shares = [caught(name, rng, 250, 512, height(name, 512)) for _ in range(8)]
    # One in 255, or in 64 with a scale of its own, is a small part of a row.
    assert np.mean(shares) >= (0.95 if name in ("Q8_0", "Q6_K") else 0.98), shares


# REFUSALS


def test_what_has_no_true_value_is_refused() -> None:
    rng = np.random.default_rng(11)
    w, a = rows_of("Q4_K", rng, 2, 512), activations("Q4_K", rng, 512)
    changed = a.copy()
    changed[-1] ^= 1
    with pytest.raises(ValueError, match="block 1 of a has bsums"):
        hr.dot_exact("Q4_K", w, changed)
    changed = w.copy()
    changed[1, 144:146] = np.array([np.inf], np.float16).view(np.uint8)
    with pytest.raises(ValueError, match=r"w\[1, \d+\] is"):
        hr.dot_exact("Q4_K", changed, a)
    changed = a.copy()
    changed[292:296] = np.array([np.nan], np.float32).view(np.uint8)
    with pytest.raises(ValueError, match="d of block 1 of a is nan"):
        hr.dot_exact("Q4_K", w, changed)
    with pytest.raises(ValueError, match="no format is called"):
        hr.dot_exact("Q4", w, a)
    with pytest.raises(ValueError, match="512 weights, but a holds 256"):
        hr.dot_exact("Q4_K", w, a[:292])
    with pytest.raises(ValueError, match="not whole blocks"):
        hr.dot_exact("Q4_K", w[:, 1:], a)
    with pytest.raises(ValueError, match="uint8 with 2 axes"):
        hr.dot_exact("Q4_K", w[0], a)
    with pytest.raises(ValueError, match="additions"):
        hr.dot_exact("Q4_K", w, a, additions=-1)
    with pytest.raises(NotImplementedError):
        hr.dot_exact("Q8_K", a[None], a)


@each_dot
def test_rows_of_no_length_and_no_rows(name: str) -> None:
    found = hr.dot_exact(name, np.zeros((3, 0), np.uint8), np.zeros(0, np.uint8))
    assert (found.value == 0).all() and found.holds(np.zeros(3, np.float32)).all()
    w, a = rows_of(name, np.random.default_rng(12), 0, 256), activations(name, np.random.default_rng(12), 256)
    assert hr.dot_exact(name, w, a).bound.shape == (0,)


def test_which_variants_were_judged() -> None:
    runs, cannot = variants()
    assert "x64" in runs
    warnings.warn(f"dot kernels judged: {', '.join(runs)}; not judged, this processor does not run them: "
                  f"{', '.join(cannot) or 'none'}", stacklevel=1)  # fmt: skip
