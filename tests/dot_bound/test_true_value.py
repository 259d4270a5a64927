"""The true dot product against fractions, and what has none."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.dot_bound import dot_fractions
from hifi_ref.dot_bound.codes import codes_and_offset
from hifi_ref.formats import FORMATS
from tests.dot_bound.helpers import (
    FLOATS,
    activations,
    each_coded,
    each_dot,
    rows_of,
)


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
