"""What other builds write, by profile: golden vectors hold their blocks."""

from __future__ import annotations

from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.conform.cases import golden_suites, vectors_folder
from hifi_ref.formats import builds

PROFILE = "clang-arm64"


def test_the_builds_are_reproduced() -> None:
    """Every vector of which one writes other blocks than the strict profile, and a refusal where these are chance."""
    seen = {profile: Counter[bool]() for profile in builds.BUILDS}
    for suite in golden_suites(vectors_folder(), operations=("encode",)):
        name = suite.layout.name
        for case in suite.cases:
            x, importance = case.array("weights").reshape(case.rows, -1), case.given["importance"]
            # Builds that compute alike are asked once.
            written: dict[exact.Fusing | None, np.ndarray] = {}
            for profile, blocks in case.profiles.items():
                seen[profile][blocks is None] += 1
                build = builds.arithmetic(profile, name, importance is not None)
                if blocks is None:
                    with pytest.raises(ValueError, match="keeps chance codes where no scale helps, as with importance"):
                        hr.encode(name, x, importance, profile=profile)
                    continue
                if build not in written:
                    written[build] = hr.encode(name, x, importance, profile=profile).reshape(-1)
                assert np.array_equal(written[build], blocks), (profile, suite.name, case.id)
    assert seen == {
        "clang-arm64": Counter({False: 86}),
        "gcc-x86-fma": Counter({False: 184, True: 13}),
        "gcc-x86-fma-intel": Counter({False: 176, True: 13}),
    }


def test_an_unknown_profile_is_one_sentence() -> None:
    x = np.ones((1, 256), np.float32)
    with pytest.raises(
        ValueError, match="profile is 'fast', not one of strict, clang-arm64, gcc-x86-fma, gcc-x86-fma-intel"
    ):
        hr.encode("Q4_K", x, profile="fast")
    with pytest.raises(ValueError, match="profile clang-arm64 is not known for Q4_K_HIFI"):
        hr.encode("Q4_K_HIFI", x, profile=PROFILE)
    with pytest.raises(ValueError, match="profile gcc-x86-fma is not known for IQ1_S"):
        hr.encode("IQ1_S", x, np.ones(256, np.float32), profile="gcc-x86-fma")
    with pytest.raises(ValueError, match="lane='jax' computes strictly: profile clang-arm64 needs lane='numpy'"):
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
