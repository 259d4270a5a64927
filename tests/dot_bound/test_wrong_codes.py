"""How often a single wrong code falls outside the bound."""

from __future__ import annotations

import numpy as np

import hifi_ref as hr
from hifi_ref.formats import FORMATS, Format
from reference import release
from tests.dot_bound.helpers import (
    Rng,
    activations,
    each_coded,
    height,
    rows_of,
)

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
