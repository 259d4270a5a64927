"""`python -m tools.profile_dependent` asks the release's arm64 build for every encoding vector, and writes
golden/profile_dependent.json: the blocks that it writes otherwise, by id. Then `python -m golden.generate` marks them.

What it needs stands in tools/conformance.py. A vector that is new shows here first; run both until nothing changes.
"""

from __future__ import annotations

import json
import os

from hifi_ref.conform import judge
from hifi_ref.conform.command import Run, suites_of
from hifi_ref.conform.targets import open_targets
from hifi_ref.model_files.files import write_atomically
from tools.conformance import FIELD, QEMU, ROOT, fetch_arm64

OUT = ROOT / "golden" / "profile_dependent.json"
ABOUT = (
    "The blocks that the same release's arm64 build (npm @node-llama-cpp/linux-arm64 3.22.1, libggml-base.so, run "
    "under qemu-aarch64 with Debian's glibc) writes where they are others than those of the x86-64 build, by the "
    "test's id."
)


def main() -> None:
    os.chdir(ROOT)
    FIELD.mkdir(parents=True, exist_ok=True)
    fetch_arm64()
    target = f"exec:{QEMU} {FIELD}/ggml_driver {FIELD}/linux-arm64 base armv8.0_1"
    run = Run(target, operations=("encode",), timeout=300)
    (one,), _ = open_targets(run.target, run.timeout)
    blocks = {
        verdict.case.id: verdict.answer.tobytes().hex()
        for suite in suites_of(run)
        for verdict in judge.judge_suite(one.target, suite).verdicts
        if verdict.outcome in (judge.ACCEPTABLE, judge.DIFFERS) and verdict.case.result != "undefined-in-c"
    }
    one.target.close()
    write_atomically(OUT, json.dumps({"about": ABOUT, "blocks": dict(sorted(blocks.items()))}, indent=1) + "\n")


if __name__ == "__main__":
    main()
