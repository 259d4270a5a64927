"""Products that are added unrounded in the JAX lane: each sum is right, or marked; and blocks are the definition's."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from hifi_ref import exact
from hifi_ref.exact import profiles, traced_products
from hifi_ref.formats import FORMATS, builds
from hifi_ref.lanes import numpy_lane
from hifi_ref.lanes.jax_lane import encode_in_pieces, encoding
from hifi_ref.lanes.jax_lane.compiling import CPU_OPTIONS
from tests import compiled_builds

LOOSE = exact.Fusing(frozenset())


def fused(*operands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def run(*operands: Any) -> tuple[Any, Any]:
        with exact.watching() as marks:
            return traced_products.fused(*operands), marks[0]

    return jax.device_get(jax.jit(run, compiler_options=CPU_OPTIONS)(*operands))


def test_a_fused_sum_is_right_or_marked() -> None:
    """Nearly cancelling sums, ties, what lies beside a tie by less than binary64 sees, faint and huge numbers."""
    rng = np.random.default_rng(3)
    a, b, c = rng.standard_normal((3, 4096)).astype(np.float32)
    c[:512] = -(a[:512] * b[:512])
    a[512:1024] = np.float32(1 + 2.0**-23) * c[512:1024] * np.float32(2.0**-24)
    b[512:1024] = 1
    # Ties, which are exact in binary64 and so need no mark
    a[1024:1536], b[1024:1536], c[1024:1536] = rng.integers(-4096, 4096, (3, 512)) * [[1], [1], [2.0**12]]
    a[1536:2048] *= np.float32(1e-38)
    a[2048:2560], c[2048:2560] = a[2048:2560] * np.float32(1e-30), 0
    b[2048:2560] *= np.float32(1e-10)
    a[2560:3000] *= np.float32(1e38)
    with np.errstate(all="ignore"):
        expected = profiles.fused(a, b, c)
    found, marked = fused(a, b, c)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    assert (same | marked).all() and not marked[:1536].any() and marked[2048:2560].all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_beside_a_tie_of_binary64_it_is_marked(sign: int) -> None:
    """(1 + e)(1 - e) is 1 less e^2, which binary64 loses beside 1 + e; c is odd, and a tie would round away from it."""
    e = np.float32(2.0**-23)
    a, b, c = (np.full(8, v, np.float32) for v in (sign * (1 + e) * np.float32(2.0**-24), 1 - e, 1 + e))
    found, marked = fused(a, b, c)
    assert marked.all() and (sign < 0 or (found != profiles.fused(a, b, c)).all())


def test_all_else_takes_it_rounded() -> None:
    a = np.float32([1 + 2.0**-12, 3])

    def run(a: Any) -> Any:
        with exact.fusing(LOOSE):
            p = exact.mul(a, a)
            rounded = exact.rounded(p)
            return [p + a, a - p, -p + a, p[0] + a[0], p.reshape(2, 1)[:, 0] - a], [
                abs(p) == abs(rounded), p == rounded, ~(p < rounded), p * a == rounded * a,
                exact.sqrt(p) == exact.sqrt(rounded), exact.div(p, a) == exact.div(rounded, a),
                exact.nearest_int(p) == exact.nearest_int(rounded),
            ]  # fmt: skip

    sums, equal = jax.device_get(jax.jit(run)(a))
    fma = profiles.fused
    expected = [fma(a, a, a), fma(-a, a, a), fma(-a, a, a), fma(a, a, a)[0], fma(a, a, -a)]
    assert all(np.array_equal(one, other) for one, other in zip(sums, expected, strict=True))
    assert all(np.all(one) for one in equal)


LONG = [("Q4_K", "gcc-x86-fma"), ("IQ4_XS", "clang-arm64"), ("IQ2_XXS", "gcc-x86-fma"), ("IQ1_M", "clang-arm64")]


@pytest.mark.parametrize(("name", "profile"), LONG)
def test_no_product_is_left_to_the_compiler(name: str, profile: str) -> None:
    assert compiled_builds.loose(FORMATS[name], profile) == []


@pytest.mark.parametrize(
    ("name", "profile"), [("Q2_K", "gcc-x86-fma"), ("Q6_K", "clang-arm64"), ("IQ3_S", "gcc-x86-fma")]
)
def test_the_compiled_text_is_the_definition(name: str, profile: str) -> None:
    """On a few of the hard inputs; `python -m tests.compiled_builds` has all, and all formats."""
    families = ("heavy tails", "near ties", "ties", "real", "mixed scales", "edge of subnormal", "overflow")
    found = compiled_builds.counted(FORMATS[name], builds.arithmetic(profile, name, False), False, 4, families)
    assert found.differing == 0 and 0 < found.marked < found.blocks


def test_usual_weights_are_not_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    build = builds.arithmetic("clang-arm64", "Q6_K", False)
    x = (np.random.default_rng(1).standard_t(5, (32, 256)) * 0.02).astype(np.float16).astype(np.float32)
    monkeypatch.setattr(encoding, "BUILT_PIECE", 1 << 13)
    expected = numpy_lane.encode(FORMATS["Q6_K"], x, None, build).reshape(32, -1)
    monkeypatch.setattr(numpy_lane, "encode", None)
    assert np.array_equal(encode_in_pieces(FORMATS["Q6_K"], x, None, (32, 210), "cpu", build), expected)
