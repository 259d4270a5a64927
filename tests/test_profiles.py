"""What other builds write, by profile: golden vectors hold their blocks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hifi_ref as hr
from hifi_ref.conform.cases import golden_suites, vectors_folder
from hifi_ref.formats import FORMATS, builds

PROFILE = "clang-arm64"
CHANCE = (
    "keeps chance codes where no scale helps, as with importance 0|keeps a chance shift where 32 weights are nearly 0|"
    "ends where no split helps, as with importance 0"
)


def test_the_builds_are_reproduced() -> None:
    """Every vector of which one writes other blocks than the strict profile, and a refusal where these are chance."""
    seen = {profile: Counter[bool]() for profile in builds.BUILDS}
    for suite in golden_suites(vectors_folder(), operations=("encode",)):
        f = FORMATS[suite.layout.name]
        # Builds that compute alike are asked once, and for all rows in one, but where the rest of a row counts.
        questions: dict[Any, tuple[str, dict[str, tuple[np.ndarray, ...]]]] = {}
        for case in suite.cases:
            x, importance = case.array("weights"), case.given["importance"]
            given = (x,) if importance is None else (x, np.tile(importance, case.rows))
            for profile, blocks in case.profiles.items():
                seen[profile][blocks is None] += 1
                if blocks is None:
                    with pytest.raises(ValueError, match=CHANCE):
                        hr.encode(f.name, x.reshape(case.rows, -1), importance, profile=profile)
                    continue
                build = builds.arithmetic(profile, f.name, importance is not None)
                _, cases = questions.setdefault((build, len(given), f.row_scoped and case.id), (profile, {}))
                expected, *_ = cases.setdefault(case.id, (blocks, *given))
                assert np.array_equal(expected, blocks), (profile, f.name, case.id)
        for profile, cases in questions.values():
            blocks, *given = (np.concatenate(part) for part in zip(*cases.values(), strict=True))
            observed = hr.encode(f.name, *given, profile=profile).reshape(-1)
            assert np.array_equal(observed, blocks), (profile, f.name, list(cases))
    assert seen == {
        "clang-arm64": Counter({False: 86}),
        "gcc-x86-fma": Counter({False: 204, True: 26}),
        "gcc-x86-fma-intel": Counter({False: 197, True: 26}),
    }


@pytest.mark.parametrize("profile", ["gcc-x86-fma", "gcc-x86-fma-intel"])
def test_what_is_left_to_chance_in_iq1_s(profile: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    w = np.ones(512, np.float32)
    x[0, :256] = 0
    assert not hr.encode("IQ1_S", x, w, profile=profile)[0, :50].any()
    x[0, 256:288] = 1e-13
    with pytest.raises(ValueError, match="keeps a chance shift where 32 weights are nearly 0"):
        hr.encode("IQ1_S", x, w, profile=profile)
    x[0, 256:288], w[256:288] = 1, 0
    with pytest.raises(ValueError, match="ends where no split helps, as with importance 0"):
        hr.encode("IQ1_S", x, w, profile=profile)


def test_an_unknown_profile_is_one_sentence() -> None:
    x = np.ones((1, 256), np.float32)
    with pytest.raises(
        ValueError, match="profile is 'fast', not one of strict, clang-arm64, gcc-x86-fma, gcc-x86-fma-intel"
    ):
        hr.encode("Q4_K", x, profile="fast")
    with pytest.raises(ValueError, match="profile clang-arm64 is not known for Q4_K_HIFI"):
        hr.encode("Q4_K_HIFI", x, profile=PROFILE)
    with pytest.raises(ValueError, match="profile gcc-x86-fma is not known for IQ1_M"):
        hr.encode("IQ1_M", x, profile="gcc-x86-fma")
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
