"""Every kernel of the release that this processor runs lies within the bound.

The last test warns which variants of the release were judged here, and which this processor cannot run.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.formats import FORMATS
from reference import release
from tests.dot_bound.helpers import (
    activations,
    any_codes,
    each_coded,
    each_dot,
    height,
    problems,
    rows_of,
    variants,
)


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


@each_dot
def test_flushed_subnormals_lie_within_the_bound(name: str) -> None:
    """Products of scales below 2^-126 may become 0, and so the whole share of their blocks."""
    rng = np.random.default_rng(8)
    w, a = rows_of(name, rng, 20, 512), activations(name, rng, 512, scale=1e-39)
    found = hr.dot_exact(name, w, a)
    assert found.holds(np.zeros(len(w), np.float32)).all()
    assert found.holds(release.dot(name, w, a)).all()


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


def test_which_variants_were_judged() -> None:
    runs, cannot = variants()
    assert "x64" in runs
    warnings.warn(f"dot kernels judged: {', '.join(runs)}; not judged, this processor does not run them: "
                  f"{', '.join(cannot) or 'none'}", stacklevel=1)  # fmt: skip
