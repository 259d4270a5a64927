"""The builds whose encoders fuse multiply-adds, and which products each of them rounds nevertheless.

A **profile** is named after compiler and processor. "strict" rounds every product: the x86-64 release since b4234. The
others take a product unrounded into an addition, but at the **sites** listed here; a site is the name that the text of
the formats and searches gives to a product that is added (see exact/profiles.py). What is listed was read from the
machine code of the build named, and proven on blocks (docs/profiles.md). Compilers unroll and vectorise a search
differently for each format that uses it, so that sites belong to formats, with importance or without.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from hifi_ref import exact
from hifi_ref.formats import LLAMA_CPP

STRICT = "strict"


class Build(NamedTuple):
    """``says`` what machine it stands for; ``reference`` what it was proven against; ``unknown`` formats are not.

    ``rounded`` gives the sites that are rounded, of a format, with importance or without; ``arm64`` and ``unguarded``
    are those of exact.Fusing.
    """

    says: str
    reference: str
    rounded: Callable[[str, bool], frozenset[str]]
    arm64: bool = False
    unguarded: bool = False
    unknown: tuple[str, ...] = ()


def _clang_arm64(name: str, importance: bool) -> frozenset[str]:
    """Clang fuses within one expression. Loops that it vectorises multiply vectors, and add their elements in order."""
    sites = ["nearest integer", "shifted", "mean square", "trial steps"]
    if name in ("Q4_0", "Q5_0", "Q3_K", "Q6_K"):
        sites += ["first w x l", "first w l l"]
    if name in ("Q4_0", "Q5_0"):
        sites += ["trial w x l", "trial w l l"]
    sites += ["sum of w l", "sum of w l l", "sum of w l x"]
    if name != "Q2_K":
        sites += ["first error"]
    if name in ("Q4_K", "Q5_K") and not importance:
        sites.remove("mean square")
    if name in ("Q2_K", "Q4_K", "Q5_K", "IQ2_XXS"):
        sites += ["first step error", "trial step error", "start w x l", "start w l l"]
    if name in ("IQ2_XXS", "IQ3_XXS", "IQ3_S"):
        sites += ["trial w x q", "trial w q q", "again w x q", "again w q q"]
    return frozenset(sites)


def _gcc_x86_fma(name: str, importance: bool) -> frozenset[str]:
    """GCC fuses across statements, of two products the one that is ready last. Vectorised loops are as Clang's."""
    sites = ["mean square", "sum of w l", "scale part", "trial w x l", "trial w l l"]
    if name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K"):
        sites += ["sum of w x"]
    if name == "IQ2_XXS":
        sites += ["trial step error"]
    if name == "IQ2_S" and not importance:
        sites += ["spread", "spread, left"]
    if name == "IQ1_S":
        sites += ["running w x", "lowest part"]
    return frozenset(sites)


def _gcc_x86_fma_intel(name: str, importance: bool) -> frozenset[str]:
    """Only tuning for AMD's Zen keeps a product out of a chain of additions."""
    return _gcc_x86_fma(name, importance) - {"sum of w x", "running w x"}


_NOT_IN_2024 = ("IQ1_M", "MXFP4", "NVFP4", "Q1_0", "Q2_0")
BUILDS: Mapping[str, Build] = MappingProxyType(
    {
        "clang-arm64": Build(
            "arm64, compiled by Clang", "npm @node-llama-cpp/linux-arm64 3.22.1 (v0.5.0, Clang 21)", _clang_arm64, True
        ),
        "gcc-x86-fma": Build(
            "x86-64 with fused multiply-adds before b4234, compiled by GCC for AMD's Zen",
            "npm @node-llama-cpp/linux-x64 3.2.0 (b3995, GCC 11)",
            _gcc_x86_fma,
            unguarded=True,
            unknown=_NOT_IN_2024,
        ),
        "gcc-x86-fma-intel": Build(
            "x86-64 with fused multiply-adds before b4234, compiled by GCC for Intel or for any x86-64",
            "llama-cpp-python 0.3.1 of PyPI (September 2024), built with GCC 11.3 and -march=haswell",
            _gcc_x86_fma_intel,
            unguarded=True,
            unknown=_NOT_IN_2024,
        ),
    }
)
PROFILES = (STRICT, *BUILDS)
# What the arm64 release was taken for until its libraries were read.
FORMER_NAMES = {"gcc-arm64": "clang-arm64"}


def known_formats(profile: str) -> tuple[str, ...]:
    """The formats whose blocks a profile's build is known to write."""
    known = (name for name, f in LLAMA_CPP.items() if f.encode is not None)
    return tuple(name for name in known if profile == STRICT or name not in BUILDS[profile].unknown)


def told_apart(name: str, importance: bool) -> tuple[str, ...]:
    """The builds whose blocks of a format are known; those that compute alike as one, joined by "or"."""
    alike: dict[exact.Fusing | None, list[str]] = {}
    for profile in BUILDS:
        if name in known_formats(profile):
            alike.setdefault(arithmetic(profile, name, importance), []).append(profile)
    return tuple(" or ".join(profiles) for profiles in alike.values())


def arithmetic(profile: str, name: str, importance: bool) -> exact.Fusing | None:
    """How a profile's build computes the blocks of a format; None for the strict one. Raises ValueError."""
    if profile == STRICT:
        return None
    if profile in FORMER_NAMES:
        former, profile = profile, FORMER_NAMES[profile]
        warnings.warn(f"profile {former} means {profile}, as which the arm64 release was compiled", stacklevel=3)
    if profile not in BUILDS:
        raise ValueError(f"profile is {profile!r}, not one of {', '.join(PROFILES)}")
    build = BUILDS[profile]
    if name not in known_formats(profile):
        raise ValueError(f"profile {profile} is not known for {name}")
    return exact.Fusing(build.rounded(name, importance), build.arm64, build.unguarded)
