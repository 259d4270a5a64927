"""What other builds of the release write, by profile: golden vectors hold the blocks of the one for arm64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.conform.cases import golden_suites, vectors_folder
from hifi_ref.formats import builds

PROFILE = "clang-arm64"


def test_the_arm64_build_is_reproduced() -> None:
    """Every vector of which that build writes other blocks than the strict profile."""
    seen = 0
    for suite in golden_suites(vectors_folder()):
        cases = [case for case in suite.cases if suite.operation == "encode" and case.arm64 is not None]
        for case in cases:
            x = case.array("weights").reshape(case.rows, -1)
            found = hr.encode(suite.layout.name, x, case.given["importance"], profile=PROFILE)
            assert case.arm64 is not None
            assert np.array_equal(found.reshape(-1), case.arm64.reshape(-1)), (suite.name, case.id)
            seen += 1
    assert seen >= 80


def test_an_unknown_profile_is_one_sentence() -> None:
    x = np.ones((1, 256), np.float32)
    with pytest.raises(ValueError, match="profile is 'fast', not one of strict, clang-arm64"):
        hr.encode("Q4_K", x, profile="fast")
    with pytest.raises(ValueError, match="profile clang-arm64 is not known for Q4_K_HIFI"):
        hr.encode("Q4_K_HIFI", x, profile=PROFILE)
    with pytest.raises(ValueError, match="the JAX lane computes strictly: profile clang-arm64 needs lane='numpy'"):
        hr.encode("Q4_K", x, profile=PROFILE, lane="jax")


def test_a_former_name_is_taken_and_said_to_be_one() -> None:
    x = np.random.default_rng(2).standard_normal((2, 256)).astype(np.float32)
    with pytest.warns(UserWarning, match="profile gcc-arm64 means clang-arm64, as which"):
        found = hr.encode("Q2_K", x, profile="gcc-arm64")
    assert np.array_equal(found, hr.encode("Q2_K", x, profile=PROFILE))


def test_jax_arrays_come_back_as_such() -> None:
    x = np.random.default_rng(0).standard_normal((2, 256)).astype(np.float32)
    found = hr.encode("Q2_K", jnp.asarray(x), profile=PROFILE)
    assert not isinstance(found, np.ndarray)
    assert np.array_equal(np.asarray(found), hr.encode("Q2_K", x, profile=PROFILE))


def test_strict_is_the_default() -> None:
    x = np.random.default_rng(1).standard_normal((4, 512)).astype(np.float32)
    assert np.array_equal(hr.encode("Q5_K", x), hr.encode("Q5_K", x, profile=builds.STRICT))
