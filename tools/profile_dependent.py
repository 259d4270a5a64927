"""`python -m tools.profile_dependent [PROFILE ...]` asks the build of each profile for every encoding vector.

It writes golden/profile_dependent.json: the blocks that a build writes otherwise, by id, and null where its source
leaves them to chance. Then `python -m golden.generate` marks them.

What it needs stands in tools/conformance.py and tools/built_here.py.
A vector that is new shows here first; run both until nothing changes.
"""

from __future__ import annotations

import json
import os
import sys

import hifi_ref as hr
from hifi_ref import exact
from hifi_ref.conform import judge
from hifi_ref.conform.cases import Case
from hifi_ref.conform.command import Run, suites_of
from hifi_ref.conform.targets import open_targets
from hifi_ref.formats import builds
from hifi_ref.model_files.files import write_atomically
from tools.conformance import FIELD, QEMU, ROOT, fetch_arm64
from tools.profiles import ON_X86

OUT = ROOT / "golden" / "profile_dependent.json"
ABOUT = (
    "By profile and by the test's id: the blocks that a profile's build writes where they are others than those of the "
    "pinned release for x86-64, or null where they depend on more than what is given. clang-arm64: the same release "
    "for arm64 (npm @node-llama-cpp/linux-arm64 3.22.1, libggml-base.so, run under qemu-aarch64 with Debian's glibc). "
    "gcc-x86-fma: b3995 for x86-64 (npm @node-llama-cpp/linux-x64 3.2.0, libggml.so). gcc-x86-fma-intel: the source in "
    "llama-cpp-python 0.3.1 of PyPI, compiled by GCC 11.3 with -march=haswell (libggml.so)."
)


def target_of(profile: str) -> str:
    """The build as conform is to ask it, fetched. Raises RuntimeError."""
    if profile in ON_X86:
        return f"ggml:{ON_X86[profile]()}#base"
    FIELD.mkdir(parents=True, exist_ok=True)
    fetch_arm64()
    return f"exec:{QEMU} {FIELD}/ggml_driver {FIELD}/linux-arm64 base armv8.0_1"


def is_known(name: str, case: Case, profile: str) -> bool:
    """Whether the build's blocks follow from what is given, by its source."""
    x = case.array("weights").reshape(case.rows, -1)
    try:
        hr.encode(name, x, case.given["importance"], profile=profile)
    except exact.UnknownBlocks:
        return False
    return True


def written_otherwise(profile: str) -> dict[str, str | None]:
    """Raises RuntimeError where the build gives no answer: of such a vector nothing would be known."""
    run = Run(target_of(profile), operations=("encode",), formats=builds.known_formats(profile), timeout=300)
    (one,), _ = open_targets(run.target, run.timeout)
    found: dict[str, str | None] = {}
    for suite in suites_of(run):
        for verdict in judge.judge_suite(one.target, suite).verdicts:
            if verdict.case.result == "undefined-in-c":
                continue
            if not is_known(suite.layout.name, verdict.case, profile):
                found[verdict.case.id] = None
            elif verdict.outcome == judge.NO_ANSWER:
                raise RuntimeError(f"{profile}: {suite.name} {verdict.case.id}: {verdict.detail}")
            elif verdict.outcome in (judge.ACCEPTABLE, judge.DIFFERS):
                found[verdict.case.id] = verdict.answer.tobytes().hex()
    one.target.close()
    return dict(sorted(found.items()))


def main(profiles: list[str]) -> None:
    os.chdir(ROOT)
    known = json.loads(OUT.read_text())["profiles"]
    found = {profile: written_otherwise(profile) for profile in profiles or builds.BUILDS}
    write_atomically(OUT, json.dumps({"about": ABOUT, "profiles": known | found}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
